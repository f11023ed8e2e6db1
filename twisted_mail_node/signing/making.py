"""Makes keys: the private key, its selector, and the record to publish (RFC 6376 section 3.3, RFC 8301, RFC 8463)."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.signing.life import ALGORITHMS, Key, KeyState, Kind, is_selector

#: Bits of an RSA key, if nobody says how many: RFC 8301 section 3.2 wants 2048 of signers.
BITS = 2048
#: Verifiers must take 1024 to 4096 (RFC 8301 section 3.2); below 2048 nobody should sign.
BITS_MIN, BITS_MAX = 2048, 4096
#: The last letter of selectors that we choose.
_LETTERS: dict[Kind, str] = {"rsa": "r", "ed25519": "e"}


class Wish(NamedTuple):
    """A key that is to be made.

    :ivar bits: of an RSA key.
    :ivar replaces: selectors of the keys that retire once it is active.
    """

    kind: Kind
    selector: str
    bits: int = BITS
    replaces: tuple[str, ...] = ()


def selectors(kinds: Sequence[Kind], taken: Collection[str], now: float, wanted: str = "") -> list[str]:
    """A selector for each kind: the day and a letter, such as ``20261128r``; the day's second is ``20261128-2r``.

    :param wanted: what an operator wants; with several kinds the letter is added to it.
    :raises ValueError: it can be none.
    """
    wanted = wanted.lower()  # names in the DNS are the same in both
    if wanted:
        chosen = [wanted] if len(kinds) == 1 else [wanted + _LETTERS[kind] for kind in kinds]
        if not all(map(is_selector, chosen)):
            raise ValueError(f"{wanted!a} can be no selector: letters, digits and hyphens, such as {_day(now)}")
        return chosen
    day, number = _day(now), 1
    while True:
        begin = day if number == 1 else f"{day}-{number}"
        chosen = [begin + _LETTERS[kind] for kind in kinds]
        if not any(begin + letter in taken for letter in _LETTERS.values()):
            return chosen
        number += 1


def _day(now: float) -> str:
    return time.strftime("%Y%m%d", time.gmtime(now))


def made(domain: str, wish: Wish, now: float) -> tuple[Key, bytes]:
    """A key and its private key as PEM (PKCS#8). RSA takes a tenth of a second to some; do it in a thread.

    :raises ValueError: nobody signs with so few or so many bits.
    """
    private: RSAPrivateKey | Ed25519PrivateKey
    if wish.kind == "ed25519":
        private, bits = Ed25519PrivateKey.generate(), 256
    else:
        if not BITS_MIN <= wish.bits <= BITS_MAX:
            raise ValueError(f"an RSA key has {BITS_MIN} to {BITS_MAX} bits (RFC 8301 section 3.2), not {wish.bits}")
        private, bits = generate_private_key(65537, wish.bits), wish.bits
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    record = SigningKey.load(pem, domain, wish.selector).public_record()
    algorithm = ALGORITHMS[wish.kind]
    return Key(wish.selector, algorithm, bits, record, KeyState.NEW, now, now, wish.replaces), pem
