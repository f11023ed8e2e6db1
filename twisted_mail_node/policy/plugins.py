"""Finds the policies that the settings name among the installed plug-ins (``twisted.plugin``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from twisted.plugin import getPlugins

from twisted_mail_node.interfaces import IPolicy, IPolicyMaker

if TYPE_CHECKING:
    from twisted_mail_node.settings import PolicySettings


def installed() -> Iterable[IPolicyMaker]:
    """Every maker of policies that is installed."""
    makers: Iterable[IPolicyMaker] = getPlugins(IPolicyMaker)
    return makers


def policies(wanted: Iterable[PolicySettings], find: Callable[[], Iterable[IPolicyMaker]] = installed) -> list[IPolicy]:
    """The policies of the settings, in their order.

    :raises ValueError: one is not installed, or its options are wrong; the sentence says which.
    """
    wanted = list(wanted)
    if not wanted:
        return []
    makers = {maker.name: maker for maker in find()}
    made: list[IPolicy] = []
    for number, settings in enumerate(wanted, 1):
        maker = makers.get(settings.name)
        where = f"policy[{number}].name"
        if maker is None:
            close = get_close_matches(settings.name, makers, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            names = ", ".join(sorted(makers)) or "none"
            raise ValueError(f"{where}: no policy {settings.name!r} is installed (installed: {names}){hint}")
        try:
            made.append(maker.make(dict(settings.options)))
        except ValueError as error:
            raise ValueError(f"policy[{number}] ({settings.name}): {error}") from error
    return made
