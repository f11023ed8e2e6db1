"""Passwords as older systems keep them: bcrypt, SHA-256 and SHA-512 crypt, LDAP's salted SHA. Only for comparing.

What is taken, and how much work it may be, stands in ``settings_hashes``. Some take a second: call this in a thread.
"""

from __future__ import annotations

import binascii
import hashlib
from hmac import compare_digest

import bcrypt

from twisted_mail_node.directory.sha_crypt import sha_crypt

#: bcrypt looks at no more of a password; newer libraries want it cut by whoever calls them.
BCRYPT_PASSWORD_MAX = 72
#: As libxcrypt has it: SHA crypt hashes a password as often as it has octets, and again in each round.
CRYPT_PASSWORD_MAX = 512

_SALTED_SHA = {"{SSHA}": "sha1", "{SSHA256}": "sha256", "{SSHA512}": "sha512"}


def fits(kept: str, password: bytes) -> bool:
    """Whether ``password`` is the one ``kept`` was made of.

    :raises ValueError: ``kept`` is of no kind known here.
    """
    if kept.startswith("$2"):
        return b"\0" not in password and bcrypt.checkpw(password[:BCRYPT_PASSWORD_MAX], kept.encode("ascii"))
    if kept.startswith("$"):
        return len(password) <= CRYPT_PASSWORD_MAX and compare_digest(sha_crypt(password, kept).encode(), kept.encode())
    return _fits_salted_sha(kept, password)


def _fits_salted_sha(kept: str, password: bytes) -> bool:
    scheme, brace, text = kept.partition("}")
    name = _SALTED_SHA.get(scheme + brace)
    if name is None:
        raise ValueError("no hash of a kind known here")
    octets = binascii.a2b_base64(text, strict_mode=True)
    size = hashlib.new(name).digest_size
    return compare_digest(hashlib.new(name, password + octets[size:]).digest(), octets[:size])
