"""When a mail is tried: the outgoing queue, its schedule and its destinations."""
