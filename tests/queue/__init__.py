"""Tests of the queue: attempts, destinations, the schedule and what an operator does."""
