"""Tokens that are signed: JWT (RFC 7519, RFC 9068), checked with the keys of a JWKS file (RFC 7517).

Only signatures with public keys: RS256, ES256, EdDSA. A token neither chooses an algorithm for a key, nor brings a key
or the place of one. Everything here blocks: the file is looked at for each token. Call it in a thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from twisted_mail_node.directory.claims import TokenError

#: Octets of the file, and keys in it.
FILE_MAX = 1 << 20
KEYS_MAX = 100
#: Bits of an RSA key (RFC 7518 section 3.3).
RSA_MIN = 2048
#: Keys that are tried for a token that names none.
TRIED_MAX = 10

# The kind of a key, and its curve, decide what it may have signed (RFC 7518 section 3.1, RFC 8037 section 3.1).
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
# RFC 9068 section 2.1; many issuers say JWT, or nothing.
_TYPES = ("at+jwt", "application/at+jwt", "jwt", "")
_OPTIONS: Any = {
    "verify_signature": True, "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False,
    "verify_iss": False, "verify_sub": False, "verify_jti": False,
}  # fmt: skip


class _Key(NamedTuple):
    name: str | None
    algorithm: str
    key: jwt.PyJWK


class KeySet:
    """The keys in a file; read again when it changes."""

    def __init__(self, path: Path) -> None:
        """:raises ValueError: the file cannot be read, or holds no key that can be used; a sentence."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: list[_Key] = []
        self._refresh()

    def claims(self, token: str) -> Mapping[str, object]:
        """What a token says whose signature is good.

        :raises TokenError: it is no such token.
        :raises ValueError: the file of the keys cannot be read any more, or is damaged.
        """
        self._refresh()
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("the token is no JWT") from None
        kind = header.get("typ", "")
        if "crit" in header or "b64" in header or not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise TokenError("the token is of a kind that is not known here")
        for key in self._fitting(header):
            try:
                claims: dict[str, object] = jwt.decode(token, key.key, algorithms=[key.algorithm], options=_OPTIONS)
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue
            return claims
        raise TokenError("no key fits the token's signature")

    def _fitting(self, header: dict[str, Any]) -> list[_Key]:
        name, algorithm = header.get("kid"), header.get("alg")
        found = [one for one in self._keys if one.algorithm == algorithm and name in (None, one.name)]
        return found[:TRIED_MAX]

    def _refresh(self) -> None:
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen == self._seen:
                    return
                octets = file.read(FILE_MAX + 1)
        except OSError as error:
            raise ValueError(f"oauth.jwks: {self._path} cannot be read: {error.strerror}") from None
        self._keys = _keys(octets, self._path)
        self._seen = seen


def _keys(octets: bytes, path: Path) -> list[_Key]:
    """Every key that can be used. What is wrong is not quoted: a private key may have been put there."""
    try:
        entries = json.loads(octets)["keys"] if len(octets) <= FILE_MAX else None
    except (ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise ValueError(f"oauth.jwks: {path} is no JWKS (RFC 7517) with at most {KEYS_MAX} keys")
    found = [key for key in map(_key, entries) if key is not None]
    if not found:
        raise ValueError(f"oauth.jwks: {path} has no public key for RS256, ES256 or EdDSA")
    return found


def _key(entry: Any) -> _Key | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    curve = entry.get("crv") if entry.get("kty") != "RSA" else None
    algorithm = _ALGORITHMS.get((str(entry.get("kty")), curve)) if isinstance(curve, str | None) else None
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < RSA_MIN:
        return None
    name = entry.get("kid")
    return _Key(name if isinstance(name, str) else None, algorithm, key)
