"""What would become of a mail to an address, and why: the directory's answer, the rule, the way, and when it would go.

Nothing is sent and nobody is connected to; only the DNS is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.admin.messages import Shape
from twisted_mail_node.admin.suppress_orders import as_shape
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import Route, Router
from twisted_mail_node.state.suppressions import Suppressed
from twisted_mail_node.waiting import DeadlineError, within

#: Addresses behind one that are followed.
TARGETS_MAX = 20
#: Seconds for the DNS about one next hop.
LOOK_UP_TIME = 20.0


class Relay(Protocol):
    """What is asked of ``outbound.relay.RelayManager``."""

    async def explain(
        self, next_hop: str, tls: Any, *, transport: Any, credentials: str, source: str
    ) -> dict[str, object]:
        """See there."""


class RouteInquiry:
    """Answers for one node, running or not.

    :param queue: gives what the queue knows of destinations (``OutgoingQueue.status``); ``None``: there is no queue.
    :param suppressed: gives what the suppression list says of an address (``Suppressions.find``).
    """

    def __init__(
        self,
        directory: Directory,
        router: Router,
        relay: Relay,
        clock: IReactorTime,
        queue: Callable[[], Mapping[str, object]] | None = None,
        suppressed: Callable[[Address], Suppressed | None] = lambda address: None,
    ) -> None:
        self._directory = directory
        self._router = router
        self._relay = relay
        self._clock = clock
        self._queue = queue
        self._suppressed = suppressed

    async def answer(self, address: Address, sender: Address | None, account: str) -> Shape:
        """All of it, as JSON shows it.

        :param sender: the reverse-path.
        :param account: that signed in, ``""``: none.
        """
        envelope = Envelope(sender, account=account)
        resolution = await self._directory.resolve(address)
        listed = () if self._queue is None else self._queue().get("destinations", ())
        targets = []
        for target in resolution.targets[:TARGETS_MAX]:
            targets.append(await self._target(Recipient(target, address), envelope, listed))
        words = _meaning(address, resolution.local, resolution.expanded, resolution.problem)
        return {
            "address": str(address),
            "sender": "" if sender is None else str(sender),
            "account": account,
            "directory": {
                "local": resolution.local,
                "expanded": resolution.expanded,
                "problem": None if resolution.problem is None else str(resolution.problem),
                "words": words,
                "targets": [str(target) for target in resolution.targets],
            },
            "targets": targets,
            "running": self._queue is not None,
        }

    async def _target(self, recipient: Recipient, envelope: Envelope, listed: Any) -> Shape:
        """One address behind it."""
        address = recipient.address
        route = self._router.find(address.domain, envelope)
        steps = self._router.explain(address, envelope)
        shape: Shape = {
            "address": str(address),
            "rules": [step._asdict() for step in steps],
            "route": route._asdict(),
            "way": None,
            "destination": None,
            "reverse_path": None,
            "suppressed": None,
        }
        if route.agent == "relay":
            rewritten = self._directory.forwarding.reverse_path(envelope, recipient)
            shape["reverse_path"] = None if rewritten is None else str(rewritten)
            shape["way"] = await self._way(route)
            shape["destination"] = _standing(route.next_hop, listed)
        elif route.agent == "maildir":
            shape["maildir"] = str(self._directory.maildir_path(address))
        shape["expected"] = _expected(route, shape["way"], shape["destination"])
        one = self._suppressed(address)
        if one is not None:
            shape["suppressed"] = as_shape(one)
            words = "it would be returned untried: the address is on the suppression list"
            shape["expected"] = {"when": "never", "until": None, "words": words}
        return shape

    async def _way(self, route: Route) -> dict[str, object]:
        asked = self._relay.explain(
            route.next_hop,
            route.tls,
            transport=route.transport,
            credentials=route.credentials,
            source=route.source,
        )
        try:
            return await within(self._clock, LOOK_UP_TIME, asked)
        except DeadlineError:
            words = f"the DNS did not answer within {LOOK_UP_TIME:g} s"
            return {"problem": {"permanent": False, "reason": str(Reason.DNS_FAILED), "words": words}}


def _meaning(address: Address, local: bool, expanded: bool, problem: Reason | None) -> str:
    """The directory's answer in words."""
    if problem is not None:
        return f"RCPT is refused: {problem.meaning}"
    if not local:
        return f"{address.domain} is not local; who may send there is decided by who asks (relay_from, AUTH)"
    return "an alias or catch-all leads to other addresses" if expanded else "somebody here has the address"


def _standing(next_hop: str, listed: Sequence[Mapping[str, Any]]) -> Shape | None:
    """How the destination stands, as the queue lists it; ``None`` when nothing is known."""
    for one in listed:
        if one.get("destination") == next_hop:
            until = one.get("suspended_until", one.get("until"))
            state = one.get("state", "suspended" if until else "open")
            return {"state": state, "until": until, "waiting": one.get("waiting", 0), "words": one.get("words", "")}
    return None


def _expected(route: Route, way: Any, standing: Shape | None) -> Shape:
    """When it would go: ``when`` is ``now``, ``later`` (with ``until``, where that is known) or ``never``."""
    if route.agent == "none":
        return {"when": "never", "until": None, "words": f"it would be returned: {route.next_hop}"}
    if route.agent != "relay":
        return {"when": "now", "until": None, "words": "into the mailbox"}
    problem = way.get("problem")
    if problem is not None:
        if problem["permanent"]:
            return {"when": "never", "until": None, "words": f"it would be returned: {problem['words']}"}
        return {"when": "later", "until": None, "words": f"it would be tried again: {problem['words']}"}
    if standing is not None and standing["state"] != "open":
        words = f"the destination is {standing['state']}: {standing['words']}"
        return {"when": "later", "until": standing["until"], "words": words}
    return {"when": "now", "until": None, "words": "the first host that is ready gets it"}
