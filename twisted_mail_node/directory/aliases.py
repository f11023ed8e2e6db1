"""Follows aliases: from one address to all the mailboxes and remote addresses behind it, without running in circles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_checks import ALIAS_DEPTH

#: What one recipient may become. More is a mailing list, which needs a list manager and not an alias.
TARGETS_MAX = 1000


class Step(NamedTuple):
    """What one address means.

    :ivar name: the same for every spelling of the address.
    :ivar mailbox: where its mail ends if nothing leads further: an account here, or a remote address.
    :ivar leads_to: the addresses of its alias.
    """

    name: tuple[str, str]
    mailbox: Address | None
    leads_to: tuple[Address, ...] = ()


class Expansion(NamedTuple):
    """What is behind an address.

    :ivar targets: each once, in the order of the aliases.
    :ivar looped: a circle was found on the way.
    :ivar missing: addresses of ours on the way that nobody has.
    """

    targets: tuple[Address, ...]
    looped: bool = False
    missing: tuple[Address, ...] = ()


class _TooMuch(Exception):
    """Deeper or wider than we follow."""


def expand(start: Address, look: Callable[[Address], Step | None]) -> Expansion:
    """Everything behind ``start``.

    An alias that leads back to an address being followed ends there: in that address's account if there is one
    (someone forwards and keeps a copy), else it is a circle; the other branches still count. Chains deeper than
    ``ALIAS_DEPTH`` or wider than ``TARGETS_MAX`` give no targets at all: better to refuse than to reach only some.

    :param look: what an address means; ``None`` when it is ours and nobody has it.
    """
    targets: dict[tuple[str, str], Address] = {}
    missing: list[Address] = []
    finished: set[tuple[str, str]] = set()
    trail: dict[tuple[str, str], None] = {}
    looped = False

    def follow(address: Address) -> None:
        nonlocal looped
        step = look(address)
        if step is None:
            missing.append(address)
        elif not step.leads_to or step.name in trail:
            if step.mailbox is None:
                looped = True
            elif len(targets) >= TARGETS_MAX and step.name not in targets:
                raise _TooMuch
            else:
                targets.setdefault(step.name, step.mailbox)
        elif step.name not in finished:
            if len(trail) >= ALIAS_DEPTH:
                raise _TooMuch
            trail[step.name] = None
            for further in step.leads_to:
                follow(further)
            del trail[step.name]
            finished.add(step.name)

    try:
        follow(start)
    except _TooMuch:
        return Expansion((), True, tuple(missing))
    return Expansion(tuple(targets.values()), looped, tuple(missing))
