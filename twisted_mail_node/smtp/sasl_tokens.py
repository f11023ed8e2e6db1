"""OAUTHBEARER (RFC 7628) and its forerunner XOAUTH2: the client shows a bearer token that somebody else made for it."""

from __future__ import annotations

import re

from twisted_mail_node.smtp.sasl import Challenge, Exchange, MalformedError, TokenLogin, unescaped, words_of

#: What a client hears whose token is not good (RFC 7628 section 3.2.2); then it says one octet, and gets its 535.
INVALID_TOKEN = b'{"status":"invalid_token"}'
#: The same for XOAUTH2, as its clients know it.
UNAUTHORIZED = b'{"status":"401","schemes":"bearer"}'

# RFC 7628 section 3.1; the header is that of GS2 without channel binding (RFC 5801 section 4).
_HEADER = re.compile(rb"[ny],(?:a=([^,\0\x01]+))?,")
_PAIR = re.compile(rb"([A-Za-z]+)=([\x20-\x7e\t\r\n]*)")
# RFC 6750 section 2.1; the scheme's case does not count.
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")


def oauthbearer(initial: bytes | None) -> Exchange:
    """RFC 7628 section 3.1."""
    octets: bytes = (yield Challenge()) if initial is None else initial
    header, _, rest = octets.partition(b"\x01")
    match = _HEADER.fullmatch(header)
    if match is None:
        raise MalformedError("OAUTHBEARER begins with n,a=name, and then ^A, without channel binding")
    name = words_of(unescaped(match[1]), "name") if match[1] else ""
    return (yield from _show(name, _pairs(rest).get(b"auth", b""), INVALID_TOKEN))


def xoauth2(initial: bytes | None) -> Exchange:
    """``user=name ^A auth=Bearer token ^A ^A``."""
    octets: bytes = (yield Challenge()) if initial is None else initial
    header, _, rest = octets.partition(b"\x01")
    if not header.startswith(b"user="):
        raise MalformedError("XOAUTH2 begins with user=name and ^A")
    name = words_of(header.removeprefix(b"user="), "name")
    return (yield from _show(name, _pairs(rest).get(b"auth", b""), UNAUTHORIZED))


def _show(name: str, auth: bytes, failure: bytes) -> Exchange:
    """Log in with the token. A client without one only wants to hear what would do (RFC 7628 section 4.3)."""
    if auth:
        match = _BEARER.fullmatch(auth)
        if match is None:
            raise MalformedError("auth= holds Bearer and a token")
        submitter = yield TokenLogin(name, match[1].decode("ascii"))
        if submitter is not None:
            return submitter
    yield Challenge(failure)  # whatever the client answers, it has not signed in (section 3.2.3)
    return None


def _pairs(octets: bytes) -> dict[bytes, bytes]:
    """The key/value pairs behind the header: each ends in ^A, and one more ^A ends them all."""
    if not octets.endswith(b"\x01"):
        raise MalformedError("Pairs such as auth=Bearer token end in ^A, and the last one is followed by one more ^A")
    pairs: dict[bytes, bytes] = {}
    for pair in octets[:-1].split(b"\x01")[:-1]:
        match = _PAIR.fullmatch(pair)
        if match is None or match[1] in pairs:
            raise MalformedError("Between the ^A stand pairs such as auth=Bearer token, each key once")
        pairs[match[1]] = match[2]
    if octets[:-1] and not octets[:-1].endswith(b"\x01"):
        raise MalformedError("The last pair is followed by two ^A")
    return pairs
