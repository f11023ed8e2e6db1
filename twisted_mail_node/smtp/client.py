"""The client's side of the wire: what a host offers in its EHLO reply, and commands that carry what it offers.

Every command is checked before its first octet is made: an address, a name or a parameter that holds a line end, NUL,
a space or an angle bracket would end where we do not mean it to, so it is a ``ValueError`` and never a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Body, Recipient, Ret
from twisted_mail_node.smtp.extensions import By
from twisted_mail_node.smtp.reply import Reply

STARTTLS = b"STARTTLS\r\n"
DATA = b"DATA\r\n"
RSET = b"RSET\r\n"
QUIT = b"QUIT\r\n"
#: Ends content that we do not want to send: an answer to a 354 that should not have come.
LONE_DOT = b".\r\n"

# Also what is a line end in Unicode, and the C1 controls with NEL among them.
_UNSAFE = re.compile(r"[\x00-\x20<>\x7f-\xa0\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}\Z")
_NOT_XCHAR = re.compile(rb"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")
_NOT_QCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
_NOT_QUCHAR = re.compile(r"[\x00-\x20+=\\\x7f]")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]+\Z")
_NOTIFY = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})
#: Seconds either way that BY can say: nine digits (RFC 2852 section 4).
BY_MAX = 999_999_999


class Offered(NamedTuple):
    """The extensions a host offers.

    :ivar size: octets of a mail (RFC 1870); 0 when the host names no bound, ``None`` when it does not offer SIZE.
    :ivar mail_max: transactions on a connection (LIMITS MAILMAX, RFC 9422); 0 when not bounded.
    :ivar rcpt_max: recipients in a transaction (LIMITS RCPTMAX); 0 when not bounded.
    :ivar auth: names of the SASL mechanisms (RFC 4954).
    :ivar require_tls: REQUIRETLS (RFC 8689); it means nothing on a connection without TLS.
    :ivar deliver_by: DELIVERBY (RFC 2852): the least seconds it takes with R, 0 when it names none, ``None`` when it
        is not offered.
    :ivar priorities: MT-PRIORITY (RFC 6710).
    :ivar keywords: everything the host named: keyword in upper case, and its parameters.
    """

    pipelining: bool = False
    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    chunking: bool = False
    binary: bool = False
    dsn: bool = False
    enhanced: bool = False
    starttls: bool = False
    auth: tuple[str, ...] = ()
    mail_max: int = 0
    rcpt_max: int = 0
    require_tls: bool = False
    deliver_by: int | None = None
    priorities: bool = False
    keywords: dict[str, tuple[str, ...]] = {}


#: A host that answered HELO offers nothing.
NOTHING_OFFERED = Offered()


def _number(text: str) -> int:
    """At most 20 digits, as RFC 1870 and RFC 9422 have them (RFC 2852 has 9); anything else bounds nothing."""
    return int(text) if len(text) <= 20 and text.isascii() and text.isdigit() else 0


def parse_ehlo(reply: Reply) -> Offered:
    """What a positive reply to EHLO offers (RFC 5321 section 4.1.1.1). Unknown and malformed lines do no harm."""
    keywords: dict[str, tuple[str, ...]] = {}
    for line in reply.text[1:]:
        words = line.split()
        if not words:
            continue
        keyword, *parameters = words
        if keyword[:5].upper() == "AUTH=":  # as servers older than RFC 2554 wrote it
            keyword, parameters = "AUTH", [keyword[5:], *parameters]
        keywords.setdefault(keyword.upper(), tuple(parameters))
    limits = {name.upper(): value for name, _, value in (word.partition("=") for word in keywords.get("LIMITS", ()))}
    size = keywords.get("SIZE")
    deliver_by = keywords.get("DELIVERBY")
    chunking = "CHUNKING" in keywords
    return Offered(
        pipelining="PIPELINING" in keywords,
        size=None if size is None else _number(size[0] if size else ""),
        eight_bit="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        chunking=chunking,
        binary=chunking and "BINARYMIME" in keywords,  # RFC 3030 section 3: one needs the other
        dsn="DSN" in keywords,
        enhanced="ENHANCEDSTATUSCODES" in keywords,
        starttls="STARTTLS" in keywords,
        auth=tuple(word.upper() for word in keywords.get("AUTH", ()) if word),
        mail_max=_number(limits.get("MAILMAX", "")),
        rcpt_max=_number(limits.get("RCPTMAX", "")),
        require_tls="REQUIRETLS" in keywords,
        deliver_by=None if deliver_by is None else _number(deliver_by[0] if deliver_by else ""),
        priorities="MT-PRIORITY" in keywords,
        keywords=keywords,
    )


def ehlo(name: str, verb: str = "EHLO") -> bytes:
    """EHLO or HELO. :raises ValueError: ``name`` is neither a host name nor an address literal."""
    if not _NAME.match(name):
        raise ValueError(f"not a name to greet with: {name!r}")
    return f"{verb} {name}\r\n".encode()


def xtext(value: str) -> str:
    """``value`` as xtext (RFC 3461 section 4). :raises ValueError: it holds a control character."""
    if _CONTROL.search(value):
        raise ValueError(f"control character in {value!r}")
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], value.encode()).decode()


def orcpt(value: str, smtputf8: bool) -> str:
    """The value of ORCPT (RFC 3461 section 4.2, RFC 6533 section 3).

    :param value: ``addr-type;address``, decoded.
    :param smtputf8: the host offers SMTPUTF8, so UTF-8 may stand as it is.
    :raises ValueError: malformed, or it holds a control character.
    """
    kind, semicolon, address = value.partition(";")
    if not semicolon or not address or not _ADDRESS_TYPE.match(kind) or _CONTROL.search(address):
        raise ValueError(f"not an original recipient: {value!r}")
    if address.isascii() and kind.lower() != "utf-8":
        return f"{kind};{xtext(address)}"
    unfit = _NOT_QUCHAR if smtputf8 else _NOT_QCHAR
    return "utf-8;" + unfit.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)


def _path(address: Address | None, smtputf8: bool) -> str:
    if address is None:
        return "<>"
    text = str(address)
    if _UNSAFE.search(text):
        raise ValueError(f"not an address to send: {text!r}")
    if not smtputf8 and not text.isascii():
        raise ValueError(f"needs SMTPUTF8: {text!r}")
    return f"<{text}>"


def mail(
    reverse_path: Address | None,
    *,
    size: int | None = None,
    body: Body | None = None,
    smtputf8: bool = False,
    ret: Ret | None = None,
    envid: str = "",
    require_tls: bool = False,
    by: By | None = None,
    priority: int | None = None,
) -> bytes:
    """MAIL (RFC 5321 section 4.1.1.2). Give only the parameters that the host offers.

    :param size: octets of the mail (RFC 1870).
    :param body: RFC 6152 and RFC 3030.
    :param ret: RFC 3461 section 4.3.
    :param envid: RFC 3461 section 4.4, decoded.
    :param require_tls: RFC 8689 section 2.
    :param by: RFC 2852 section 4.
    :param priority: RFC 6710 section 4, -9 to 9.
    :raises ValueError: the address or a parameter cannot be written safely.
    """
    line = f"MAIL FROM:{_path(reverse_path, smtputf8)}"
    if size is not None:
        line += f" SIZE={size:d}"
    if body is not None:
        if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
            raise ValueError(f"no such BODY: {body!r}")
        line += f" BODY={body}"
    if smtputf8:
        line += " SMTPUTF8"
    if ret is not None:
        if ret not in ("FULL", "HDRS"):
            raise ValueError(f"no such RET: {ret!r}")
        line += f" RET={ret}"
    if envid:
        line += f" ENVID={xtext(envid)}"
    if require_tls:
        line += " REQUIRETLS"
    if by is not None:
        line += f" BY={_by(by)}"
    if priority is not None:
        if not -9 <= priority <= 9:
            raise ValueError(f"no such priority: {priority!r}")
        line += f" MT-PRIORITY={priority:d}"
    return (line + "\r\n").encode()


def _by(by: By) -> str:
    """RFC 2852 section 4: with R the time must not be over."""
    seconds, mode, trace = by
    if mode not in ("N", "R") or not (1 if mode == "R" else -BY_MAX) <= seconds <= BY_MAX:
        raise ValueError(f"not a BY: {by!r}")
    return f"{seconds:d};{mode}{'T' if trace else ''}"


def rcpt(recipient: Recipient, *, dsn: bool = False, smtputf8: bool = False) -> bytes:
    """RCPT (RFC 5321 section 4.1.1.3), with NOTIFY and ORCPT when ``dsn`` is offered.

    :param smtputf8: the mail is sent with SMTPUTF8.
    :raises ValueError: the address or a parameter cannot be written safely.
    """
    line = f"RCPT TO:{_path(recipient.address, smtputf8)}"
    if dsn:
        if recipient.notify:
            line += f" NOTIFY={_notify(recipient.notify)}"
        if recipient.orcpt:
            line += f" ORCPT={orcpt(recipient.orcpt, smtputf8)}"
    return (line + "\r\n").encode()


def _notify(words: Iterable[str]) -> str:
    words = tuple(words)
    if not _NOTIFY.issuperset(words) or ("NEVER" in words and len(words) > 1):
        raise ValueError(f"not a NOTIFY: {words!r}")
    return ",".join(words)


def bdat(size: int, last: bool = True) -> bytes:
    """BDAT (RFC 3030 section 2); exactly ``size`` octets follow it. :raises ValueError: a negative size."""
    if size < 0:
        raise ValueError(f"no size of a chunk: {size}")
    return b"BDAT %d LAST\r\n" % size if last else b"BDAT %d\r\n" % size
