"""A greylisting policy (RFC 6647): who is new is asked to come again, which mail servers do and bulk senders rarely.

A plug-in is a file in a folder ``twisted/plugins`` (without ``__init__.py``) anywhere on the path of Python. To use
this one, copy it to ``plugins/twisted/plugins/policy_greylist.py``, name it in the settings:

    [[policy]]
    name = "greylist"
    wait = 300            # seconds until a new sender may come again

and start the node with that path: ``PYTHONPATH=plugins mailnode run -c settings.toml``.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_mail_node.interfaces import IPolicyMaker
from twisted_mail_node.net.limits import network_of
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.smtp.reply import Reply

#: Senders kept in memory, some 300 octets each; the longest unseen are forgotten first.
KNOWN_MAX = 100_000
LATER = Reply.make(451, "4.7.1", "You are new here; please come again in a few minutes")


class Greylist(Policy):
    """Remembers when each (network, reverse-path, forward-path) was first seen. Submission is left alone."""

    name = "greylist"

    def __init__(self, wait: float, now: Callable[[], float] = time.time) -> None:
        self._wait = wait
        self._now = now
        self._first: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def rcpt(self, asked: Asked) -> Verdict | None:
        if asked.may_relay or asked.listener != "mx":
            return None
        key = (network_of(asked.client), str(asked.reverse_path), str(asked.forward_path))
        first = self._first.setdefault(key, self._now())
        self._first.move_to_end(key)
        if len(self._first) > KNOWN_MAX:
            self._first.popitem(last=False)
        if self._now() - first >= self._wait:
            return None
        return Refuse(LATER, evidence=f"seen first {self._now() - first:.0f} s ago")


@implementer(IPlugin, IPolicyMaker)
class Maker:
    """Makes the policy from its table in the settings."""

    name = "greylist"

    def make(self, options: dict[str, object]) -> Greylist:
        wait = options.pop("wait", 300)
        if options or not isinstance(wait, int | float) or not 0 <= wait <= 86400:
            raise ValueError("it has one option, wait: seconds from 0 to 86400")
        return Greylist(wait)


greylist = Maker()
