"""Tests of the wire: ``twisted_mail_node.smtp``."""
