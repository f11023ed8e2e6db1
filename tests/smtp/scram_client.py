"""SCRAM's client side for tests: it binds by tls-exporter, and can be told to do it wrong."""

from __future__ import annotations

from base64 import b64decode, b64encode

from twisted_mail_node.smtp.scram import client_proof, salted


class ScramUser:
    """One conversation (RFC 5802 section 5).

    :param binding: of the TLS session, for the mechanisms that end in -PLUS.
    :param flag: instead of ``n``, where there is no binding.
    """

    def __init__(
        self, name: str, password: str, hash_name: str = "SHA-256", *, binding: bytes | None = None, flag: str = "n"
    ) -> None:
        self._password = password
        self._hash_name = hash_name
        self._header = f"{flag},,".encode() if binding is None else b"p=tls-exporter,,"
        self._binding = binding or b""
        escaped = name.replace("=", "=3D").replace(",", "=2C").encode()
        self._bare = b"n=" + escaped + b",r=rOprNGfwEbeRWgbNEkqO"
        self._signature = b""

    @property
    def first(self) -> bytes:
        """The first message."""
        return self._header + self._bare

    def final(self, server_first: bytes) -> bytes:
        """The answer to the server's first message."""
        nonce, salt, iterations = (part[2:] for part in server_first.split(b","))
        without_proof = b"c=" + b64encode(self._header + self._binding) + b",r=" + nonce
        message = b",".join((self._bare, server_first, without_proof))
        secret = salted(self._password, b64decode(salt), int(iterations), self._hash_name)
        proof, self._signature = client_proof(secret, message, self._hash_name)
        return without_proof + b",p=" + b64encode(proof)

    def believes(self, server_final: bytes) -> bool:
        """Whether the server has shown that it knows the password's keys."""
        return server_final == b"v=" + b64encode(self._signature)
