"""Passwords: argon2id hashes, made and compared; hashes of older systems, compared until a sign-in makes them anew.

Both take about 20 ms and 19 MiB: call them in a thread.
"""

from __future__ import annotations

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from twisted_mail_node.directory import older_hashes
from twisted_mail_node.settings_hashes import password_hash
from twisted_mail_node.smtp.scram import prepared

#: Longer passwords are none; hashing a megabyte on a client's word would be a gift to it.
PASSWORD_MAX = 1024

# OWASP's profile for argon2id: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Compared with when there is no such user, so that the answer takes as long. Hash of a random text nobody kept.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$eCCwTUKTn1mJA8dLJ93F9Q$CIRjagl3fOijXH8grj9kpLv8SzBL4GTPqGjz4E/E1IY"


def hash_password(text: str) -> str:
    """The hash to keep: ``$argon2id$v=19$m=19456,t=2,p=1$…``.

    :raises ValueError: the password is empty, too long, holds NUL (RFC 4616 section 2 could not carry it) or another
        character that SASLprep forbids; the sentence does not hold it.
    """
    if not text or "\0" in text or len(text.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:
        raise ValueError(f"a password has 1 to {PASSWORD_MAX} octets and no NUL")
    normal = prepared(text)
    if not normal:
        raise ValueError("a password has at least one character that can be seen")
    return _HASHER.hash(normal.encode("utf-8"))


def verify(kept: str | None, text: str) -> bool:
    """Whether ``text`` is the password. Without a hash, and without a password, the answer is no, after the time of
    an argon2id hash. A wrong password takes the time of its own kind of hash.
    """
    spellings = _spellings(text)
    if not spellings:
        spellings, kept = [b"-"], None
    # Each of them, also after one that fits: a second spelling tells no time.
    fitting = [_fits(kept, octets) for octets in spellings]
    return any(fitting)


def needs_upgrade(kept: str) -> bool:
    """Whether a hash is weaker than those made today: of an older system, or argon2id with less work."""
    try:
        parameters = extract_parameters(kept)
    except InvalidHashError:
        return True
    work = parameters.memory_cost * parameters.time_cost
    return parameters.memory_cost < _HASHER.memory_cost // 2 or work < _HASHER.memory_cost * _HASHER.time_cost


def _spellings(text: str) -> list[bytes]:
    """The octets to try: as SASLprep has the password (RFC 4616 section 2), then as it came: older systems did."""
    octets = text.encode("utf-8", "surrogatepass")
    if not octets or len(octets) > PASSWORD_MAX:
        return []
    try:
        normal = prepared(text).encode("utf-8")
    except ValueError:
        return [octets]
    return [octets] if normal in (octets, b"") else [normal, octets]


def _fits(kept: str | None, octets: bytes) -> bool:
    try:
        if kept is None or kept.startswith("$argon2"):
            return _HASHER.verify(_bounded(kept or _NOBODY), octets) and kept is not None
        return older_hashes.fits(_bounded(kept), octets)
    except (VerificationError, InvalidHashError, ValueError):
        return False


def _bounded(kept: str) -> str:
    """:raises ValueError: it is no hash, or one that would take seconds."""
    return password_hash(kept)
