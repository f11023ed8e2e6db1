"""Checks the endpoint strings of listeners as Twisted reads them, without importing a reactor.

Only the kinds a mail node can listen on are known: ``tcp``, ``tcp6``, ``unix`` and ``systemd``.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from twisted_mail_node.settings_problems import Misspelt, did_you_mean

ENDPOINT = (
    "a server endpoint of Twisted: \"tcp:2525:interface=127.0.0.1\", 'tcp6:2525:interface=\\:\\:1', "
    '"unix:/run/mail.sock:mode=660" or "systemd:domain=INET:name=smtp"'
)


def _port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _positive(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6 and int(text) > 0


def _ipv4(text: str) -> bool:
    try:
        return bool(str(IPv4Address(text)))
    except ValueError:
        return False


def _ipv6(text: str) -> bool:
    try:
        return bool(str(IPv6Address(text)))
    except ValueError:
        return False


def _mode(text: str) -> bool:
    return 0 < len(text) <= 4 and all(digit in "01234567" for digit in text)


# kind → its parameters in order: name, test, what the test wants. The first is required.
_KINDS: dict[str, dict[str, tuple[Callable[[str], bool], str]]] = {
    "tcp": {
        "port": (_port, "a number from 0 to 65535 (0: any free port)"),
        "interface": (_ipv4, "an IPv4 address; for IPv6 use tcp6"),
        "backlog": (_positive, "a whole number of at least 1"),
    },
    "tcp6": {
        "port": (_port, "a number from 0 to 65535 (0: any free port)"),
        "backlog": (_positive, "a whole number of at least 1"),
        "interface": (_ipv6, "an IPv6 address with its colons written \\:"),
    },
    "unix": {
        "address": (lambda text: bool(text) and "\0" not in text, "a path"),
        "mode": (_mode, "an octal mode such as 660"),
        "backlog": (_positive, "a whole number of at least 1"),
        "lockfile": (lambda text: text in ("0", "1"), "0 or 1"),
    },
    "systemd": {
        "domain": (lambda text: text in ("INET", "INET6", "UNIX"), "INET, INET6 or UNIX"),
        "index": (lambda text: text.isascii() and text.isdigit(), "a whole number"),
        "name": (lambda text: bool(text), "the name of a socket unit's descriptor"),
    },
}


def split(text: str) -> tuple[list[str], dict[str, str]]:
    """An endpoint string in its parts: those without a name and those with one, as Twisted splits it.

    :raises Misspelt: it ends in a lone backslash, or names a parameter twice.
    """
    parts: list[list[str]] = [[""]]
    octets = iter(text)
    for octet in octets:
        if octet == ":":
            parts.append([""])
        elif octet == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        elif octet == "\\":
            following = next(octets, None)
            if following is None:
                raise Misspelt(ENDPOINT, "it ends in a lone backslash")
            parts[-1][-1] += following
        else:
            parts[-1][-1] += octet
    named: dict[str, str] = {}
    for part in parts:
        if len(part) == 2:
            if part[0] in named:
                raise Misspelt(ENDPOINT, f"'{part[0]}' is given twice")
            named[part[0]] = part[1]
    return [part[0] for part in parts if len(part) == 1], named


def endpoint(value: object) -> str:
    """A server endpoint string, kept as text once it is known to be one.

    :raises Misspelt: it is none that we can listen on.
    """
    if not isinstance(value, str):
        raise Misspelt(ENDPOINT)
    parts(value)
    return value


def parts(value: str) -> tuple[str, dict[str, str]]:
    """The kind of a server endpoint string, and its parameters by their names.

    :raises Misspelt: it is none that we can listen on.
    """
    unnamed, named = split(value)
    if not unnamed:
        raise Misspelt(ENDPOINT)
    kind, *positional = unnamed
    if kind in ("ssl", "tls"):
        raise Misspelt(ENDPOINT, 'write the endpoint with tcp, and tls = "implicit" beside it')
    known = _KINDS.get(kind)
    if known is None:
        hint = f"did you mean 'tcp:{value}'?" if _port(value) else did_you_mean(kind, _KINDS)
        raise Misspelt(ENDPOINT, hint)
    if len(positional) > len(known):
        raise Misspelt(ENDPOINT, f"'{kind}' takes at most {len(known)} parameters; write the colons of a value as \\:")
    given = dict(zip(known, positional, strict=False))
    for name, text in named.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"'{kind}' knows {', '.join(known)}"
            raise Misspelt(ENDPOINT, hint)
        if name in given:
            raise Misspelt(ENDPOINT, f"'{name}' is given twice")
        given[name] = text
    first = next(iter(known))
    if first not in given:
        raise Misspelt(ENDPOINT, f"its {first} is missing")
    for name, text in given.items():
        fits, wanted = known[name]
        if not fits(text):
            raise Misspelt(ENDPOINT, f"its {name} must be {wanted}")
    if kind == "systemd" and ("index" in given) == ("name" in given):
        raise Misspelt(ENDPOINT, "'systemd' needs one of index and name")
    return kind, given
