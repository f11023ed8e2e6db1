"""Why a recipient was not reached: what stands behind a delivery status, its kind, and what can be done about it.

Pure. ``understand`` is asked for every status that is no success; the queue keeps the cause's code with the recipient,
and listings, DSNs, the history and the command line show the rest of it.

What is known stands in two files beside this one: ``causes.toml`` (the causes and their sentences) and
``replies.toml`` (which replies of other hosts mean them). Where a host spoke, its words decide; where it did not, our
own reason does. A cause's ``permanent`` tells what is true of the cause: "user unknown" will not be better tomorrow,
whether the host said it with 550 or with 450. What the queue does goes by the status's action alone, for the host
may know better (RFC 5321 section 4.2.1).
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from functools import cache, lru_cache
from importlib import resources
from typing import Any, NamedTuple

from twisted_mail_node.message.reply_rules import TEXT_MAX, Rules, Said, begin_of_reply, take_apart
from twisted_mail_node.message.status import DeliveryStatus
from twisted_mail_node.reasons import Reason

#: Replies whose cause is kept: hosts say the same few for many mails, but most name a recipient or a session.
KNOWN_MAX = 1024

#: Reasons that say no more than that a host refused: words tell why.
_REMOTE = frozenset({Reason.REMOTE_DELAYED, Reason.REMOTE_REFUSED})
#: Reasons behind which a host's own words may stand; where it said something, they tell more.
_SPOKEN = _REMOTE | {Reason.HOST_NOT_READY, Reason.HOST_REFUSED, Reason.SLOWED, Reason.EXPIRED}
#: Codes of the causes that mean: not understood.
_VAGUE = frozenset({"delayed", "refused"})


class Kind(StrEnum):
    """What a cause is about."""

    ADDRESS = "address"  #: nobody has the address, or it moved
    MAILBOX = "mailbox"  #: the mailbox is full or takes no mail now
    REPUTATION = "reputation"  #: the host does not trust our address or domain
    RATE = "rate"  #: too much at once: the host wants it slower
    POLICY = "policy"  #: the host does not want this mail: its content, its authentication, its sender
    TLS = "tls"  #: no connection as protected as it must be
    DNS = "dns"  #: the DNS says no, or nothing
    PROTOCOL = "protocol"  #: the two hosts did not understand each other, or the mail needs what the host lacks
    NETWORK = "network"  #: no connection, or it broke
    HERE = "here"  #: something of this node: held, frozen, its disk, its settings

    def __str__(self) -> str:
        return str(self.value)


class Cause(NamedTuple):
    """What is known about a failure.

    :ivar code: its name, which never changes: ``gmail-rate-limited``, ``mailbox-full``.
    :ivar permanent: trying again will not help.
    :ivar title: a sentence that says what happened.
    :ivar advice: a sentence or two for the sender: what to do.
    :ivar operator: a sentence or two for the postmaster of this node: what to do.
    """

    code: str
    kind: Kind
    permanent: bool
    title: str
    advice: str
    operator: str


def understand(status: DeliveryStatus) -> Cause:
    """What stands behind a delivery status. Any status has a cause; that of a success is ``no-failure``."""
    reason = status.reason
    if reason in _REMOTE or (status.from_remote and reason in _SPOKEN):
        return _of_words(status.words[:TEXT_MAX], status.remote_host, status.status, reason)
    return known().of_reason[reason]


def understand_reply(text: str, host: str = "") -> Cause:
    """What stands behind a reply as a log or a bounce shows it: ``550 5.7.26 …``, on one line or several.

    :param host: the name of the host that said it, where it is known.
    """
    said = take_apart(begin_of_reply(text))
    if said.code.startswith(("2", "3")):
        return known().causes["no-failure"]
    failed = not said.code.startswith("4")
    return _fitting(said, host) or known().causes["refused" if failed else "delayed"]


def is_reply(text: str) -> bool:
    """Whether there is anything in the text to understand: a reply code, an enhanced status code, or known words."""
    said = take_apart(begin_of_reply(text))
    return bool(said.code) or _fitting(said, "") is not None


def cause_named(code: str) -> Cause | None:
    """The cause with this code."""
    return known().causes.get(code)


def codes_of(word: str) -> tuple[str, ...]:
    """The codes that a person means by ``word``: a code itself, or a kind with all its causes; none for any other."""
    if word in known().causes:
        return (word,)
    return tuple(code for code, cause in known().causes.items() if cause.kind == word)


def causes() -> tuple[Cause, ...]:
    """All of them, in the order of the file."""
    return tuple(known().causes.values())


class Known(NamedTuple):
    """What the two files say.

    :ivar causes: by code.
    :ivar of_reason: what each of our own reasons means.
    """

    causes: dict[str, Cause]
    of_reason: dict[Reason, Cause]
    rules: Rules


@cache
def known() -> Known:
    """Read the files, once."""
    found: dict[str, Cause] = {}
    of_reason: dict[Reason, Cause] = {}
    reasons = {str(reason): reason for reason in Reason}
    for code, table in _read("causes.toml").items():
        sentences = [str(table[name]) for name in ("title", "advice", "operator")]
        found[code] = cause = Cause(code, Kind(table["kind"]), bool(table["permanent"]), *sentences)
        of_reason |= {reasons[reason]: cause for reason in table.get("reasons", ())}
    return Known(found, of_reason, Rules(_read("replies.toml")))


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("twisted_mail_node.message") / name).read_text("utf-8"))


@lru_cache(maxsize=KNOWN_MAX)
def _of_words(words: str, host: str, status: str, reason: Reason) -> Cause:
    """A host's words, or what our reason says when nobody understands them."""
    # The status of what expired is ours; one that ends in .0.0 only says its class.
    enhanced = "" if reason is Reason.EXPIRED or status.endswith(".0.0") else status
    cause = _fitting(take_apart(words, enhanced), host)
    return known().of_reason[reason] if cause is None or cause.code in _VAGUE else cause


def _fitting(said: Said, host: str) -> Cause | None:
    rule = known().rules.first(said, host)
    return None if rule is None else known().causes[rule.cause]
