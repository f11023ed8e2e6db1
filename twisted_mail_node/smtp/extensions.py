"""The ESMTP extensions we offer, and the MAIL and RCPT parameters they bring: one table to read beside the RFCs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from twisted_mail_node.message.envelope import Body, ByMode, Ret
from twisted_mail_node.smtp.grammar import ENVID_MAX, GrammarError, decode_orcpt, decode_xtext, parse_size
from twisted_mail_node.smtp.xclient import ATTRIBUTES as XCLIENT_ATTRIBUTES

#: RFC 4954 section 5: the AUTH parameter adds at most 500 octets to MAIL.
AUTH_MAX = 500

_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_BY = re.compile(r"([+-]?[0-9]{1,9});([NRnr])([Tt])?")
_PRIORITY = re.compile(r"-?[1-9]|0")


class Offers(NamedTuple):
    """What is offered in this session beside what is always offered: it depends on listener, TLS and peer.

    :ivar starttls: STARTTLS (RFC 3207).
    :ivar mechanisms: of AUTH (RFC 4954); none: AUTH is not offered.
    :ivar after_tls: AUTH will be offered once the client has said STARTTLS.
    :ivar require_tls: REQUIRETLS (RFC 8689): under TLS only.
    :ivar future_release: FUTURERELEASE (RFC 4865): seconds a mail may wait; 0: not offered.
    :ivar deliver_by: DELIVERBY (RFC 2852).
    :ivar priorities: MT-PRIORITY (RFC 6710).
    :ivar xclient: XCLIENT, for a named peer.
    """

    starttls: bool = False
    mechanisms: tuple[str, ...] = ()
    after_tls: bool = False
    require_tls: bool = False
    future_release: int = 0
    deliver_by: bool = False
    priorities: bool = False
    xclient: bool = False


NO_OFFERS = Offers()


class By(NamedTuple):
    """BY (RFC 2852 section 4).

    :ivar seconds: from now; may be negative with mode ``N``.
    :ivar mode: ``R`` return, ``N`` notify.
    """

    seconds: int
    mode: ByMode
    trace: bool = False


class MailParameters(NamedTuple):
    """What MAIL said beside its reverse-path.

    :ivar size: SIZE (RFC 1870), 0 when not given.
    :ivar body: BODY (RFC 6152, RFC 3030).
    :ivar smtputf8: SMTPUTF8 (RFC 6531).
    :ivar ret: RET (RFC 3461 section 4.3).
    :ivar envid: ENVID (RFC 3461 section 4.4), decoded.
    :ivar auth: AUTH (RFC 4954 section 5), decoded; ``""`` when not given. Nobody is believed on its word alone.
    :ivar require_tls: REQUIRETLS (RFC 8689).
    :ivar hold_for: HOLDFOR (RFC 4865 section 5), seconds; 0 when not given.
    :ivar hold_until: HOLDUNTIL (RFC 4865 section 5), seconds since the epoch; 0 when not given.
    :ivar by: BY (RFC 2852 section 4).
    :ivar priority: MT-PRIORITY (RFC 6710 section 3), -9 to 9.
    """

    size: int = 0
    body: Body = "7BIT"
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""
    auth: str = ""
    require_tls: bool = False
    hold_for: int = 0
    hold_until: float = 0.0
    by: By | None = None
    priority: int = 0


class RcptParameters(NamedTuple):
    """What RCPT said beside its forward-path: NOTIFY (RFC 3461 section 4.1) and ORCPT (section 4.2), decoded."""

    notify: tuple[str, ...] = ()
    orcpt: str = ""


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


def _flag(name: str, value: str | None) -> bool:
    if value is not None:
        raise GrammarError(f"{name} takes no value")
    return True


def _body(value: str | None) -> str:
    body = (value or "").upper()
    if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise GrammarError("BODY is 7BIT, 8BITMIME or BINARYMIME")
    return body


def _ret(value: str | None) -> str:
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise GrammarError("RET is FULL or HDRS")
    return ret


def _envid(value: str | None) -> str:
    if not value or len(value) > ENVID_MAX:
        raise GrammarError(f"ENVID has 1 to {ENVID_MAX} characters")
    return decode_xtext(value)


def _notify(value: str | None) -> tuple[str, ...]:
    words = tuple(dict.fromkeys((value or "").upper().split(",")))
    if not set(words) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"} or ("NEVER" in words and len(words) > 1):
        raise GrammarError("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY")
    return words


def _orcpt(value: str | None) -> str:
    return decode_orcpt(value or "")


def _auth(value: str | None) -> str:
    if not value or len(value) > AUTH_MAX:
        raise GrammarError("AUTH is <>, or a mailbox as xtext")
    return decode_xtext(value)


def _hold_for(value: str | None) -> int:
    """RFC 4865 section 4: 1 to 9 digits."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 9 or int(value) == 0:
        raise GrammarError("HOLDFOR is a number of seconds above 0")
    return int(value)


def _hold_until(value: str | None) -> float:
    """RFC 4865 section 4: a date-time of RFC 3339."""
    match = _DATE_TIME.fullmatch(value or "")
    if match is None:
        raise GrammarError("HOLDUNTIL is a date and time such as 2030-01-31T12:00:00Z")
    date, time, zone = match.groups()
    try:
        # 0 would mean that it was not given
        return datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone in 'Zz' else zone}").timestamp() or -1.0
    except (ValueError, OverflowError):
        raise GrammarError("HOLDUNTIL names a day or time that does not exist") from None


def _by(value: str | None) -> By:
    match = _BY.fullmatch(value or "")
    if match is None:
        raise GrammarError("BY is a number of seconds, a semicolon, N or R, and perhaps T")
    seconds, mode = int(match[1]), match[2].upper()
    if mode == "R" and seconds <= 0:
        raise GrammarError("BY with R needs a number of seconds above 0")
    return By(seconds, "R" if mode == "R" else "N", bool(match[3]))


def _priority(value: str | None) -> int:
    match = _PRIORITY.fullmatch(value or "")
    if match is None:
        raise GrammarError("MT-PRIORITY is a number from -9 to 9")
    return int(match[0])


# The extension that must be offered for a MAIL parameter to be known; those not here always are.
_NEEDS: dict[str, Callable[[Offers], object]] = {
    "AUTH": lambda offers: offers.mechanisms or offers.after_tls,
    "REQUIRETLS": lambda offers: offers.require_tls,
    "HOLDFOR": lambda offers: offers.future_release,
    "HOLDUNTIL": lambda offers: offers.future_release,
    "BY": lambda offers: offers.deliver_by,
    "MT-PRIORITY": lambda offers: offers.priorities,
}

# keyword → (field, parser). What is not here is answered with 555 (RFC 5321 section 4.1.1.11).
_MAIL: dict[str, tuple[str, Callable[[str | None], object]]] = {
    "SIZE": ("size", parse_size),
    "BODY": ("body", _body),
    "SMTPUTF8": ("smtputf8", lambda value: _flag("SMTPUTF8", value)),
    "RET": ("ret", _ret),
    "ENVID": ("envid", _envid),
    "AUTH": ("auth", _auth),
    "REQUIRETLS": ("require_tls", lambda value: _flag("REQUIRETLS", value)),
    "HOLDFOR": ("hold_for", _hold_for),
    "HOLDUNTIL": ("hold_until", _hold_until),
    "BY": ("by", _by),
    "MT-PRIORITY": ("priority", _priority),
}
_RCPT: dict[str, tuple[str, Callable[[str | None], object]]] = {
    "NOTIFY": ("notify", _notify),
    "ORCPT": ("orcpt", _orcpt),
}


class UnknownParameterError(GrammarError):
    """A parameter that no extension we offer knows."""


def _parsed(
    table: dict[str, tuple[str, Callable[[str | None], object]]], parameters: dict[str, str | None]
) -> dict[str, object]:
    fields: dict[str, object] = {}
    for keyword, value in parameters.items():
        if keyword not in table:
            raise UnknownParameterError(f"the parameter {keyword} is not known here")
        field, parse = table[keyword]
        fields[field] = parse(value)
    return fields


def mail_parameters(parameters: dict[str, str | None], offers: Offers = NO_OFFERS) -> MailParameters:
    """:raises GrammarError: a value is malformed; UnknownParameterError: a keyword is not ours, or not offered here."""
    if not parameters:
        return NO_MAIL_PARAMETERS
    for keyword in parameters:
        needs = _NEEDS.get(keyword)
        if needs is not None and not needs(offers):
            # RFC 8689 section 2: a session without TLS cannot take such a mail
            where = "after STARTTLS only" if keyword == "REQUIRETLS" else "not here"
            raise UnknownParameterError(f"the parameter {keyword} is offered {where}")
    if "HOLDFOR" in parameters and "HOLDUNTIL" in parameters:
        raise GrammarError("give HOLDFOR or HOLDUNTIL, not both")  # RFC 4865 section 4
    return MailParameters(**_parsed(_MAIL, parameters))  # type: ignore[arg-type]


def rcpt_parameters(parameters: dict[str, str | None]) -> RcptParameters:
    """:raises GrammarError: a value is malformed; UnknownParameterError: a keyword is not ours."""
    return RcptParameters(**_parsed(_RCPT, parameters)) if parameters else NO_RCPT_PARAMETERS  # type: ignore[arg-type]


def ehlo_lines(
    *, message_size: int, recipients: int, mails: int = 0, offers: Offers = NO_OFFERS, now: float = 0.0
) -> tuple[str, ...]:
    """The extensions as EHLO announces them.

    :param message_size: octets (RFC 1870); 0 announces no bound.
    :param recipients: recipients a mail, for LIMITS (RFC 9422).
    :param mails: mails a session, for LIMITS; 0 when not bounded.
    :param now: seconds since the epoch, for the last day that FUTURERELEASE takes.
    """
    limits = f"LIMITS RCPTMAX={recipients}" + (f" MAILMAX={mails}" if mails else "")
    return (
        "PIPELINING",
        f"SIZE {message_size}" if message_size else "SIZE",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "ENHANCEDSTATUSCODES",
        "DSN",
        limits,
        *_further(offers, now),
        "HELP",
    )


def _further(offers: Offers, now: float) -> Iterator[str]:
    if offers.starttls:
        yield "STARTTLS"
    if offers.mechanisms:
        yield "AUTH " + " ".join(offers.mechanisms)
    if offers.require_tls:
        yield "REQUIRETLS"
    if offers.future_release:
        last = datetime.fromtimestamp(now + offers.future_release, UTC)
        yield f"FUTURERELEASE {offers.future_release} {last:%Y-%m-%dT%H:%M:%SZ}"
    if offers.deliver_by:
        yield "DELIVERBY"
    if offers.priorities:
        yield "MT-PRIORITY"
    if offers.xclient:
        yield "XCLIENT " + " ".join(XCLIENT_ATTRIBUTES)
