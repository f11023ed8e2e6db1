"""The arithmetic of SCRAM (RFC 5802 section 3, RFC 7677), for both sides, and how names and passwords are prepared.

Without state and without a network. ``keys_of`` is slow by design: call it in a thread.
"""

from __future__ import annotations

import hmac
import re
import stringprep
from hashlib import pbkdf2_hmac
from hashlib import sha1 as _sha1
from hashlib import sha256 as _sha256
from unicodedata import ucd_3_2_0

_HASHES = {"SHA-256": _sha256, "SHA-1": _sha1}

#: Octets of a hash: of a key, a proof, a signature.
HASH_SIZES = {"SHA-256": 32, "SHA-1": 20}

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# RFC 4013 section 2.3.
_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9,
)  # fmt: skip


def prepared(text: str) -> str:
    """A name or a password as SASLprep has it (RFC 4013), so that the same word typed on two keyboards is the same.

    Code points that Unicode 3.2 did not know stay as they are (RFC 3454 section 7: a query), for names and for
    passwords, when they are set and when they are tried alike: a password may hold an emoji.

    :raises ValueError: it holds characters that no name or password may hold; a sentence without them.
    """
    if text.isascii():
        if _CONTROLS.search(text):
            raise ValueError("A name or a password holds no control characters")
        return text
    # section 2.1: mapped to space, or to nothing
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    normal = ucd_3_2_0.normalize("NFKC", mapped)  # section 2.2
    used = set(normal)  # a character may stand for eighteen
    for prohibits in _PROHIBITED:
        if any(map(prohibits, used)):
            raise ValueError("A name or a password holds no control, private or otherwise unusable characters")
    if any(map(stringprep.in_table_d1, used)):  # section 2.4, RFC 3454 section 6
        ends = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if not ends or any(map(stringprep.in_table_d2, used)):
            raise ValueError("A name or a password does not mix words written to the left and to the right")
    return normal


def salted(password: str, salt: bytes, iterations: int, hash_name: str) -> bytes:
    """SaltedPassword (RFC 5802 section 3). Slow: call it in a thread.

    :param hash_name: ``SHA-256`` or ``SHA-1``.
    :raises ValueError: no such password may be, see ``prepared``.
    """
    return pbkdf2_hmac(hash_name.replace("-", ""), prepared(password).encode("utf-8"), salt, iterations)


def keys_of(password: str, salt: bytes, iterations: int, hash_name: str) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey of a password (RFC 5802 section 3). Slow: call it in a thread.

    :param hash_name: ``SHA-256`` or ``SHA-1``.
    :raises ValueError: no such password may be, see ``prepared``.
    """
    secret = salted(password, salt, iterations, hash_name)
    client_key = hmac.digest(secret, b"Client Key", _HASHES[hash_name])
    return _HASHES[hash_name](client_key).digest(), hmac.digest(secret, b"Server Key", _HASHES[hash_name])


def server_signature(
    stored_key: bytes, server_key: bytes, message: bytes, proof: bytes, hash_name: str
) -> bytes | None:
    """The server's check of a client (RFC 5802 section 3): ServerSignature, or ``None`` when the proof is wrong.

    :param message: the AuthMessage.
    :param proof: the ClientProof.
    :param hash_name: ``SHA-256`` or ``SHA-1``.
    """
    digest = _HASHES[hash_name]
    signature = hmac.digest(stored_key, message, digest)
    if len(proof) != len(signature):
        return None
    client_key = _xor(proof, signature)
    if not hmac.compare_digest(digest(client_key).digest(), stored_key):
        return None
    return hmac.digest(server_key, message, digest)


def client_proof(salted_password: bytes, message: bytes, hash_name: str) -> tuple[bytes, bytes]:
    """The client's side (RFC 5802 section 3): its ClientProof, and the ServerSignature it is to see afterwards.

    :param salted_password: see ``salted``.
    :param message: the AuthMessage.
    :param hash_name: ``SHA-256`` or ``SHA-1``.
    """
    digest = _HASHES[hash_name]
    client_key = hmac.digest(salted_password, b"Client Key", digest)
    proof = _xor(client_key, hmac.digest(digest(client_key).digest(), message, digest))
    server_key = hmac.digest(salted_password, b"Server Key", digest)
    return proof, hmac.digest(server_key, message, digest)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(map(int.__xor__, left, right))
