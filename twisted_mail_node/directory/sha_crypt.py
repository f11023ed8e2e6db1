"""SHA-256 and SHA-512 crypt, the hashes ``$5$`` and ``$6$`` of ``/etc/shadow`` (Ulrich Drepper, "Unix crypt using
SHA-256 and SHA-512", 2007). For comparing with what older systems kept; nothing new is hashed with it.

Python's own ``crypt`` is gone since 3.13, and it held the interpreter for the whole time of a hash. This takes some
10 ms for the usual 5000 rounds and lets others run in between: call it in a thread.
"""

from __future__ import annotations

import hashlib
import re

ROUNDS_DEFAULT = 5000
#: What the specification allows; fewer and more are taken for these.
ROUNDS_MIN, ROUNDS_MAX = 1000, 999_999_999
#: Characters of a salt that count.
SALT_MAX = 16

_FORM = re.compile(r"\$([56])\$(?:rounds=(\d{1,9})\$)?([^$]{0,16})\$([./0-9A-Za-z]+)\Z", re.ASCII)
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# What a round adds around the last digest repeats after 2 * 3 * 7 rounds.
_CYCLE = 42


def sha_crypt(password: bytes, kept: str) -> str:
    """The hash of ``password`` with the kind, the rounds and the salt of ``kept``: equal to it for the right one.

    :raises ValueError: ``kept`` is no such hash.
    """
    match = _FORM.match(kept)
    if match is None:
        raise ValueError("no SHA-256 or SHA-512 crypt")
    kind, given, salt, _ = match.groups()
    rounds = min(max(int(given), ROUNDS_MIN), ROUNDS_MAX) if given else ROUNDS_DEFAULT
    digest = _digest(password, salt.encode(), rounds, "sha256" if kind == "5" else "sha512")
    prefix = f"${kind}$rounds={rounds}$" if given else f"${kind}$"
    return f"{prefix}{salt}${_encoded(digest)}"


def _digest(password: bytes, salt: bytes, rounds: int, name: str) -> bytes:
    new = getattr(hashlib, name)
    size = new().digest_size
    second = new(password + salt + password).digest()
    octets = password + salt + _repeated(second, len(password))
    length = len(password)
    while length:
        octets += second if length & 1 else password
        length >>= 1
    digest: bytes = new(octets).digest()
    p = _repeated(new(password * len(password)).digest(), len(password))
    s = _repeated(new(salt * (16 + digest[0])).digest(), len(salt))
    assert len(digest) == size
    # Of round i: the odd ones have the digest at the end, the even ones at the beginning.
    around = []
    for i in range(_CYCLE):
        middle = (s if i % 3 else b"") + (p if i % 7 else b"")
        around.append((p + middle, b"") if i & 1 else (b"", middle + p))
    whole, rest = divmod(rounds, _CYCLE)
    for turn in [around] * whole + [around[:rest]]:
        for before, after in turn:
            digest = new(before + digest + after).digest()
    return digest


def _repeated(octets: bytes, length: int) -> bytes:
    return (octets * (length // len(octets) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """In groups of three octets, a third of the digest apart, turned by one place from group to group."""
    third = len(digest) // 3
    turn = -1 if len(digest) == 64 else 1  # SHA-512 goes 0 21 42, 22 43 1 …; SHA-256 goes 0 10 20, 21 1 11 …
    places = [0, third, 2 * third]
    text = ""
    for group in range(third):
        first, middle, last = (digest[place + group] for place in _turned(places, group * turn))
        text += _characters(first << 16 | middle << 8 | last, 4)
    if len(digest) == 64:
        return text + _characters(digest[63], 2)
    return text + _characters(digest[31] << 8 | digest[30], 3)


def _turned(places: list[int], by: int) -> list[int]:
    by %= 3
    return places[-by:] + places[:-by] if by else places


def _characters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(count))
