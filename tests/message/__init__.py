"""What travels: tests of addresses, envelopes, header fields, trace fields and DSNs."""
