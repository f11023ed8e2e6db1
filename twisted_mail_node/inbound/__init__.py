"""Receiving: one coroutine for each connection leads an SMTP session from its greeting to its end."""
