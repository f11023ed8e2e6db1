"""TLS towards other hosts: opportunistic, so a handshake never fails because of a certificate (RFC 7435).

What the certificate is worth is told by the session's ``verified`` and ``why``; whoever needs more than encryption
looks there before a mail is sent.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from socket import socket as Socket
from typing import Any, NamedTuple, TypeVar

from OpenSSL import SSL

from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.net.tls import TlsConnection, TlsSession, begin
from twisted_mail_node.net.tls_files import read_chain
from twisted_mail_node.net.tls_openssl import set_groups
from twisted_mail_node.net.tls_trust import Shown, as_address, note_chain

#: Ciphers of TLS 1.2. Those without forward secrecy are the last: they are better than no TLS, which is what would
#: come otherwise. Keys of 1024 bits, too (security level 1).
CIPHERS = (
    b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:kRSA+AESGCM:kRSA+AES:!aNULL:!eNULL:"
    b"@SECLEVEL=1"
)
#: Certificates between a server's and its root.
DEPTH = 10
#: Hosts whose last session is kept, and for how many seconds after their chain was looked at.
SESSIONS = 1000
SESSION_TIME = 3600.0
#: Octets of a name in SNI (RFC 6066 section 3: a DNS host name).
NAME_MAX = 253

C = TypeVar("C", bound=TlsConnection)


class _Kept(NamedTuple):
    session: SSL.Session
    shown: Shown


class _Connection(TlsConnection):
    """Keeps its session when the server has said something: by then its tickets have come (RFC 8446 section 4.6.1)."""

    keep: Callable[[_Connection], None] | None = None

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        octets = super().recv(bufsiz, flags)
        keep, self.keep = self.keep, None
        if keep is not None:
            keep(self)
        return octets

    read = recv


class TlsClient:
    """Begins TLS on connections to other hosts. Making one reads the trusted certificates, some ten milliseconds.

    :param trusted: certificates (PEM) that sign those of other hosts; ``None``: those of the system.
    :param now: seconds that never go back.
    :raises ValueError: ``trusted`` cannot be read.
    """

    def __init__(self, trusted: Path | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.reload(trusted)

    def connection(self, host: str, kind: type[C]) -> C:
        """OpenSSL's end of a connection whose octets somebody else carries, with the trusted certificates as they are
        now. It resumes no session. What to make of the chain is the business of its kind.
        """
        connection = kind(self._context, None)
        connection.set_connect_state()
        connection.set_tlsext_host_name(host.encode("ascii"))
        connection.shown = Shown(self._context)
        return connection

    def reload(self, trusted: Path | None) -> None:
        """Read the trusted certificates anew, these from now on; running connections stay as they are.

        :raises ValueError: ``trusted`` cannot be read; everything stays as it was.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(CIPHERS)
        set_groups(context)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify_depth(DEPTH)
        context.set_verify(SSL.VERIFY_PEER, note_chain)
        if trusted is None:
            context.set_default_verify_paths()
        else:
            read_chain(trusted)
            try:
                context.load_verify_locations(os.fspath(trusted))
            except SSL.Error as error:
                raise ValueError(f"{trusted} cannot be used: {error}") from None
        self._context = context
        self._kept.clear()

    def secure(self, transport: Any, host: str, fresh: bool = False) -> ITlsSession:
        """Begin a handshake on ``transport``; its protocol is told of its end by ``handshakeCompleted()``
        (``IHandshakeListener``) or by ``connectionLost``. A deadline is the caller's. All clear text must be read.

        :param host: the name (in ASCII) or IP address the certificate must be for.
        :param fresh: no session is resumed, and this one is not kept: whoever compares the chain itself must see it.
        """
        host = host.rstrip(".").lower()

        def make(socket: Socket | None) -> TlsConnection:
            return self._connection(socket, host, fresh)

        return TlsSession(begin(transport, make), host)

    def _connection(self, socket: Socket | None, host: str, fresh: bool) -> TlsConnection:
        connection = _Connection(self._context, socket)
        connection.set_connect_state()
        if host.isascii() and 0 < len(host) <= NAME_MAX and not as_address(host):
            connection.set_tlsext_host_name(host.encode("ascii"))
        if fresh:
            connection.shown = Shown(self._context)
            return connection
        kept = self._kept.pop(host, None)
        if kept is not None and kept.shown.until > self._now():
            connection.set_session(kept.session)
        else:
            kept = None
        connection.shown = Shown(self._context, kept.shown if kept is not None else None)
        connection.keep = lambda done: self._keep(host, done)
        return connection

    def _keep(self, host: str, connection: _Connection) -> None:
        """Keep a session for the next connection to this host. What its chain was worth goes with it."""
        session = connection.get_session()
        if session is None:
            return
        shown = connection.shown.settled
        if not shown.until:
            shown.until = self._now() + SESSION_TIME
        self._kept[host] = _Kept(session, shown)
        while len(self._kept) > SESSIONS:
            self._kept.popitem(last=False)
