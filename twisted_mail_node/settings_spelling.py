"""How the values of the settings are spelled: ``"50M"``, ``"5d"``, ``"192.0.2.0/24"``; text to value.

Every function here takes what TOML gave (or the value itself, when a program makes settings) and either gives the
value or raises ``Misspelt`` with what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.settings_hashes import PASSWORD_HASH as PASSWORD_HASH
from twisted_mail_node.settings_hashes import SCRAM_KEYS as SCRAM_KEYS
from twisted_mail_node.settings_hashes import password_hash as password_hash
from twisted_mail_node.settings_hashes import scram_keys as scram_keys
from twisted_mail_node.settings_problems import Misspelt, did_you_mean
from twisted_mail_node.smtp.grammar import parse_address, parse_domain

COUNT = "a whole number of at least 1"
COUNT_OR_ZERO = "a whole number; 0 means without a limit"
SIZE = 'octets as a whole number, or text such as "256K", "50M", "1G"'
DURATION = 'seconds as a number, or text such as "90s", "5m", "2h", "5d", "1w"; more than 0, at most ten years'
ADDRESS = 'an address such as "joe@example.org"'
DOMAIN = 'a domain name such as "example.org"'
HOSTNAME = 'a domain name such as "mx.example.org", or an address literal such as "[192.0.2.1]"'
NETWORK = 'a network such as "192.0.2.0/24" or "2001:db8::/32", or one address; not the whole Internet'
SERVER = 'an IP address with or without a port, such as "127.0.0.1:53", "::1" or "[::1]:53"'
SEPARATOR = 'one of the characters "+ - . = _ # %"'
MAILDIR = 'a path with {local_part} in it, and {domain} if wanted, such as "mail/{domain}/{local_part}"; no ".."'
ADDRESS_PATTERN = 'an address, or "*@" and a domain'
TEXT = "a text without line ends"
PATH = "a path, without NUL"
NAME = "the name of a policy: letters, digits, hyphens"
FOLDER = "the name of a folder: ASCII letters, digits, spaces, hyphens"
SWITCH = "true or false"
WORKERS = "1; more worker processes are not available in this version"

#: Longer durations are slips of the pen, and some would overflow a timer.
DURATION_MAX = 10 * 365 * 86400.0
#: No content is larger than this; keeps every sum of sizes far below 2^63.
SIZE_MAX = 1 << 50
DNS_PORT = 53

_SIZE = re.compile(r"(\d{1,16})([KMGT]?)\Z", re.ASCII)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([smhdw])\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z", re.ASCII)
_FOLDER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _-]{0,62}[A-Za-z0-9])?\Z", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_URL = re.compile(
    r"(?:https://[^\s/?#@]+|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?)(?:[/?][^\s#]*)?\Z", re.ASCII
)
_CHECKER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}(?::[^\0\r\n]*)?\Z", re.ASCII)


def count(value: object) -> int:
    """A number of things, at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < SIZE_MAX:
        raise Misspelt(COUNT)
    return value


def count_or_zero(value: object) -> int:
    """A number of things; 0 is no limit."""
    if value == 0 and value is not False:
        return 0
    try:
        return count(value)
    except Misspelt:
        raise Misspelt(COUNT_OR_ZERO) from None


def switch(value: object) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise Misspelt(SWITCH)
    return value


def spell_switch(value: bool) -> str:
    """As TOML writes it."""
    return "true" if value else "false"


def workers(value: object) -> int:
    """How many processes."""
    if value != 1 or isinstance(value, bool):
        raise Misspelt(WORKERS)
    return 1


def size(value: object) -> int:
    """Octets: ``52428800`` or ``"50M"``, in powers of 1024."""
    octets = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str):
        match = _SIZE.match(value)
        if match is None:
            near = re.sub(r"(?<=[KMGT])I?B?\Z", "", value.upper().replace(" ", ""))
            raise Misspelt(SIZE, f"did you mean '{near}'?" if _SIZE.match(near) else "")
        octets = int(match[1]) << _UNITS[match[2]]
    if not 1 <= octets <= SIZE_MAX:
        raise Misspelt(SIZE)
    return octets


def spell_size(octets: int) -> str:
    """The shortest text that ``size`` reads as this number."""
    for unit in "TGMK":
        if octets and octets % (1 << _UNITS[unit]) == 0:
            return f"{octets >> _UNITS[unit]}{unit}"
    return str(octets)


def duration(value: object) -> float:
    """Seconds: ``90``, ``1.5``, ``"90s"``, ``"5d"``."""
    seconds = 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if math.isfinite(value) else 0.0
    elif isinstance(value, str):
        match = _DURATION.match(value)
        if match is None:
            near = re.sub(r"\s*([smhdw])[a-z]*\Z", r"\1", value.lower())
            raise Misspelt(DURATION, f"did you mean '{near}'?" if _DURATION.match(near) else "")
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= DURATION_MAX:
        raise Misspelt(DURATION)
    return seconds


def spell_duration(seconds: float) -> str:
    """The shortest text that ``duration`` reads as this number."""
    for unit in "wdhm":
        if seconds % _SECONDS[unit] == 0 and (unit != "w" or seconds > 7 * 86400):
            return f"{int(seconds) // _SECONDS[unit]}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def address(value: object) -> Address:
    """A Mailbox of RFC 5321 section 4.1.2, with a domain that has A-labels."""
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise Misspelt(ADDRESS)
    try:
        parsed = parse_address(value)
        domain_key(parsed.domain)
    except ValueError as error:
        raise Misspelt(ADDRESS, f"it is wrong because {error}") from None
    return parsed


def hostname(value: object) -> str:
    """A domain name or an address literal, in the spelling look-ups use."""
    try:
        if isinstance(value, str):
            name = parse_domain(value)
            return name if name.startswith("[") else domain_key(name)
    except ValueError:
        pass
    near = value.strip().rstrip(".") if isinstance(value, str) else ""
    if near and near != value and _HOST.match(near):
        raise Misspelt(HOSTNAME, f"did you mean '{near.lower()}'?")
    raise Misspelt(HOSTNAME)


def domain(value: object) -> str:
    """The name of a domain, or an address literal that is to be treated as one."""
    try:
        return hostname(value)
    except Misspelt as error:
        raise Misspelt(DOMAIN, error.hint) from None


#: This machine.
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def network(value: object) -> IPv4Network | IPv6Network:
    """A network in CIDR form, or one address. One that holds every address would make the node an open relay."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise Misspelt(NETWORK)
    try:
        found = ip_network(value)
    except ValueError:
        try:
            near = str(ip_network(value, strict=False))
        except ValueError:
            raise Misspelt(NETWORK) from None
        raise Misspelt(NETWORK, f"did you mean '{near}'?") from None
    if found.prefixlen == 0:
        raise Misspelt(NETWORK, "such a network would make the node an open relay")
    return found


def server(value: object) -> tuple[str, int]:
    """A name server: IP address and port."""
    if isinstance(value, tuple) and len(value) == 2:
        return str(value[0]), int(value[1])
    if not isinstance(value, str):
        raise Misspelt(SERVER)
    try:
        return str(ip_address(value)), DNS_PORT
    except ValueError:
        host, _, port = value.rpartition(":")
    try:
        ip: IPv4Address | IPv6Address
        if host.startswith("[") and host.endswith("]"):
            ip = IPv6Address(host[1:-1])
        elif value.startswith("[") and value.endswith("]"):
            ip, port = IPv6Address(value[1:-1]), str(DNS_PORT)
        else:
            ip = IPv4Address(host)
        return str(ip), port_number(port)
    except ValueError:
        raise Misspelt(SERVER) from None


def port_number(text: str) -> int:
    """A port number. :raises ValueError: it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ValueError(f"{text[:20]!r} is not a port")
    return int(text)


def separator(value: object) -> str:
    """What parts a subaddress from its local-part (RFC 5233)."""
    if not isinstance(value, str) or len(value) != 1 or value not in "+-.=_#%":
        raise Misspelt(SEPARATOR)
    return value


def maildir(value: object) -> str:
    """Where a domain's mailboxes lie."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Misspelt(MAILDIR)
    names = _PLACEHOLDER.findall(value)
    for name in names:
        if name not in ("domain", "local_part"):
            raise Misspelt(MAILDIR, did_you_mean(name, ["domain", "local_part"]))
    bare = _PLACEHOLDER.sub("", value)
    if "local_part" not in names or "{" in bare or "}" in bare or ".." in Path(value).parts:
        raise Misspelt(MAILDIR)
    return value


def address_pattern(value: object) -> str:
    """An address in its look-up spelling, or every address of a domain."""
    if isinstance(value, str) and value.startswith("*@"):
        return "*@" + domain(value[2:])
    try:
        return str(address(value))
    except Misspelt as error:
        raise Misspelt(ADDRESS_PATTERN, error.hint) from None


def checker(value: object) -> str:
    """A credentials checker by its ``strcred`` name; whether there is such a one is found out when it is made."""
    if not isinstance(value, str) or not _CHECKER.match(value):
        raise Misspelt("the name of a checker, perhaps a colon and its argument")
    return value


def text(value: object) -> str:
    """A line of text."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Misspelt(TEXT)
    return value


def url(value: object) -> str:
    """Where something is asked: with TLS, or on this machine."""
    if not isinstance(value, str) or not _URL.match(value):
        raise Misspelt("an https: URL, or an http: one on this machine")
    return value


def path(value: object) -> Path:
    """A path in the file system."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise Misspelt(PATH)
    return Path(value)


def text_path(value: object) -> str:
    """A path that stays text, for ``-`` has a meaning of its own."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise Misspelt(PATH)
    return value


def name(value: object) -> str:
    """The name of a policy."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise Misspelt(NAME)
    return value


def folder(value: object) -> str:
    """The name of a folder of a mailbox."""
    if not isinstance(value, str) or not _FOLDER.match(value):
        raise Misspelt(FOLDER)
    return value


def choice(allowed: str, *choices: object) -> Callable[[object], object]:
    """A reader that takes one of ``choices`` and nothing else (``1`` is not ``true``)."""

    def read(value: object) -> object:
        for one in choices:
            if value == one and type(value) is type(one):
                return one
        raise Misspelt(allowed, did_you_mean(value, [str(one) for one in choices]))

    return read
