"""What is kept of a password, as the settings spell it: hashes of this node and of older systems, keys for SCRAM.

A hash also says how much work it takes to compare a password with it. One that would hold a thread for seconds, or
take more memory than a node should, is refused here, before anybody signs in with it.
"""

from __future__ import annotations

import binascii
import re

from twisted_mail_node.settings_problems import Misspelt

PASSWORD_HASH = (
    'a hash "$argon2id$v=19$m=…,t=…,p=…$…$…" (mailnode account hash prints one), or one of an older system: '
    '"$2b$…", "$5$…", "$6$…", "{SSHA}…", "{SSHA256}…", "{SSHA512}…"; never the password itself'
)
SCRAM_KEYS = '"SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", as mailnode account hash prints them'

#: Memory of one comparison with argon2, in KiB, and memory times passes. The second takes about a second of a core.
ARGON2_MEMORY_MAX = 512 << 10
ARGON2_WORK_MAX = 2 << 20
ARGON2_LANES_MAX = 64
#: bcrypt's cost: 2^14 rounds take about a second.
BCRYPT_COST_MAX = 14
#: Rounds of SHA-256 and SHA-512 crypt: about a second. Libraries choose up to 656 000 where none are asked for.
SHA_CRYPT_ROUNDS_MAX = 1_000_000
#: PBKDF2 for SCRAM: clients compute it at each sign-in, the node for each application password.
SCRAM_ITERATIONS_MAX = 1_000_000

_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,10}),t=(\d{1,6}),p=(\d{1,4})\$[A-Za-z0-9+/]{8,256}\$[A-Za-z0-9+/]{16,256}\Z", re.ASCII
)
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z", re.ASCII)
_SHA_CRYPT = re.compile(
    r"(?:\$5\$(?:rounds=(\d{1,9})\$)?[^$:\s]{1,16}\$[./A-Za-z0-9]{43}"
    r"|\$6\$(?:rounds=(\d{1,9})\$)?[^$:\s]{1,16}\$[./A-Za-z0-9]{86})\Z",
    re.ASCII,
)
# LDAP's salted SHA: base64 of digest and salt.
_SALTED_SHA = re.compile(r"\{SSHA(256|512)?\}([A-Za-z0-9+/]{24,400}={0,2})\Z", re.ASCII)
_DIGEST_SIZES = {None: 20, "256": 32, "512": 64}
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$([1-9]\d{3,8}):([A-Za-z0-9+/]{8,100})={0,2}\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=\Z", re.ASCII
)


def password_hash(value: object) -> str:
    """A password as argon2id or an older system keeps it; never the password itself."""
    words = _wrong(value) if isinstance(value, str) else "?"
    if not isinstance(value, str) or words == "?":
        raise Misspelt(PASSWORD_HASH)
    if words:
        raise Misspelt(PASSWORD_HASH, words)
    return value


def scram_keys(value: object) -> str:
    """The keys of a password for SCRAM-SHA-256 (RFC 5803 has their parts)."""
    match = _SCRAM.match(value) if isinstance(value, str) else None
    if not isinstance(value, str) or match is None or len(match[2]) % 4 == 1:
        raise Misspelt(SCRAM_KEYS)
    if int(match[1]) > SCRAM_ITERATIONS_MAX:
        raise Misspelt(SCRAM_KEYS, f"these take more than {SCRAM_ITERATIONS_MAX} iterations; make new ones")
    return value


def _wrong(text: str) -> str:
    """Why a hash cannot be taken, ``"?"`` when it is none at all, else ``""``."""
    if match := _ARGON2ID.match(text):
        memory, passes, lanes = map(int, match.groups())
        if not (passes and lanes and memory >= 8 * lanes):
            return "?"
        if memory > ARGON2_MEMORY_MAX or memory * passes > ARGON2_WORK_MAX or lanes > ARGON2_LANES_MAX:
            return f"this one takes too much work: m at most {ARGON2_MEMORY_MAX}, m times t at most {ARGON2_WORK_MAX}"
    elif match := _BCRYPT.match(text):
        if int(match[1]) > BCRYPT_COST_MAX:
            return f"this one takes too much work: a cost of at most {BCRYPT_COST_MAX}"
        return "" if int(match[1]) >= 4 else "?"
    elif match := _SHA_CRYPT.match(text):
        if int(match[1] or match[2] or 0) > SHA_CRYPT_ROUNDS_MAX:
            return f"this one takes too much work: at most {SHA_CRYPT_ROUNDS_MAX} rounds"
    elif match := _SALTED_SHA.match(text):
        try:
            octets = binascii.a2b_base64(match[2], strict_mode=True)
        except ValueError:
            return "?"
        return "" if len(octets) > _DIGEST_SIZES[match[1]] else "?"
    else:
        return "?"
    return ""
