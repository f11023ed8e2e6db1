"""The ESMTP extensions we offer, and the MAIL and RCPT parameters they bring: one table to read beside the RFCs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted_mail_node.message.envelope import Body, Ret
from twisted_mail_node.smtp.grammar import ENVID_MAX, GrammarError, decode_orcpt, decode_xtext, parse_size


class MailParameters(NamedTuple):
    """What MAIL said beside its reverse-path.

    :ivar size: SIZE (RFC 1870), 0 when not given.
    :ivar body: BODY (RFC 6152, RFC 3030).
    :ivar smtputf8: SMTPUTF8 (RFC 6531).
    :ivar ret: RET (RFC 3461 section 4.3).
    :ivar envid: ENVID (RFC 3461 section 4.4), decoded.
    """

    size: int = 0
    body: Body = "7BIT"
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""


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


# keyword → (field, parser). What is not here is answered with 555 (RFC 5321 section 4.1.1.11).
_MAIL: dict[str, tuple[str, Callable[[str | None], object]]] = {
    "SIZE": ("size", parse_size),
    "BODY": ("body", _body),
    "SMTPUTF8": ("smtputf8", lambda value: _flag("SMTPUTF8", value)),
    "RET": ("ret", _ret),
    "ENVID": ("envid", _envid),
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


def mail_parameters(parameters: dict[str, str | None]) -> MailParameters:
    """:raises GrammarError: a value is malformed; UnknownParameterError: a keyword is not ours."""
    return MailParameters(**_parsed(_MAIL, parameters)) if parameters else NO_MAIL_PARAMETERS  # type: ignore[arg-type]


def rcpt_parameters(parameters: dict[str, str | None]) -> RcptParameters:
    """:raises GrammarError: a value is malformed; UnknownParameterError: a keyword is not ours."""
    return RcptParameters(**_parsed(_RCPT, parameters)) if parameters else NO_RCPT_PARAMETERS  # type: ignore[arg-type]


def ehlo_lines(*, message_size: int, recipients: int, mails: int = 0) -> tuple[str, ...]:
    """The extensions as EHLO announces them.

    :param message_size: octets (RFC 1870); 0 announces no bound.
    :param recipients: recipients a mail, for LIMITS (RFC 9422).
    :param mails: mails a session, for LIMITS; 0 when not bounded.
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
        "HELP",
    )
