"""Tests of what the node keeps over restarts."""
