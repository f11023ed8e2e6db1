"""What travels: addresses, the envelope, header fields, delivery statuses. Imports no Twisted."""
