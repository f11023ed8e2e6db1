"""SASL (RFC 4422) as SMTP carries it (RFC 4954), without a network: the client's side of each mechanism.

A mechanism is a generator. It yields a ``Response`` to send (the first one with the AUTH command), and is sent the
server's challenge; or it yields ``Salting``, and is sent the salted password, which is slow to make: make it in a
thread. ``WrongServer`` is raised when the server must not be believed. ``outbound/signing_in.py`` leads them.
No value here shows a password when it is printed (attack T40).
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Generator
from typing import NamedTuple

from twisted_mail_node.smtp.sasl import from_base64
from twisted_mail_node.smtp.sasl_scram import BINDING, MESSAGE_MAX, make_nonce
from twisted_mail_node.smtp.scram import client_proof, prepared

#: RFC 7677 section 4 and RFC 5802 section 5.1 want 4096 at least; who asks for less wants to guess the password.
ITERATIONS_MIN = 4096
#: More would keep a thread busy for seconds.
ITERATIONS_MAX = 2_000_000
#: Octets of an AUTH command with its CRLF (RFC 4954 section 4); an initial response that does not fit goes by itself.
COMMAND_MAX = 512

# RFC 5802 section 7.
_FIRST = re.compile(
    rb"r=([\x21-\x2b\x2d-\x7e]{1,1024}),s=([A-Za-z0-9+/=]{1,1024}),i=([1-9]\d{0,8})(?:,[A-Za-z]=[^,\0]*)*"
)
_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]{1,256})(?:,[A-Za-z]=[^,\0]*)*")
_ERROR = re.compile(rb"e=([\x21-\x2b\x2d-\x7e]{1,100})")


class SignIn(NamedTuple):
    """With which name and password we sign in at a host.

    :ivar rule: the rule that says so (``route[2]``), for whoever has to mend it.
    :ivar unverified: a host whose certificate is not verified gets the password itself (PLAIN, LOGIN), too.
    """

    username: str
    password: str
    rule: str = ""
    unverified: bool = False

    def __repr__(self) -> str:
        return f"SignIn({self.username!r}, rule={self.rule!r}, unverified={self.unverified!r})"


class Response(NamedTuple):
    """To be sent to the server.

    :ivar octets: ``None``: nothing goes with the AUTH command.
    :ivar last: the server may answer that we are signed in; before that it has not shown what it has to show.
    """

    octets: bytes | None
    last: bool = False

    def __repr__(self) -> str:
        return f"Response(last={self.last!r})"


class Salting(NamedTuple):
    """``scram.salted`` of the password is wanted."""

    salt: bytes
    iterations: int
    hash_name: str


class WrongServer(Exception):
    """What the server says does not follow the mechanism, or it does not know the password; a sentence without it."""


#: A mechanism under way.
Exchange = Generator[Response | Salting, bytes, None]


class _Mechanism(NamedTuple):
    """One that we know.

    :ivar bound: it needs the TLS session's channel binding.
    :ivar says_password: the server gets the password itself.
    """

    name: str
    bound: bool
    says_password: bool


#: Those we know, the best first.
_KNOWN = (
    _Mechanism("SCRAM-SHA-256-PLUS", True, False),
    _Mechanism("SCRAM-SHA-256", False, False),
    _Mechanism("SCRAM-SHA-1-PLUS", True, False),
    _Mechanism("SCRAM-SHA-1", False, False),
    _Mechanism("PLAIN", False, True),
    _Mechanism("LOGIN", False, True),
)


def usable(offered: Collection[str], *, binding: bool, say_password: bool) -> list[str]:
    """The mechanisms that both sides know and we may use, the best first.

    :param offered: what the server offers, in capitals.
    :param binding: the TLS session has a channel binding.
    :param say_password: the server may get the password itself.
    """
    return [
        known.name
        for known in _KNOWN
        if known.name in offered and (binding or not known.bound) and (say_password or not known.says_password)
    ]


def begin(
    mechanism: str,
    sign_in: SignIn,
    *,
    binding: bytes | None = None,
    offered: Collection[str] = (),
    nonce: Callable[[], bytes] = make_nonce,
) -> Exchange:
    """A mechanism, begun.

    :param mechanism: one that ``usable`` gave.
    :param binding: the TLS session's channel binding (``tls-exporter``), ``None`` when it has none.
    :param offered: what the server offers.
    :param nonce: makes our part of the nonce.
    :raises ValueError: the name or the password cannot be said with it; a sentence without them.
    """
    if mechanism == "PLAIN":
        return _plain(*_said(sign_in))
    if mechanism == "LOGIN":
        return _login(*_said(sign_in))
    hash_name = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
    if mechanism.endswith("-PLUS"):
        if binding is None:
            raise ValueError("this TLS session has no channel binding")
        header = b"p=" + BINDING + b",,"
    else:
        # RFC 5802 section 6: y says that we could bind and saw no offer of it; a server that made one then knows that
        # somebody took it out. n says that we do not bind, also where one bound exchange came to nothing.
        header = b"n,," if binding is None or f"{mechanism}-PLUS" in offered else b"y,,"
        binding = None
    name = prepared(sign_in.username)
    prepared(sign_in.password)  # raises now what `salted` would raise later
    return _scram(name.encode().replace(b"=", b"=3D").replace(b",", b"=2C"), header, binding or b"", hash_name, nonce())


def _said(sign_in: SignIn) -> tuple[bytes, bytes]:
    """Name and password as PLAIN and LOGIN say them (RFC 4616 section 2: UTF-8, no NUL; attack T15)."""
    name, password = prepared(sign_in.username), prepared(sign_in.password)
    if not name or not password:
        raise ValueError("the name or the password is empty")
    return name.encode(), password.encode()


def _plain(name: bytes, password: bytes) -> Exchange:
    yield Response(b"\0" + name + b"\0" + password, last=True)


def _login(name: bytes, password: bytes) -> Exchange:
    # "Username:" and "Password:", in whatever words: some servers translate them.
    yield Response(None)
    yield Response(name)
    yield Response(password, last=True)


def _scram(name: bytes, header: bytes, binding: bytes, hash_name: str, nonce: bytes) -> Exchange:
    """RFC 5802 section 5."""
    bare = b"n=%b,r=%b" % (name, nonce)
    first = yield Response(header + bare)
    match = _FIRST.fullmatch(first) if len(first) <= MESSAGE_MAX else None
    if match is None:
        raise WrongServer(_error(first) or "its first message of SCRAM cannot be understood")
    together, salt, iterations = match[1], from_base64(match[2]), int(match[3])
    if not together.startswith(nonce) or len(together) == len(nonce):
        raise WrongServer("its nonce does not continue ours")
    if not salt:
        raise WrongServer("its salt is not base64")
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise WrongServer(f"it asks for {iterations} iterations, and not for {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    salted: bytes = yield Salting(salt, iterations, hash_name)
    without_proof = b"c=%b,r=%b" % (b64encode(header + binding), together)
    proof, signature = client_proof(salted, b",".join((bare, first, without_proof)), hash_name)
    final = yield Response(b"%b,p=%b" % (without_proof, b64encode(proof)))
    match = _FINAL.fullmatch(final) if len(final) <= MESSAGE_MAX else None
    if match is None:
        raise WrongServer(_error(final) or "its final message of SCRAM cannot be understood")
    if not hmac.compare_digest(from_base64(match[1]) or b"", signature):
        raise WrongServer("it could not prove that it knows the password: it may not be the host it should be")
    yield Response(b"", last=True)


def _error(octets: bytes) -> str:
    """What a server-error says (RFC 5802 section 7), ``""`` when it is none."""
    match = _ERROR.fullmatch(octets)
    return "" if match is None else f"it says {match[1].decode('ascii')}"
