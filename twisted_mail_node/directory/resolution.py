"""What an address means to the directory."""

from __future__ import annotations

from typing import NamedTuple

from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason


class Resolution(NamedTuple):
    """The directory's answer about one address.

    :ivar local: the domain is ours.
    :ivar targets: where its mail goes: mailboxes of accounts here and remote addresses; the address itself when it
        is remote; empty when nobody has it.
    :ivar expanded: an alias or a catch-all was followed.
    :ivar problem: why ``targets`` is empty (``UNKNOWN_RECIPIENT``, ``ALIAS_LOOP``, ``SRS_FORGED``, ``SRS_EXPIRED``),
        else ``None``.
    :ivar returns: a reverse-path that we rewrote: bounces go to ``targets``, and nothing else does.
    """

    local: bool
    targets: tuple[Address, ...]
    expanded: bool = False
    problem: Reason | None = None
    returns: bool = False
