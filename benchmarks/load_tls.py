"""Brings mail as ``load.py`` does, over TLS 1.3: by STARTTLS, or with TLS from the first octet; full or resumed.

The certificate is not verified, for that would be the generator's work and not the server's; its signature is. About
0.6 ms of CPU for a mail over a new connection: the server under test takes more.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load import EHLO, GREETING, SOURCES, Generator, Session, chosen_of, command_line

#: Where a session may be beside those of ``load.py``.
_ASKED, _HANDSHAKE = 100, 101


def lenient() -> ssl.SSLContext:
    """TLS 1.3, and any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsGenerator(Generator):
    """Runs the sessions over TLS.

    :param implicit: TLS from the first octet (RFC 8314), not by STARTTLS.
    :param resume: take up the session of an earlier connection again (RFC 8446 section 2.2), each ticket once.
    """

    again = (*Generator.again, ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def __init__(self, target: tuple[str, int], *, implicit: bool, resume: bool, **how: Any) -> None:
        super().__init__(target, **how)
        self._implicit = implicit
        self._resume = resume
        self._context = lenient()
        self._tickets: list[ssl.SSLSession] = []

    def _connect(self) -> None:
        if not self._implicit:
            super()._connect()
            return
        # A handshake wants a connection that stands; on loopback it does at once.
        source = f"127.0.0.{1 + self._connected % SOURCES}"
        sock = socket.create_connection(self._target, 5, source_address=(source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._connected += 1
        session = self._open[sock.fileno()] = Session(sock)
        self._epoll.register(sock.fileno(), 1)
        try:
            self._secure(session)
        except self.again:
            pass

    def _secure(self, session: Session) -> None:
        ticket = self._tickets.pop() if self._resume and self._tickets else None
        session.sock = self._context.wrap_socket(session.sock, do_handshake_on_connect=False, session=ticket)
        session.state = _HANDSHAKE
        session.sent = time.monotonic()
        session.sock.do_handshake()
        self._secured(session)

    def _secured(self, session: Session) -> None:
        assert isinstance(session.sock, ssl.SSLSocket)
        self.resumed += bool(session.sock.session_reused)
        if self._implicit:
            session.state = GREETING
        else:
            session.state = EHLO
            session.sock.send(b"EHLO client.test\r\n")

    def _step(self, session: Session) -> None:
        if session.state == _HANDSHAKE:
            assert isinstance(session.sock, ssl.SSLSocket)
            session.sock.do_handshake()
            self._secured(session)
        elif session.state == _ASKED:
            reply = session.sock.recv(4096)
            if reply[:3] != b"220":
                self._refuse(session, reply)
            else:
                self._secure(session)
        else:
            super()._step(session)

    def _begin(self, session: Session) -> None:
        if isinstance(session.sock, ssl.SSLSocket):
            super()._begin(session)
            return
        session.state = _ASKED
        session.sock.send(b"STARTTLS\r\n")

    def _close(self, session: Session) -> None:
        # Each look at .session copies it, certificate and all.
        ticket = session.sock.session if self._resume and isinstance(session.sock, ssl.SSLSocket) else None
        if ticket is not None:
            self._tickets.append(ticket)
        super()._close(session)


class Handshakes(TlsGenerator):
    """Handshakes only: each connection is closed once the greeting came, for then the server has done its part."""

    def _step(self, session: Session) -> None:
        if session.state != GREETING:
            super()._step(session)
            return
        reply = session.sock.recv(4096)
        if reply[:3] != b"220":
            self._refuse(session, reply)
            return
        self.latencies.append(time.monotonic() - session.sent)
        self.accepted += 1
        self._begun += 1
        self._close(session)


def main() -> None:
    """Read the command line, bring the mails, print the result as JSON."""
    options = command_line("Brings mail to an SMTP server on this machine over TLS and prints JSON.")
    options.add_argument("--implicit", action="store_true", help="TLS from the first octet, not by STARTTLS")
    options.add_argument("--resume", action="store_true", help="resume earlier sessions")
    options.add_argument("--handshakes", action="store_true", help="no mails, only handshakes of implicit TLS")
    chosen, how = chosen_of(options)
    make = Handshakes if chosen.handshakes else TlsGenerator
    json.dump(make(implicit=chosen.implicit or chosen.handshakes, resume=chosen.resume, **how).run(), sys.stdout)


if __name__ == "__main__":
    main()
