"""The Sender Rewriting Scheme (SRS): a reverse-path of somebody else's, written as an address of ours (RFC 7208 D.2).

``joe@example.net`` becomes ``SRS0=hhhhhhhh=tt=example.net=joe@ours.example``: a keyed hash, the day, the domain and the
local-part. What another forwarder has written so already becomes ``SRS1=hhhhhhhh=theirs.example==…@ours.example``: its
bounce goes back to that forwarder at once, however many stood between.

Nothing is stored. Hash and day are base32, and the hash is one of the text in lower case: hosts on the way may fold
the case of a local-part, though RFC 5321 section 2.4 forbids it. What was folded comes back folded.

The hash has 40 bits, each guess is a RCPT, and a right guess reaches one address for some weeks: enough against
strangers who look for a relay. Several keys may be in force: the first signs, all are believed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from enum import Enum

from twisted_mail_node.message.address import Address

#: Octets of a local-part that every host must take (RFC 5321 section 4.5.3.1.1).
LOCAL_PART_MAX = 64
DAY = 86400.0
#: Days after which the two letters of the day begin anew.
DAYS = 1024
#: The most days an address may be good for: yesterday must not be read as next year.
LIFETIME_MAX = 1000

_HASH = 8
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TAG = re.compile(r"SRS[01][=+-]", re.ASCII | re.IGNORECASE)
_OURS = re.compile(r"(SRS[01])=([A-Z2-7]{8})=(.*)\Z", re.ASCII | re.IGNORECASE | re.DOTALL)
_FIRST = re.compile(r"([A-Z2-7]{2})=([^=]+)=(.+)\Z", re.ASCII | re.IGNORECASE | re.DOTALL)
_FURTHER = re.compile(r"([^=]+)=([=+-].+)\Z", re.DOTALL)


class Wrong(Enum):
    """Why an address in the form of SRS leads nowhere."""

    FORGED = "forged"  #: we did not write it, or somebody changed it
    EXPIRED = "expired"  #: we did, too long ago


class Srs:
    """Writes and reads such addresses.

    :param keys: at least one; the first signs.
    :param domain: ours, that of the addresses.
    :param lifetime: days that an address is good for, beside the day on which it is written.
    :param longest: octets that a local-part may have.
    """

    def __init__(self, keys: Sequence[bytes], domain: str, lifetime: int, longest: int = LOCAL_PART_MAX) -> None:
        """:raises ValueError: no key, an empty key, or a lifetime that the days cannot tell."""
        if not keys or not all(keys):
            raise ValueError("SRS needs a key")
        if not 1 <= lifetime <= LIFETIME_MAX:
            raise ValueError(f"an SRS address may be good for 1 to {LIFETIME_MAX} days, not {lifetime}")
        self._keys = tuple(keys)
        self.domain = domain
        self._lifetime = lifetime
        self._longest = longest

    def write(self, address: Address, now: float) -> Address | None:
        """The address as one of ours; ``None`` when its local-part would be too long.

        :param now: seconds since the epoch.
        """
        local_part = address.local_part
        if not _TAG.match(local_part):
            tag, rest = "SRS0", f"{_day(now)}={address.domain}={local_part}"
        elif local_part[3] == "0":
            tag, rest = "SRS1", f"{address.domain}={local_part[4:]}"
        else:
            first = _FURTHER.match(local_part[5:].partition("=")[2])
            if first is None:  # not what it seems
                tag, rest = "SRS0", f"{_day(now)}={address.domain}={local_part}"
            else:
                tag, rest = "SRS1", f"{first[1]}={first[2]}"
        written = f"{tag}={_hash(self._keys[0], tag, rest)}={rest}"
        if len(written.encode("utf-8", "surrogatepass")) > self._longest:
            return None
        return Address(written, self.domain)

    def read(self, address: Address, now: float) -> Address | Wrong:
        """What was written, or why it is not believed. It is what we once were told, and no more an address than that.

        :param now: seconds since the epoch.
        """
        found = _OURS.match(address.local_part)
        if found is None:
            return Wrong.FORGED
        tag, rest = found[1].upper(), found[3]
        given = found[2].upper()
        # All keys are tried, so that time tells nothing of which was near.
        good = [hmac.compare_digest(given, _hash(key, tag, rest)) for key in self._keys]
        if not any(good):
            return Wrong.FORGED
        return self._first(rest, now) if tag == "SRS0" else _further(rest)

    def _first(self, rest: str, now: float) -> Address | Wrong:
        parts = _FIRST.match(rest)
        if parts is None:
            return Wrong.FORGED
        age = (_number(_day(now)) - _number(parts[1])) % DAYS
        if age > self._lifetime and age != DAYS - 1:  # clocks differ: tomorrow is not yet long ago
            return Wrong.EXPIRED
        return Address(parts[3], parts[2])


def is_srs(local_part: str) -> bool:
    """Whether a local-part begins as those that we write do."""
    return local_part[:5].upper() in ("SRS0=", "SRS1=")


def _further(rest: str) -> Address | Wrong:
    parts = _FURTHER.match(rest)
    return Wrong.FORGED if parts is None else Address(f"SRS0{parts[2]}", parts[1])


def _hash(key: bytes, tag: str, rest: str) -> str:
    text = f"{tag}={rest}".lower().encode("utf-8", "surrogatepass")
    number = int.from_bytes(hmac.new(key, text, hashlib.sha256).digest()[:5], "big")
    return "".join(_LETTERS[number >> shift & 31] for shift in range(0, 5 * _HASH, 5))


def _day(now: float) -> str:
    day = int(now // DAY) % DAYS
    return _LETTERS[day >> 5] + _LETTERS[day & 31]


def _number(letters: str) -> int:
    letters = letters.upper()
    return _LETTERS.index(letters[0]) << 5 | _LETTERS.index(letters[1])
