"""Tests of twisted_mail_node.dns."""
