"""Passwords: argon2id hashes, made and compared. Both take about 20 ms and 19 MiB: call them in a thread."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

#: Longer passwords are none; hashing a megabyte on a client's word would be a gift to it.
PASSWORD_MAX = 1024

# OWASP's profile for argon2id: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Compared with when there is no such user, so that the answer takes as long. Hash of a random text nobody kept.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$eCCwTUKTn1mJA8dLJ93F9Q$CIRjagl3fOijXH8grj9kpLv8SzBL4GTPqGjz4E/E1IY"


def hash_password(text: str) -> str:
    """The hash to keep: ``$argon2id$v=19$m=19456,t=2,p=1$…``.

    :raises ValueError: the password is empty, too long or holds NUL (RFC 4616 section 2 could not carry it).
    """
    if not text or "\0" in text or len(text.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:
        raise ValueError(f"a password has 1 to {PASSWORD_MAX} octets and no NUL")
    return _HASHER.hash(text.encode("utf-8", "surrogatepass"))


def verify(password_hash: str | None, text: str) -> bool:
    """Whether ``text`` is the password. Without a hash the answer is no, after the same time."""
    octets = text.encode("utf-8", "surrogatepass")
    if not octets or len(octets) > PASSWORD_MAX:
        octets, password_hash = b"-", None
    try:
        return _HASHER.verify(password_hash or _NOBODY, octets) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False
