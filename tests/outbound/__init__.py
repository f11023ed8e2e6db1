"""Tests of passing mail on: ``twisted_mail_node.outbound``."""
