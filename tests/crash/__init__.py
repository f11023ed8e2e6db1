"""Tests that kill the process: what was promised is there afterwards."""
