"""The grammar of command arguments (RFC 5321 section 4.1.2): octets to values, once, here and nowhere else.

Every function takes text that was one command line without its CRLF, or a part of one, and either gives a value or
raises ``GrammarError`` with a sentence for the person at the other end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from twisted_mail_node.message.address import Address

#: RFC 5321 section 4.5.3.1.1 asks for 64 octets; return addresses of lists and of SRS are often longer.
LOCAL_PART_MAX = 250
#: RFC 5321 section 4.5.3.1.2 and RFC 1035 section 2.3.4.
DOMAIN_MAX = 255
#: RFC 1035 section 2.3.4.
LABEL_MAX = 63
#: RFC 5321 section 4.5.3.1.3 asks for 256; a source route in front may need more.
PATH_MAX = 1024
#: Longer HELO names are no names.
HELO_MAX = 255
#: MAIL and RCPT have some ten parameters in all extensions together.
PARAMETERS_MAX = 20
#: RFC 3461 section 4.4: ENVID has at most 100 characters.
ENVID_MAX = 100
#: RFC 3461 section 4.2: ORCPT has at most 500 characters.
ORCPT_MAX = 500

# Classes that reach to U+10FFFF are written by what is not in them: written by what is, each takes 3 ms to compile.
_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f-\x9f]+'
_ALNUM = r"[^\x00-/:-@\[-`{-\x9f]"
_LABEL = rf"{_ALNUM}(?:[^\x00-,./:-@\[-`{{-\x9f]*{_ALNUM})?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_QUOTED = r'"(?:[^\x00-\x1f"\\\x7f-\x9f]|\\[\x20-\x7e])*"'
_LOCAL = rf"(?:{_ATEXT}(?:\.{_ATEXT})*|{_QUOTED})"
_MAILBOX = re.compile(rf"({_LOCAL})@({_DOMAIN}|\[[\x21-\x5a\x5e-\x7e]+\])\Z")
_DOMAIN_ONLY = re.compile(rf"{_DOMAIN}\Z")
# The path of a MAIL or RCPT command and what follows it. A quoted local-part may hold ">" and spaces. Clients write
# a space after the colon often enough that every server takes it.
_PATH = re.compile(r'(?:FROM|TO):[ ]?<((?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>(?:[ ]+(.*))?\Z', re.IGNORECASE)
_SOURCE_ROUTE = re.compile(rf"@{_DOMAIN}(?:,@{_DOMAIN})*:")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f-\x9f]+))?\Z")
_HELO = re.compile(r"[^\x00-\x20\x7f-\x9f]+\Z")
_XTEXT_CHAR = re.compile(r"\+([0-9A-F]{2})")
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*\Z")
_UNICODE_CHAR = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class GrammarError(ValueError):
    """The text does not follow the grammar; the words say what is wrong.

    :ivar status: the enhanced status code that fits (RFC 3463).
    """

    def __init__(self, words: str, status: str = "5.5.4") -> None:
        super().__init__(words)
        self.status = status


def _one_spelling(address: IPv6Address) -> str:
    """As every version of Python writes it: from 3.13 on ``str`` ends mapped addresses like IPv4 ones."""
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}"


def parse_domain(text: str) -> str:
    """A domain or an address literal, folded to lower case.

    :raises GrammarError: it is neither.
    """
    if text.startswith("["):
        return _literal(text)
    if not _DOMAIN_ONLY.match(text) or len(text.encode()) > DOMAIN_MAX:
        raise GrammarError(f"{text[:80]!r} is not a domain name")
    if len(text) > LABEL_MAX and any(len(label) > LABEL_MAX for label in text.split(".")):
        raise GrammarError("a label of the domain is longer than 63 octets")
    return text.lower()


def _literal(text: str) -> str:
    """An address literal (RFC 5321 section 4.1.3) in its one spelling."""
    inner = text[1:-1]
    try:
        if not text.endswith("]") or "%" in inner:  # a zone (RFC 4007) means something on one host only
            raise AddressValueError
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{_one_spelling(IPv6Address(inner[5:]))}]"
        return f"[{IPv4Address(inner)}]"
    except AddressValueError:
        raise GrammarError(
            f"{text[:80]!r} is not an address literal such as [192.0.2.1] or [IPv6:2001:db8::1]"
        ) from None


@lru_cache(maxsize=8192)
def parse_address(text: str) -> Address:
    """A Mailbox, without angle brackets: ``joe@example.org``, ``"joe smith"@[192.0.2.1]``.

    :raises GrammarError: it is none, or a part is too long.
    """
    match = _MAILBOX.match(text)
    if match is None:
        raise GrammarError("the address is not of the form local-part@domain", "5.1.3")
    local, domain = match.groups()
    if local[0] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    if len(local.encode()) > LOCAL_PART_MAX:
        raise GrammarError(f"the local-part is longer than {LOCAL_PART_MAX} octets", "5.1.3")
    try:
        return Address(local, parse_domain(domain))
    except GrammarError as error:
        raise GrammarError(str(error), "5.1.3") from None


@lru_cache(maxsize=8192)
def parse_path(argument: str, verb: str) -> tuple[Address | None, dict[str, str | None]]:
    """The argument of MAIL (``FROM:<…> …``) or RCPT (``TO:<…> …``): path and parameters.

    A source route is recognised and dropped (RFC 5321 section 4.1.1.3). ``None`` is the null reverse-path. The
    bare ``<postmaster>`` is an address without a domain (section 4.5.1). Parameter names are in upper case.
    The result is shared: do not change it.

    :raises GrammarError: the sentence goes into the reply.
    """
    word = "FROM:" if verb == "MAIL" else "TO:"
    match = _PATH.match(argument)
    if match is None or not argument[: len(word)].upper() == word:
        raise GrammarError(f"write {verb} {word}<address>, with the angle brackets")
    inner, rest = match.groups()
    if len(inner.encode()) > PATH_MAX:
        raise GrammarError(f"the path is longer than {PATH_MAX} octets", "5.1.3")
    address: Address | None
    if not inner:
        if verb == "RCPT":
            raise GrammarError("a recipient cannot be empty", "5.1.3")
        address = None
    elif verb == "RCPT" and inner.lower() == "postmaster":
        address = Address("postmaster", "")
    else:
        if inner[0] == "@":
            route = _SOURCE_ROUTE.match(inner)
            if route is None:
                raise GrammarError("the source route is malformed", "5.1.3")
            inner = inner[route.end() :]
        address = parse_address(inner)
    return address, parse_parameters(rest) if rest else {}


def parse_parameters(text: str) -> dict[str, str | None]:
    """ESMTP parameters: keyword, or keyword=value, each once.

    :raises GrammarError: malformed, repeated or too many.
    """
    parameters: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None:
            raise GrammarError(f"{word[:60]!r} is not a parameter of the form KEYWORD or KEYWORD=value")
        keyword = match[1].upper()
        if keyword in parameters:
            raise GrammarError(f"the parameter {keyword} came twice")
        parameters[keyword] = match[2]
        if len(parameters) > PARAMETERS_MAX:
            raise GrammarError("too many parameters")
    return parameters


def parse_helo(argument: str) -> str:
    """The name a client gives itself. Anything printable without a space: RFC 5321 section 4.1.4 forbids refusing it.

    :raises GrammarError: empty, too long or unprintable.
    """
    name = argument.strip(" ")
    if not name or len(name) > HELO_MAX or not _HELO.match(name):
        raise GrammarError("say who you are: EHLO your.host.name")
    return name


def decode_xtext(text: str) -> str:
    """xtext of RFC 3461 section 4; control characters are refused, however they are written.

    :raises GrammarError: it is not xtext, or hides a control character.
    """
    if not _XTEXT.match(text):
        raise GrammarError("the value is not xtext (RFC 3461)")
    octets = _XTEXT_CHAR.sub(lambda match: chr(int(match[1], 16)), text)
    if not octets.isascii():
        try:
            octets = octets.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise GrammarError("the xtext value is not UTF-8") from None
    if _CONTROL.search(octets):
        raise GrammarError("the xtext value holds a control character")
    return octets


def decode_orcpt(text: str) -> str:
    """ORCPT (RFC 3461 section 4.2, RFC 6533 section 3): ``addr-type;address``, decoded.

    :raises GrammarError: malformed, too long, or it hides a control character.
    """
    kind, semicolon, address = text.partition(";")
    if not semicolon or not kind or not re.match(r"[A-Za-z0-9-]+\Z", kind) or not address:
        raise GrammarError("ORCPT is of the form rfc822;address")
    if len(text) > ORCPT_MAX:
        raise GrammarError(f"ORCPT is longer than {ORCPT_MAX} characters")
    if kind.lower() == "utf-8":
        try:
            decoded = _UNICODE_CHAR.sub(lambda match: chr(int(match[1], 16)), address)
            decoded.encode()
        except (ValueError, OverflowError):
            raise GrammarError("ORCPT holds a character that does not exist") from None
        if _CONTROL.search(decoded):
            raise GrammarError("ORCPT holds a control character")
    else:
        decoded = decode_xtext(address)
    return f"{kind};{decoded}"


def parse_size(text: str | None) -> int:
    """SIZE= of RFC 1870: at most 20 digits.

    :raises GrammarError: it is no number.
    """
    if not text or len(text) > 20 or not text.isascii() or not text.isdigit():
        raise GrammarError("SIZE is a number of octets")
    return int(text)
