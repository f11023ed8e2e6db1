"""The TXT record of a key (RFC 6376 section 3.6): where it stands, how a zone file has it, who shows it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mail_node.mailauth.keys import read_key
from twisted_mail_node.mailauth.tags import TagError, read

#: Octets of one string of a TXT record (RFC 1035 section 3.3).
STRING_MAX = 255
#: Seconds that resolvers may keep the record.
TTL = 3600
#: What a name server does that has no record of a key at all.
NOT_SHOWN = "does not show it"


def owner(selector: str, domain: str) -> str:
    """The name of the record (RFC 6376 section 3.6.2.1), without a trailing dot."""
    return f"{selector}._domainkey.{domain}"


def strings(text: str) -> list[str]:
    """The text in the strings of a TXT record; RFC 6376 section 3.6.2.2 joins them without spaces."""
    return [text[start : start + STRING_MAX] for start in range(0, len(text), STRING_MAX)]


def zone_line(selector: str, domain: str, text: str) -> str:
    """The record as a zone file has it (RFC 1035 section 5.1): in parentheses where it has several strings."""
    quoted = [f'"{string}"' for string in strings(text)]
    value = quoted[0] if len(quoted) == 1 else "( {} )".format("\n    ".join(quoted))
    return f"{owner(selector, domain)}. {TTL} IN TXT {value}"


def difference(shown: Iterable[object], text: str) -> str:
    """Why what a name server shows is not our record, in words; ``""`` when it is.

    :param shown: its TXT records, the strings of each joined.
    """
    records = [one for one in shown if isinstance(one, bytes)]
    if not records:
        return NOT_SHOWN
    if len(records) > 1:
        return f"shows {len(records)} TXT records there, and there may be only one"  # RFC 6376 section 3.6.2.2
    ours = read(text.encode("ascii"))
    try:
        key = read_key(records[0])
        if "".join(read(records[0])["p"].split()) != ours["p"]:
            return "shows another key there"
    except TagError as error:
        return f"shows a record there that cannot be used: {error}"
    problem = key.unfit(ours["k"], "sha256")
    return f"shows the key with tags that will not do: {problem}" if problem else ""
