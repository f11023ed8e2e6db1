"""A blocking mail client that speaks TLS, signs in by what a test wants, and can come from any address of loopback."""

from __future__ import annotations

import io
import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from tests.interop.wire import REPLY_TIME, Client
from tests.smtp.scram_client import ScramUser
from twisted_mail_node.smtp.stuffing import stuffed

#: RFC 9266 section 4.2.
_BINDING = b"EXPORTER-Channel-Binding"
_TIMEVAL = struct.pack("ll", int(REPLY_TIME), 0)


class _Octets(io.RawIOBase):
    """What a TLS connection brings."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            octets = self._connection.recv(len(buffer))
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return 0
        buffer[: len(octets)] = octets
        return len(octets)


class Session(Client):
    """One session with a listener.

    :param tls: ``implicit``: from the first octet; ``starttls``: behind EHLO; ``none``.
    :param root: the certificate of the authority that must have signed the server's.
    :param certificate: the client's own, with its key.
    :param source: the address it comes from.
    :ivar connection: with TLS.
    """

    def __init__(
        self, port: int, root: Path | None = None, tls: str = "implicit", *,
        certificate: tuple[Path, Path] | None = None, source: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self._plain = socket.create_connection(("127.0.0.1", port), REPLY_TIME, (source, 0))
        self._plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._root, self._certificate = root, certificate
        self.connection: SSL.Connection | None = None
        self._clear()
        if tls == "implicit":
            self._secure()
        self.greeting = self.reply()
        self.offered = self.ask("EHLO client.test")
        if tls == "starttls":
            self.must("STARTTLS", "220")
            self._secure()
            self.offered = self.ask("EHLO client.test")

    def _clear(self) -> None:
        self._socket: Any = self._plain
        self._file: Any = self._plain.makefile("rb")

    def _secure(self) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if self._root is not None:
            context.load_verify_locations(str(self._root))
            context.set_verify(SSL.VERIFY_PEER, lambda connection, x509, error, depth, ok: bool(ok))
        if self._certificate is not None:
            chain, key = self._certificate
            context.use_certificate_chain_file(str(chain))
            context.use_privatekey_file(str(key))
        # pyOpenSSL waits on a socket that blocks; the kernel has the time limit then.
        self._plain.settimeout(None)
        self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL)
        self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
        self.connection = SSL.Connection(context, self._plain)
        self.connection.set_tlsext_host_name(b"mx.here.test")
        self.connection.set_connect_state()
        self.connection.do_handshake()
        self._socket = self.connection
        self._file = io.BufferedReader(_Octets(self.connection))

    def close(self) -> None:
        """See Client."""
        self._file.close()
        self._plain.close()

    @property
    def mechanisms(self) -> list[str]:
        """What AUTH offers."""
        lines = [line[4:].split() for line in self.offered.splitlines()]
        return next((words[1:] for words in lines if words[0] == "AUTH"), [])

    # ---- signing in ------------------------------------------------------------------------------------------

    def auth(self, mechanism: str, initial: bytes) -> str:
        """AUTH with an initial response; gives the reply."""
        return self.ask(f"AUTH {mechanism} {b64encode(initial).decode() or '='}")

    def plain(self, name: str, password: str) -> str:
        """AUTH PLAIN; gives the reply."""
        return self.auth("PLAIN", f"\0{name}\0{password}".encode())

    def bearer(self, name: str, token: str) -> str:
        """AUTH OAUTHBEARER (RFC 7628); gives the last reply."""
        reply = self.auth("OAUTHBEARER", f"n,a={name},\x01auth=Bearer {token}\x01\x01".encode())
        return self.ask(b64encode(b"\x01").decode()) if reply.startswith("334") else reply

    def scram(self, name: str, password: str, mechanism: str = "SCRAM-SHA-256", binding: bytes | None = None) -> str:
        """AUTH with SCRAM; gives the last reply. :raises AssertionError: the server did not prove that it knows us."""
        hash_name = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
        user = ScramUser(name, password, hash_name, binding=binding)
        reply = self.auth(mechanism, user.first)
        if not reply.startswith("334"):
            return reply
        reply = self.ask(b64encode(user.final(b64decode(reply[4:]))).decode())
        if not reply.startswith("334"):
            return reply
        if not user.believes(b64decode(reply[4:])):
            raise AssertionError(f"the server does not know the password's keys: {reply}")
        return self.ask("")

    @property
    def binding(self) -> bytes:
        """The connection's ``tls-exporter`` (RFC 9266)."""
        if self.connection is None:
            raise AssertionError("there is no TLS")
        return bytes(self.connection.export_keying_material(_BINDING, 32, b""))

    # ---- mail ------------------------------------------------------------------------------------------------

    def bring(
        self, content: bytes, recipients: Sequence[str] = ("joe@here.test",), sender: str = "ann@here.test",
        parameters: str = "",
    ) -> str:  # fmt: skip
        """One mail; gives its queue id. :raises AssertionError: it was not accepted."""
        self.open(recipients, sender, parameters)
        reply = self.data(content)
        if not reply.startswith("250 2.0.0 Queued as "):
            raise AssertionError(reply)
        return reply.split()[-1]

    def data_large(self, content: bytes) -> str:
        """A large content by DATA, a piece at a time; gives the reply."""
        self.must("DATA", "354")
        octets = stuffed(content)
        for at in range(0, len(octets), 1 << 16):
            self.send(octets[at : at + (1 << 16)])
        return self.reply()
