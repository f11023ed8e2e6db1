"""Tests of the network's side: limits and transports."""
