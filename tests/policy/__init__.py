"""Tests of what we accept: the chain of policies and those that ship with the node."""
