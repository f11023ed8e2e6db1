"""Tests of what mail of local domains is signed with."""
