"""Writes ``docs/reasons.rst``, ``docs/events.rst`` and ``docs/causes.rst``.

``python -m twisted_mail_node.reference_docs events > …``. The sentences stand in ``reasons.py``, in the docstrings of
``events.py`` and in ``message/causes.toml``; what a field means stands here.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from typing import Any

from twisted_mail_node.eventlog import event_name
from twisted_mail_node.events import Event
from twisted_mail_node.message.cause import Cause, Kind, causes, known
from twisted_mail_node.reasons import Reason

REASONS = """\
Reasons
=======

.. This page is generated: ``python -m twisted_mail_node.reference_docs reasons > docs/reasons.rst``. Change the
   sentences in ``twisted_mail_node/reasons.py``.

Every decision of the node carries one of these codes: in the event log (the field ``reason``), in what
``mailnode queue show`` prints, and in verdicts and delivery statuses of plug-ins. Compare the code in programs; it
never changes. The words that stand beside it are for people, and may.

"""

NOT_GIVEN = """\
Not given by this version
-------------------------

These codes are kept for what comes later. Nothing in this version gives them.

"""

EVENTS = """\
Events
======

.. This page is generated: ``python -m twisted_mail_node.reference_docs events > docs/events.rst``. Change the
   sentences in ``twisted_mail_node/events.py``.

Everything the node decides is one of these events. The event log (``log/mail.jsonl`` below ``state_dir``, unless the
settings say otherwise) has one line of JSON for each::

    {"time":"2026-01-31T12:00:00.123Z","event":"mail-accepted","session":"…","queue_id":"317b5dd7325ac0", …}

``time`` is in UTC, ``event`` is the name below; then come the event's fields. ``session`` ties together what a client
did, ``queue_id`` what became of a mail: ``grep 317b5dd7325ac0`` tells its whole story. A line is written within a tenth
of a second; a crash may lose the last lines, never a mail. A program that uses the node as a library gets
the same events as Python values (``twisted_mail_node.events``), see ``observers`` of ``MailNode``.

"""

FIELDS_HEAD = """\
Fields
------

"""

CAUSES = """\
Causes
======

.. This page is generated: ``python -m twisted_mail_node.reference_docs causes > docs/causes.rst``. Change the
   sentences in ``twisted_mail_node/message/causes.toml``.

What can stand behind a mail that is late or came back. The node reads the replies of other hosts, their codes and
their words, and knows many of them; what it does not know is ``delayed`` or ``refused``. ``mailnode queue`` and the
reports to senders name the cause; for a reply from elsewhere ask::

    mailnode explain-reply "550 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"

A cause is of one kind, and a kind may stand wherever a cause may. *Permanent* causes do not go away by waiting. Whether
the node tries again goes by the reply's first digit alone (RFC 5321 section 4.2.1): a host that says 450 to an unknown
user gets the mail again until its lifetime is over.

Which replies mean which cause stands in ``twisted_mail_node/message/replies.toml``. A line for a reply that is not
known yet is welcome, with the reply in ``tests/message/replies.txt``.

"""

#: What the kinds are about.
KINDS: dict[Kind, str] = {
    Kind.ADDRESS: "Nobody has the address, or it moved.",
    Kind.MAILBOX: "The mailbox is full or takes no mail now.",
    Kind.REPUTATION: "The host does not trust our address or the sender's domain, or does not know us yet.",
    Kind.RATE: "Too much at once: the host wants it slower.",
    Kind.POLICY: "The host does not want this mail: its content, its authentication, its sender.",
    Kind.TLS: "No connection as protected as it must be.",
    Kind.DNS: "The DNS says no, or nothing.",
    Kind.PROTOCOL: "The two hosts did not understand each other, or the mail needs what the host lacks.",
    Kind.NETWORK: "No connection, or it broke, or something is wrong at the other end.",
    Kind.HERE: "Something of this node: held, frozen, its disk, its settings.",
}

#: Codes that nothing in this version gives; a test holds the list against the source.
KEPT_FOR_LATER = frozenset(
    {
        Reason.EARLY_TALKER,
    }
)

#: What a field means, whichever event it stands in.
FIELDS: dict[str, str] = {
    "account": "The account that signed in; empty where nobody did.",
    "action": "What the DSN tells: ``failed``, ``delayed``, ``delivered`` … (RFC 3464 section 2.3.3); in "
    "``mail-checked`` what follows: ``note``, ``quarantine``, ``refuse``.",
    "address": "IP address and port of the host.",
    "algorithm": "What the key signs with: ``rsa-sha256`` or ``ed25519-sha256``.",
    "arc": "What the seals of those who passed the mail on came to (ARC).",
    "attempts": "Attempts made for this recipient so far.",
    "author": "The domain in From; empty where nobody can be sure.",
    "by": "How it was said: ``PROXY`` or ``XCLIENT``.",
    "cause": "What stands behind it: a code of `the causes <causes.rst>`_.",
    "client": "The client's IP address; ``unix`` on a unix socket, ``unknown`` where a named peer does not know it.",
    "command": "The verb of the command; empty where the line had none.",
    "destination": "The next hop: a domain, a host in brackets, or a local domain.",
    "dkim": "What the signatures of the mail came to together (DKIM).",
    "dmarc": "What DMARC came to.",
    "domain": "The domain.",
    "dsn_queue_id": "The queue id of the DSN.",
    "due": "When the next attempt comes, seconds since the epoch.",
    "exchangers": "Names of mail exchangers that the policy allows, ``*.`` for any name below a domain.",
    "expires": "When the first of the certificates ends, seconds since the epoch.",
    "failures": "What failed in a row: passwords, deliveries to an address; in ``tls-report-sent`` sessions.",
    "helo": "What the client said in EHLO or HELO.",
    "helo_spf": "What SPF says of the name in EHLO.",
    "host": "Name of the remote host; empty where none was reached.",
    "hostname": "The node's name.",
    "iprev": "Whether the client's address has a name that leads back to it.",
    "listener": "Kind of the listener: ``mx`` or ``submission``.",
    "listeners": "Kind and endpoint of each listener.",
    "mails": "Mails the session brought.",
    "mechanism": "The SASL mechanism (RFC 4422).",
    "mode": "``enforce``, ``testing`` or ``none`` (RFC 8461 section 5).",
    "name": "What the client called itself when it tried to sign in.",
    "names": "The names that the certificates are for.",
    "path": "The file.",
    "peer": "Address of the balancer or filter that speaks for the client.",
    "protocol": "``ESMTP``, ``SMTP`` or ``UTF8SMTP``.",
    "queue_id": "The mail's id; also in its Received field and in the reply to the client.",
    "reason": "Why: a code of `the reasons <reasons.rst>`_.",
    "recipient": "An address: the recipient; in ``notification-sent`` the reverse-path that gets the DSN.",
    "recipients": "The recipients, after aliases were followed.",
    "recovered": "Mails found in the spool at the start.",
    "reply": "The SMTP reply on one line: ours to the client, or the remote host's to us.",
    "reverse_path": "The sender's address; ``<>`` is the null reverse-path.",
    "seconds": "A span: how long it took, or since when.",
    "selector": "The key's name below the domain (RFC 6376 section 3.1).",
    "server_name": "The name the client asked for (SNI); empty without one.",
    "session": "The session's id.",
    "size": "Octets of the content.",
    "source": "The address we connected from, where a ``[[source]]`` pool says which.",
    "spf": "What SPF says of the reverse-path.",
    "stage": "What it is at: ``routing``, ``waiting`` (for a place), ``agent``, ``reporting``, ``recording`` …; of the "
    "queue itself ``schedule``, ``reading``, ``room``, ``line``, ``beginning``; ``forgotten``: nobody worked on it.",
    "state": "``suspended`` (no answer), ``slowed`` (the host asked for less), ``open`` (it answers again); ``frozen`` "
    "and ``thawed`` by an operator.",
    "status": "Enhanced status code (RFC 3463), such as ``4.4.1``.",
    "successes": "Sessions with TLS as it should be.",
    "tls": "Version and cipher of the connection's TLS; empty without it. In ``client-presented``: of the balancer's.",
    "to": "An address or URL that gets it.",
    "until": "When it ends, seconds since the epoch.",
    "what": "An address, a network or an account.",
    "window": "Deliveries to the destination that may go on at once.",
    "words": "A sentence for people, or the remote host's exact words.",
}


def reasons_page() -> str:
    """All of ``docs/reasons.rst``."""
    given = sorted(set(Reason) - KEPT_FOR_LATER)
    later = "".join(map(_reason, sorted(KEPT_FOR_LATER)))
    return REASONS + "".join(map(_reason, given)) + NOT_GIVEN + _without_end(later)


def events_page() -> str:
    """All of ``docs/events.rst``."""
    fields = "".join(f"``{name}``\n   {FIELDS[name]}\n\n" for name in sorted(used_fields()))
    return EVENTS + "".join(map(_event, event_classes())) + FIELDS_HEAD + _without_end(fields)


def causes_page() -> str:
    """All of ``docs/causes.rst``."""
    page = CAUSES
    for kind, sentence in KINDS.items():
        page += f"{kind}\n{'-' * len(kind)}\n\n{sentence}\n\n"
        page += "".join(_cause(cause) for cause in causes() if cause.kind is kind)
    return _without_end(page)


def event_classes() -> tuple[type[Any], ...]:
    """The classes of the closed list, in its order."""
    return typing.get_args(Event)


def used_fields() -> set[str]:
    """The names of all fields of all events."""
    return {name for event in event_classes() for name in event._fields}


def _reason(reason: Reason) -> str:
    return f"``{reason}``\n   {reason.meaning}\n\n"


def _cause(cause: Cause) -> str:
    reasons = ", ".join(f"``{reason}``" for reason, meant in known().of_reason.items() if meant is cause)
    return (
        f"``{cause.code}``\n   {_plain(cause.title)}{' *Permanent.*' if cause.permanent else ''}\n\n"
        f"   For the sender: {_plain(cause.advice)}\n\n"
        f"   For the postmaster: {_plain(cause.operator)}\n\n"
        f"{f'   Reasons: {reasons}.{chr(10)}{chr(10)}' if reasons else ''}"
    )


def _plain(text: str) -> str:
    """As text in reStructuredText."""
    return text.replace("*", "\\*").replace("`", "\\`").replace("_ ", "\\_ ")


def _event(event: type[Any]) -> str:
    name = event_name(event)
    sentence = " ".join((event.__doc__ or "").split())
    fields = ", ".join(f"``{field}``" for field in event._fields)
    return f"{name}\n{'-' * len(name)}\n\n{sentence}\n\nFields: {fields}.\n\n"


def _without_end(text: str) -> str:
    """A page ends in one line end."""
    return text.rstrip("\n") + "\n"


PAGES: dict[str, Callable[[], str]] = {"reasons": reasons_page, "events": events_page, "causes": causes_page}


def page(words: list[str]) -> str:
    """The page that the command's words name.

    :raises SystemExit: they name none.
    """
    if len(words) != 1 or words[0] not in PAGES:
        raise SystemExit(f"say which page: {' or '.join(PAGES)}")
    return PAGES[words[0]]()


if __name__ == "__main__":
    print(page(sys.argv[1:]), end="")
