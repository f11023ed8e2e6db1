"""Tests of the spool: its values, its statements, its files and its group commit."""
