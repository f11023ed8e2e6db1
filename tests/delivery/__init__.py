"""Tests of the delivery into mailboxes."""
