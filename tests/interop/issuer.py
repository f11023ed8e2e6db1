"""An issuer of tokens: it signs some itself (RFC 9068), and tells of others when it is asked (RFC 7662)."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm


class Signer:
    """Signs tokens with ES256.

    :param keys: the file that gets its public keys (JWKS, RFC 7517).
    """

    def __init__(self, keys: Path, issuer: str, audience: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._claims = {"iss": issuer, "aud": audience, "sub": "0815", "client_id": "mail", "jti": "one"}
        public = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
        keys.write_text(json.dumps({"keys": [{**public, "kid": "two", "use": "sig", "alg": "ES256"}]}), "ascii")

    def token(self, address: str, *, seconds: float = 600, **claims: object) -> str:
        """A token for an account, good for some seconds. :param claims: instead of its own."""
        now = int(time.time())
        said: dict[str, Any] = {**self._claims, "email": address, "iat": now - 5, "exp": now + int(seconds), **claims}
        return jwt.encode(said, self._key, "ES256", {"kid": "two", "typ": "at+jwt"})


class Introspection:
    """Answers questions about tokens over HTTP on a free port of 127.0.0.1.

    :param known: token → what is said of it. :param name, secret: of who may ask.
    :ivar asked: the tokens that were asked about.
    """

    def __init__(self, known: dict[str, dict[str, object]], name: str, secret: str) -> None:
        self.asked: list[str] = []
        self.broken = False
        introspection = self
        # RFC 6749 section 2.3.1: both are written as in forms.
        allowed = "Basic " + b64encode(f"{quote(name)}:{quote(secret)}".encode()).decode()

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """One question."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                token = parse_qs(body.decode("ascii"))["token"][0]
                introspection.asked.append(token)
                if introspection.broken or self.headers["Authorization"] != allowed:
                    self.send_error(500 if introspection.broken else 401)
                    return
                answer = json.dumps(known.get(token, {"active": False})).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/introspect"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
