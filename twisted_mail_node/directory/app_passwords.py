"""Application passwords: made by us, shown once, one for each of a person's programs, each taken back by itself."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from binascii import a2b_base64, b2a_base64
from hmac import compare_digest

# Letters and digits but for those that are taken for each other: 0 and o, 1 and l and i.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 5, 5
_FORM = re.compile(rf"[{_ALPHABET}]{{{_GROUP}}}(?:-[{_ALPHABET}]{{{_GROUP}}}){{{_GROUPS - 1}}}\Z")
_SALT_SIZE = 12


def new_app_password() -> str:
    """Such as ``k7wqm-3hxzr-…``: 25 of 31 characters, 123 bits."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)


def may_be_app_password(text: str) -> bool:
    """Whether it has the form of one. Others are not compared with any."""
    return _FORM.match(text) is not None


def hash_app_password(text: str) -> str:
    """What is kept: base64 of a salt and the SHA-256 of both. Of 123 random bits nobody finds the right ones by
    trying, however fast the hash: a slow one would only make signing in slow."""
    salt = os.urandom(_SALT_SIZE)
    return b2a_base64(salt + _digest(salt, text), newline=False).decode("ascii")


def fits(kept: str, text: str) -> bool:
    """Whether it is the application password that ``kept`` was made of. Takes a microsecond."""
    octets = a2b_base64(kept)
    return compare_digest(_digest(octets[:_SALT_SIZE], text), octets[_SALT_SIZE:])


def is_kept_form(kept: str) -> bool:
    """Whether the text is what ``hash_app_password`` gives."""
    return re.match(r"[A-Za-z0-9+/]{59}=\Z", kept, re.ASCII) is not None


def _digest(salt: bytes, text: str) -> bytes:
    return hashlib.sha256(salt + text.encode("utf-8")).digest()
