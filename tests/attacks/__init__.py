"""Attacks the node must survive; each test is the attack, and what must hold."""
