"""One TLS connection, as the rest of the node sees it (``ITlsSession``), and how it begins on a transport (RFC 8446).

OpenSSL's connection is made by ``tls_contexts`` (for clients that come to us) or ``tls_client`` (for servers we go to).
"""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Any, NamedTuple

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.net.tls_names import UNREADABLE
from twisted_mail_node.net.tls_openssl import was_resumed
from twisted_mail_node.net.tls_transport import become_secure, fits
from twisted_mail_node.net.tls_trust import Shown, name_problem
from twisted_mail_node.smtp.reply import printable

#: RFC 9266 section 4.2: what both sides derive from the handshake, and nobody between them can.
BINDING_LABEL = b"EXPORTER-Channel-Binding"
BINDING_SIZE = 32
#: Characters of a certificate's subject that are shown.
SUBJECT_MAX = 200
#: A subject is shown inside comments of Received, whose parentheses it must not close.
_SHOWABLE = str.maketrans("()\\", "___")


class TlsConnection(SSL.Connection):
    """OpenSSL's connection, with what came of the chain its peer showed."""

    shown: Shown


class _Facts(NamedTuple):
    version: str
    cipher: str
    server_name: str
    resumed: bool


_NOTHING = _Facts("", "", "", False)


@implementer(ITlsSession)
class TlsSession:
    """What is known of a TLS connection. Everything is found out when it is first asked for.

    :param connection: OpenSSL's.
    :param host: the name or IP address that the peer's certificate must be for; ``None`` when any name will do.
    :param asked: the peer was asked for a certificate. Servers always show one.
    """

    __slots__ = ("_connection", "_facts", "_host", "_peer", "_why", "asked")

    def __init__(self, connection: TlsConnection, host: str | None = None, asked: bool = True) -> None:
        self._connection = connection
        self._host = host
        self._facts = _NOTHING
        self._peer: Certificate | None = None
        self._why: str | None = None
        self.asked = asked

    @property
    def completed(self) -> bool:
        """The peer has finished its part of the handshake."""
        return self._connection.get_peer_finished() is not None

    def _known(self) -> _Facts:
        facts = self._facts
        if facts is _NOTHING and self.completed:
            connection = self._connection
            name = connection.get_servername() or b""
            facts = self._facts = _Facts(
                connection.get_protocol_version_name(),
                connection.get_cipher_name() or "",
                printable(name.decode("ascii", "replace")),
                was_resumed(connection),
            )
        return facts

    @property
    def version(self) -> str:
        """See ITlsSession."""
        return self._known().version

    @property
    def cipher(self) -> str:
        """See ITlsSession."""
        return self._known().cipher

    @property
    def server_name(self) -> str:
        """See ITlsSession."""
        return self._known().server_name

    @property
    def resumed(self) -> bool:
        """See ITlsSession."""
        return self._known().resumed

    @property
    def peer(self) -> Certificate | None:
        """See ITlsSession."""
        if self._peer is None and self.asked and self.completed:
            self._peer = self._connection.get_peer_certificate(as_cryptography=True)
        return self._peer

    @property
    def chain(self) -> tuple[Certificate, ...]:
        """See ITlsSession."""
        if not self.completed:
            return ()
        try:
            return tuple(self._connection.get_peer_cert_chain(as_cryptography=True) or ())
        except UNREADABLE:
            pass
        try:
            return () if self.peer is None else (self.peer,)  # one of the others cannot be read
        except UNREADABLE:
            return ()

    @property
    def fault(self) -> str:
        """See ITlsSession."""
        if self.verified:
            return ""
        try:
            peer = self.peer
        except UNREADABLE:
            return "untrusted"
        if peer is None or self._connection.shown.problem(peer):
            return "expired" if self._connection.shown.is_expired else "untrusted"
        return "mismatch"

    @property
    def verified(self) -> bool:
        """See ITlsSession."""
        return not self.why

    @property
    def why(self) -> str:
        """See ITlsSession."""
        if self._why is not None:
            return self._why
        if not self.completed:
            return "the handshake is not completed"
        self._why = self._judge()
        return self._why

    def _judge(self) -> str:
        if not self.asked:
            return "it was not asked for a certificate"
        try:
            peer = self.peer
        except UNREADABLE:
            return "its certificate cannot be read"
        if peer is None:
            return "it showed no certificate"
        problem = self._connection.shown.problem(peer)
        if not problem and self._host is not None:
            problem = name_problem(peer, self._host)
        return problem

    def channel_binding(self) -> bytes | None:
        """See ITlsSession. TLS 1.2 has one only with an extension that we cannot ask OpenSSL about (RFC 9266)."""
        if self.version != "TLSv1.3":
            return None
        return self._connection.export_keying_material(BINDING_LABEL, BINDING_SIZE)

    def __str__(self) -> str:
        """See ITlsSession."""
        version, cipher, _, resumed = self._known()
        if not version:
            return ""
        words = f"{version} with {cipher}"
        if resumed:
            words += ", resumed"
        if self.asked and self._host is None and self.verified and self.peer is not None:
            subject = printable(self.peer.subject.rfc4514_string()).translate(_SHOWABLE)
            words += f", client certificate {subject[:SUBJECT_MAX] or 'without a subject'}"
        return words


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class _Made:
    """Gives Twisted the connection that was made already, and keeps the protocol that Twisted puts around it."""

    protocol: Any = None

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        self.protocol = tlsProtocol
        return self._connection

    clientConnectionForTLS = serverConnectionForTLS


def begin(transport: Any, make: Callable[[socket | None], TlsConnection], first: bytes = b"") -> TlsConnection:
    """Begin TLS on ``transport``: in our own way where it can, else in Twisted's (ITLSTransport). What the transport
    has not sent yet goes first, in clear. The client's side of a connection is the client's side of the handshake.

    :param make: gives OpenSSL's connection for a socket, or without one.
    :param first: octets of the handshake that were read already.
    """
    if not first and fits(transport):
        return become_secure(transport, make)
    connection = make(None)
    made = _Made(connection)
    transport.startTLS(made)
    if first:
        made.protocol.dataReceived(first)
    return connection
