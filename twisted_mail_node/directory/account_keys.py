"""The keys of a password for SCRAM as they are written: in the settings (RFC 5803 has the parts) and in JSON."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

from twisted_mail_node.smtp.scram import HASH_SIZES

#: StoredKey and ServerKey by the name of the hash (``SHA-256``).
Keys = Mapping[str, tuple[bytes, bytes]]


def parse_scram(text: str) -> tuple[bytes, int, Keys]:
    """Salt, iterations and keys of ``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey``, which the settings checked.

    :raises ValueError: it is not so.
    """
    mechanism, parameters, both = text.split("$")
    iterations, _, salt = parameters.partition(":")
    padded = salt.rstrip("=")
    stored, _, server = both.partition(":")
    keys = {mechanism.removeprefix("SCRAM-"): (b64decode(stored), b64decode(server))}
    return b64decode(padded + "=" * (-len(padded) % 4)), int(iterations), keys


def spell_scram(salt: bytes, iterations: int, keys: Keys, hash_name: str = "SHA-256") -> str:
    """The text that ``parse_scram`` reads."""
    stored, server = keys[hash_name]
    return f"SCRAM-{hash_name}${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def as_json(keys: Keys) -> dict[str, str]:
    """``{"SHA-256": "StoredKey:ServerKey"}``."""
    return {name: f"{_text(stored)}:{_text(server)}" for name, (stored, server) in keys.items()}


def from_json(table: object) -> Keys:
    """What ``as_json`` gave.

    :raises ValueError: it is not that.
    """
    if not isinstance(table, dict):
        raise ValueError("keys are a table")
    keys = {}
    for name, text in table.items():
        size = HASH_SIZES.get(name)
        parts = [b64decode(part, validate=True) for part in text.split(":")] if isinstance(text, str) else []
        if size is None or [len(part) for part in parts] != [size, size]:
            raise ValueError("no keys")
        keys[name] = (parts[0], parts[1])
    return keys


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")
