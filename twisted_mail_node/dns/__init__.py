"""Typed DNS answers by a caching stub resolver, and the mail exchangers of a domain."""
