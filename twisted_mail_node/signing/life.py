"""The life of a key, as values: new, active, retiring, retired (RFC 6376 section 6.1.2 is why).

========  ==================================================================  ====================================
State     What it means                                                       What ends it
========  ==================================================================  ====================================
new       made, and its record is to be published; nothing is signed with it  all name servers show the record; or
                                                                              an operator, ``--now``: active
active    signs                                                               another replaces it, or an operator
                                                                              does not want it: retiring
retiring  signs no more; its record stays, for mail that is under way         its time (``retire_after``): retired
retired   its private key is deleted; its record can go, and is forgotten     ``FORGET_AFTER``: not even listed
========  ==================================================================  ====================================

A new key that is not wanted any more is retired at once. Everything here is pure: tuples of keys in, tuples out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from math import isfinite
from typing import Any, Literal, NamedTuple

Kind = Literal["rsa", "ed25519"]
#: What each kind signs with (RFC 8463, RFC 8301 section 3.1).
ALGORITHMS: dict[Kind, str] = {"rsa": "rsa-sha256", "ed25519": "ed25519-sha256"}

#: Keys that one domain may have; a dozen is more than anybody uses.
KEYS_MAX = 50
#: Seconds until a retired key is forgotten: its selector may be used again, and nobody need know it was there.
FORGET_AFTER = 30 * 86400.0
#: The form of the file.
VERSION = 1

#: RFC 6376 section 3.1: sub-domains of RFC 5321, in lower case. It names a file too (attack T19).
_SELECTOR = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
#: Octets of a selector: with ``._domainkey.`` and a domain it must be a name of at most 253.
SELECTOR_MAX = 63


class FormError(ValueError):
    """What is written down of keys cannot be understood; the words follow the file's name."""


class KeyState(StrEnum):
    """See the table above."""

    NEW = "new"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


class Key(NamedTuple):
    """What is known of one key of a domain; its private part lies in a file of its own.

    :ivar algorithm: a value of ``ALGORITHMS``.
    :ivar record: the text of its TXT record.
    :ivar created: when it was made, seconds since the epoch.
    :ivar since: since when it is in this state.
    :ivar replaces: selectors of the keys that retire once it is active.
    :ivar published: the node itself put the record into the DNS, so it takes it out again.
    """

    selector: str
    algorithm: str
    bits: int
    record: str
    state: KeyState
    created: float
    since: float
    replaces: tuple[str, ...] = ()
    published: bool = False

    @property
    def kind(self) -> Kind:
        """``rsa`` or ``ed25519``."""
        return "rsa" if self.algorithm == ALGORITHMS["rsa"] else "ed25519"


Keys = tuple[Key, ...]


def is_selector(text: str) -> bool:
    """Whether a text can be a selector of ours."""
    return len(text) <= SELECTOR_MAX and _SELECTOR.fullmatch(text) is not None


def find(keys: Keys, selector: str) -> Key | None:
    """The key of this selector."""
    return next((key for key in keys if key.selector == selector), None)


def in_state(keys: Keys, *states: KeyState) -> Keys:
    """Those in one of these states."""
    return tuple(key for key in keys if key.state in states)


def with_new(keys: Keys, made: Iterable[Key]) -> Keys:
    """More keys.

    :raises ValueError: a selector is there already, or there are too many.
    """
    made = tuple(made)
    for key in made:
        there = find(keys, key.selector)
        if there is not None:
            raise ValueError(f"there is a key {key.selector} already; it is {there.state}")
    if len(keys) + len(made) > KEYS_MAX:
        raise ValueError(f"a domain has at most {KEYS_MAX} keys; those that are retired are forgotten in time")
    return keys + made


def activated(keys: Keys, selector: str, now: float) -> Keys:
    """A new key signs from now on, and those that it replaces do not."""
    chosen = find(keys, selector)
    if chosen is None or chosen.state is not KeyState.NEW:
        return keys
    keys = _moved(keys, {selector}, KeyState.ACTIVE, now)
    replaced = {key.selector for key in in_state(keys, KeyState.ACTIVE) if key.selector in chosen.replaces}
    return _moved(keys, replaced, KeyState.RETIRING, now)


def retired(keys: Keys, selector: str, now: float, *, at_once: bool = False) -> Keys:
    """A key is not wanted any more.

    :param at_once: even its record is not needed.
    :raises ValueError: there is no such key, or nothing is left to do.
    """
    key = find(keys, selector)
    if key is None:
        names = ", ".join(one.selector for one in keys) or "none"
        raise ValueError(f"there is no key {selector}; there are: {names}")
    if key.state is KeyState.RETIRED:
        raise ValueError(f"the key {selector} is retired already")
    if key.state is KeyState.RETIRING and not at_once:
        raise ValueError(f"the key {selector} is retiring already; with --now it is retired at once")
    final = at_once or key.state is KeyState.NEW
    return _moved(keys, {selector}, KeyState.RETIRED if final else KeyState.RETIRING, now)


def aged(keys: Keys, now: float, retire_after: float) -> Keys:
    """What time alone does: retiring keys are retired, and retired ones forgotten, once a record of ours is gone."""
    done = {key.selector for key in in_state(keys, KeyState.RETIRING) if now - key.since >= retire_after}
    keys = _moved(keys, done, KeyState.RETIRED, now)
    return tuple(
        key
        for key in keys
        if key.state is not KeyState.RETIRED or key.published or now - key.since < FORGET_AFTER
    )  # fmt: skip


def publishing(keys: Keys, selector: str, published: bool) -> Keys:
    """The node put the record of a key into the DNS, or took it out."""
    return _with(keys, {selector}, lambda key: key._replace(published=published))


def _moved(keys: Keys, selectors: set[str], state: KeyState, now: float) -> Keys:
    return _with(keys, selectors, lambda key: key._replace(state=state, since=now))


def _with(keys: Keys, selectors: set[str], change: Callable[[Key], Key]) -> Keys:
    return tuple(change(key) if key.selector in selectors else key for key in keys)


# ---- as it is written down -----------------------------------------------------------------------------------------


def written(keys: Keys) -> bytes:
    """JSON, for the file."""
    shape = {"version": VERSION, "keys": [key._asdict() for key in keys]}
    return json.dumps(shape, indent=1).encode("ascii") + b"\n"


def understood(octets: bytes) -> Keys:
    """The keys of a file.

    :raises FormError: they cannot be understood.
    """
    try:
        shape = json.loads(octets)
    except (ValueError, RecursionError):
        raise FormError("is not JSON") from None
    if not isinstance(shape, dict) or not isinstance(shape.get("keys"), list):
        raise FormError("holds no list of keys")
    if shape.get("version") != VERSION:
        raise FormError("was written by a newer version of the node")
    keys = tuple(_key(one) for one in shape["keys"])
    if len({key.selector for key in keys}) < len(keys):
        raise FormError("names a selector twice")
    return keys


def _key(shape: Any) -> Key:
    try:
        key = Key(
            str(shape["selector"]), str(shape["algorithm"]), int(shape["bits"]), str(shape["record"]),
            KeyState(shape["state"]), float(shape["created"]), float(shape["since"]),
            tuple(str(one) for one in shape.get("replaces", ())), bool(shape.get("published", False)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise FormError("holds a key that cannot be understood") from None
    if not is_selector(key.selector) or key.algorithm not in ALGORITHMS.values():
        raise FormError("holds a selector or an algorithm that cannot be")
    if not (isfinite(key.created) and isfinite(key.since)):
        raise FormError("holds a time that cannot be")
    return key
