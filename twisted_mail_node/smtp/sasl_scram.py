"""SCRAM (RFC 5802, RFC 7677), the server's side: the client proves that it knows the password and never says it.

With ``-PLUS`` the proof is bound to the TLS session (``tls-exporter``, RFC 9266): who stands between client and server
with a certificate of their own cannot pass it on.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from secrets import token_urlsafe
from typing import TYPE_CHECKING, NamedTuple

from twisted_mail_node.smtp.sasl import (
    Challenge,
    Exchange,
    MalformedError,
    ScramKeys,
    ScramLogin,
    check_identity,
    from_base64,
    unescaped,
    words_of,
)
from twisted_mail_node.smtp.scram import HASH_SIZES

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import ITlsSession

#: Octets of a message of the client: two names, two nonces and a binding are much less.
MESSAGE_MAX = 4096
BINDING = b"tls-exporter"
#: Octets of randomness in our half of the nonce.
NONCE_SIZE = 18

# RFC 5802 section 7. A value has no comma; a nonce is printable.
_HEADER = re.compile(rb"(?:(n|y)|p=([A-Za-z0-9.-]{1,64})),(?:a=([^,\0]+))?,")
_FIRST = re.compile(rb"n=([^,\0]+),r=([\x21-\x2b\x2d-\x7e]{1,256})(?:,[A-Za-z]=[^,\0]+)*")
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)")


class _First(NamedTuple):
    """The client's first message: its header, what follows it, and what that says."""

    header: bytes
    bare: bytes
    name: str
    nonce: bytes
    bound: bool


def make_nonce() -> bytes:
    """Our half of a nonce."""
    return token_urlsafe(NONCE_SIZE).encode()


def scram(
    initial: bytes | None,
    tls: ITlsSession | None,
    hash_name: str,
    *,
    plus: bool,
    plus_offered: bool,
    nonce: Callable[[], bytes] = make_nonce,
) -> Exchange:
    """RFC 5802 section 5.

    :param hash_name: ``SHA-256`` or ``SHA-1``.
    :param plus: the mechanism was said with ``-PLUS``.
    :param plus_offered: so we offered it; a client that thinks otherwise was lied to.
    :param nonce: makes our half of the nonce.
    """
    octets: bytes = (yield Challenge()) if initial is None else initial
    first = _first(octets, plus=plus, plus_offered=plus_offered)
    salt, iterations = yield ScramKeys(first.name, hash_name)
    together = first.nonce + nonce()
    server_first = b"r=%b,s=%b,i=%d" % (together, b64encode(salt), iterations)
    final: bytes = yield Challenge(server_first)
    binding = _binding(tls) if first.bound else b""
    without_proof, proof = _final(final, first.header + binding, together, hash_name)
    message = b",".join((first.bare, server_first, without_proof))
    login = ScramLogin(first.name, hash_name, message, proof, [])
    submitter = yield login
    if submitter is None:
        return None
    # The server's last words are a challenge, for SMTP's 235 cannot carry them (RFC 4954 section 4). Only when the
    # client has seen that they are right, and answered, has it signed in.
    if (yield Challenge(b"v=" + b64encode(login.signed[-1]))):
        raise MalformedError("After the server's signature comes an empty response")
    return submitter


def _first(octets: bytes, *, plus: bool, plus_offered: bool) -> _First:
    """The client's first message (RFC 5802 section 7)."""
    header = _HEADER.match(octets) if len(octets) <= MESSAGE_MAX else None
    if header is None:
        raise MalformedError("The first message of SCRAM begins with n, y or p=, and is not too long")
    flag, bound, identity = header.groups()
    if flag == b"y" and plus_offered:
        raise MalformedError(  # section 6
            "Channel binding is offered, but the client did not see it: somebody may stand in between"
        )
    if plus != (bound is not None):
        raise MalformedError("Channel binding (p=) goes with the mechanisms that end in -PLUS, and with no other")
    if plus and bound != BINDING:
        raise MalformedError("The only channel binding here is tls-exporter")
    bare = octets[header.end() :]
    if bare.startswith(b"m="):
        raise MalformedError("No mandatory extension of SCRAM is known here")  # section 5.1
    match = _FIRST.fullmatch(bare)
    if match is None:
        raise MalformedError("The first message of SCRAM holds n= with a name and r= with a nonce")
    name = words_of(unescaped(match[1]), "name")
    check_identity(unescaped(identity or b""), name)
    return _First(header[0], bare, name, match[2], plus)


def _binding(tls: ITlsSession | None) -> bytes:
    binding = None if tls is None else tls.channel_binding()
    if binding is None:
        raise MalformedError("This TLS session has no channel binding; sign in without -PLUS")
    return binding


def _final(octets: bytes, bound: bytes, nonce: bytes, hash_name: str) -> tuple[bytes, bytes]:
    """The client's final message without its proof, and the proof (RFC 5802 section 7)."""
    match = _FINAL.fullmatch(octets) if len(octets) <= MESSAGE_MAX else None
    if match is None:
        raise MalformedError("The final message of SCRAM holds c=, r= and, at its end, p=")
    without_proof, binding, said, proof = match.groups()
    if said != nonce:
        raise MalformedError("The nonce is not the one of this exchange")
    if _decoded(binding) != bound:
        raise MalformedError("The channel binding is not that of this TLS session: somebody may stand in between")
    decoded = _decoded(proof)
    if len(decoded) != HASH_SIZES[hash_name]:
        raise MalformedError("The proof has not the length of the hash")
    return without_proof, decoded


def _decoded(octets: bytes) -> bytes:
    decoded = from_base64(octets)
    if decoded is None:
        raise MalformedError("A value of SCRAM is not base64")
    return decoded
