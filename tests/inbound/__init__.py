"""Tests of receiving: connections, transactions, content, and the receiver that other tests use too."""
