"""The wire: octets in, events out; replies in, octets out (RFC 5321). Imports no Twisted."""
