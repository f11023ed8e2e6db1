"""What we promised to keep: the durable spool and its group commit."""
