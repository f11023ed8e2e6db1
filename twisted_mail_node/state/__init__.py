"""What the node learns about the world and keeps over restarts: one small database beside the spool."""
