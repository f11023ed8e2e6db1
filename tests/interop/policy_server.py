"""The web server of a domain with an MTA-STS policy (RFC 8461 section 3.3): HTTPS on port 443 of a loopback address."""

from __future__ import annotations

import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from twisted.trial.unittest import SkipTest

from tests.net.authority import Issued

PATH = "/.well-known/mta-sts.txt"


class PolicyServer:
    """Serves one text.

    :param text: the policy; may be changed. :param issued: its certificate. :param ip: a loopback address.
    :ivar asked: the host names and paths that were asked for.
    :ivar posted: what was posted, with its content type.
    :raises SkipTest: port 443 is not ours to take.
    """

    def __init__(self, text: str, issued: Issued, place: Path, ip: str = "127.0.0.1") -> None:
        self.text = text
        self.status = 200
        self.asked: list[str] = []
        self.posted: list[tuple[str, bytes]] = []
        chain, key = place / "policy.crt", place / "policy.key"
        issued.put_two(chain, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.fspath(chain), os.fspath(key))
        server = self

        class Answer(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                server.asked.append(f"{self.headers['Host']}{self.path}")
                body = server.text.encode() if self.path == PATH else b"no such page"
                self.send_response(server.status if self.path == PATH else 404)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.posted.append((self.headers["Content-Type"], body))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *words: object) -> None:
                """Say nothing."""

        try:
            self._server = ThreadingHTTPServer((ip, 443), Answer)
        except OSError as error:
            raise SkipTest(f"port 443 of {ip} cannot be had: {error.strerror}") from None
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
