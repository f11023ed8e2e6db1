"""Tests of the directory: domains, accounts, aliases, and the names of mailboxes."""
