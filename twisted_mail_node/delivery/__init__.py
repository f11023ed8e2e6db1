"""Handing it over: the final delivery into a mailbox (the MDA of RFC 5598)."""
