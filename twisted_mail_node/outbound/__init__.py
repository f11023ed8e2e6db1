"""Passing it on: the relay manager and its SMTP client connections."""
