"""The part of a DSN that programs read: RFC 3464 section 2; RFC 6533 section 4.1 where an address is outside ASCII."""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted_mail_node.message import header as fields
from twisted_mail_node.message import trace
from twisted_mail_node.message.dsn_values import Outcome, Part, code, words
from twisted_mail_node.message.encoding import one_line, quoted_printable, transfer, unitext
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.message.status import Action

_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_IP = re.compile(r"[0-9]+(?:\.[0-9]+){3}\Z|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+\Z")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
#: RFC 3461 section 9.2: an SMTP reply.
_REPLY = re.compile(r"[2-5][0-9]{2}(?:[ -]|\Z)")


def for_program(hostname: str, arrived: float, envelope: Envelope, outcomes: Sequence[Outcome], wide: bool) -> Part:
    """The part.

    :param arrived: when the mail was accepted.
    :param wide: the DSN is an SMTPUTF8 mail.
    """
    world = not all(out.recipient.original.is_ascii and out.recipient.orcpt.isascii() for out in outcomes)
    lines = []
    if envid := one_line(envelope.envid).strip():
        lines.append(_field("Original-Envelope-Id", _ascii(envid)))
    lines.append(_field("Reporting-MTA", f"dns; {_host(hostname)}"))
    lines.append(_field("Arrival-Date", trace.date(arrived)))
    if envelope.by_mode:  # a field of RFC 2852
        lines.append(_field("Deliver-By-Date", trace.date(envelope.deliver_by)))
    blocks = dict.fromkeys(_recipient_fields(outcome, world) for outcome in outcomes)
    octets = b"\r\n".join((b"".join(lines), *blocks))
    kind = "message/global-delivery-status" if world else "message/delivery-status"
    encoding = transfer(octets)
    if encoding != "7bit" and not (wide and encoding == "8bit"):
        return Part(kind, "quoted-printable", "Delivery report", quoted_printable(octets))
    return Part(kind, encoding, "Delivery report", octets)


def _recipient_fields(outcome: Outcome, world: bool) -> bytes:
    recipient, status, will_retry_until, tried = outcome
    found: list[bytes] = []
    if recipient.orcpt:
        kind, _, address = one_line(recipient.orcpt).partition(";")
        kind = _NOT_IN_HOST.sub("?", kind) or "unknown"
        if kind.lower() == "utf-8" and not world:
            address = unitext(address)
        found.append(_field("Original-Recipient", f"{kind};{address}"))
    # RFC 3464 section 2.3.2: the address as it was when we accepted it. What an alias made of it is not told.
    original = recipient.original
    found.append(_field("Final-Recipient", f"{'rfc822' if original.is_ascii else 'utf-8'};{original}"))
    found.append(_field("Action", str(status.action)))
    found.append(_field("Status", code(status)))
    if status.remote_host:
        found.append(_field("Remote-MTA", f"dns; {_host(status.remote_host)}"))
    diagnostic = _diagnostic(outcome)
    if diagnostic:
        found.append(_field("Diagnostic-Code", diagnostic if world else _ascii(diagnostic)))
    if tried is not None:
        found.append(_field("Last-Attempt-Date", trace.date(tried)))
    if status.action is Action.DELAYED and will_retry_until is not None:
        found.append(_field("Will-Retry-Until", trace.date(will_retry_until)))
    return b"".join(found)


def _diagnostic(outcome: Outcome) -> str:
    """RFC 3461 section 6.3 (i): the reply of a host that was reached, of whatever kind; else our own words for what
    went wrong."""
    status, said = outcome.status, words(outcome)
    if status.from_remote and _REPLY.match(said):
        return f"smtp; {said}"
    return f"x-mailnode; {said}" if said and status.action in (Action.FAILED, Action.DELAYED) else ""


def _field(name: str, value: str) -> bytes:
    # smtputf8 only says: no encoded-words here. RFC 3464 section 2.1.1 knows none in these fields.
    return fields.field(name, value, smtputf8=True)


def _ascii(text: str) -> str:
    """What is not ASCII written as ``\\x{HEX}``, like RFC 6533 writes it in addresses: RFC 3464 fields are ASCII."""
    return text if text.isascii() else _NOT_ASCII.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def _host(name: str) -> str:
    """A name of name-type ``dns`` (RFC 3464 section 2.1.2): a domain, or an address in brackets."""
    return trace.literal(name) if _IP.match(name) else _NOT_IN_HOST.sub("?", name)
