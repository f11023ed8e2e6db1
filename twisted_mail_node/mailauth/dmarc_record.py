"""DMARC Policy Records, as they stand in TXT records of ``_dmarc.`` names (RFC 9989 section 4.7).

A record is one whose first tag is ``v=DMARC1``, exactly; everything else is no record at all. Behind it unknown tags,
and tags whose values are malformed, are as if they were not there (RFC 9989 section 4.8). So are tags that stand twice:
the tag-lists of DKIM, from which these come, have no such (RFC 6376 section 3.2), and nobody knows which was meant.

``p``, ``sp`` and ``np`` are another matter (RFC 9989 section 4.10.1): where one of them is malformed, or ``p`` is
missing, the record means ``p=none`` if it asks for aggregate reports, and nothing otherwise.

Of the tags that only RFC 7489 section 6.3 has, ``pct``, ``rf`` and ``ri`` are kept: see ``dmarc.check``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from twisted_mail_node.mailauth.results import Result

#: Octets of a record that is remembered. Real ones have some hundred; one TXT record may have 64 KiB.
REMEMBERED_MAX = 1024
#: Addresses of rua and ruf that are kept, each.
ADDRESSES_MAX = 20

POLICIES = ("none", "quarantine", "reject")

_VERSION = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_NAME = re.compile(r"[A-Za-z]+\Z")
_VALUE = re.compile(r"[\x20-\x7e\t]+\Z")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20!,<>\"{}|\\^`\x7f-\U0010ffff]+\Z")
_SIZE = re.compile(r"![0-9]+[kmgtKMGT]?\Z")
_FO = re.compile(r"[01ds](?::[01ds])*\Z")
_NUMBER = re.compile(r"[0-9]{1,10}\Z", re.ASCII)


class Record(NamedTuple):
    """A DMARC Policy Record.

    :ivar text: as it stands in the DNS.
    :ivar p: ``none``, ``quarantine`` or ``reject``: what the domain's own mail is to get when it fails.
    :ivar sp: the same for subdomains; ``""`` when it does not say, then ``p`` counts.
    :ivar np: the same for subdomains that do not exist; ``""`` when it does not say, then ``sp`` counts.
    :ivar adkim: ``r`` or ``s``, relaxed or strict alignment of DKIM, and :ivar aspf: of SPF.
    :ivar psd: ``y``, ``n`` or ``u``: whether it is a public suffix's, an organization's, or either's.
    :ivar testing: ``t=y``.
    :ivar pct: of RFC 7489; 100 when it does not say.
    :ivar rua: URIs that want aggregate reports, without the obsolete size; :ivar ruf: that want failure reports.
    :ivar fo: when failure reports are wanted; counts with ruf only.
    :ivar ri: seconds between reports, of RFC 7489, and :ivar rf: their format.
    :ivar wrong: ``""``, or why nothing is to be done by this record, as a sentence; :ivar result: and what that is
        called: ``none``, or ``permerror`` (RFC 9989 section 9.2) when a policy is there and is malformed.
    """

    text: str
    p: str = "none"
    sp: str = ""
    np: str = ""
    adkim: str = "r"
    aspf: str = "r"
    psd: str = "u"
    testing: bool = False
    pct: int = 100
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    fo: str = "0"
    ri: int = 86400
    rf: str = "afrf"
    wrong: str = ""
    result: Result = Result.NONE


def find(records: Sequence[bytes]) -> Record | None:
    """The one DMARC Policy Record among TXT records; ``None`` when there is none, or more than one: these are all
    discarded (RFC 9989 section 4.10)."""
    found = [record for text in records if (record := parse(text)) is not None]
    return found[0] if len(found) == 1 else None


def parse(text: bytes) -> Record | None:
    """A TXT record, its strings joined; ``None`` when it is no DMARC Policy Record."""
    return _remembered(text) if len(text) <= REMEMBERED_MAX else _parse(text)


def _parse(octets: bytes) -> Record | None:
    text = octets.decode("ascii", "replace")
    version = _VERSION.match(text)
    if version is None:
        return None
    tags = _tags(text[version.end() :])
    rua = _addresses(tags.get("rua", ""))
    p, sp, np = (tags.get(name, "").lower() for name in ("p", "sp", "np"))
    pct, ri = tags.get("pct", ""), tags.get("ri", "")
    record = Record(
        text,
        p,
        sp,
        np,
        "s" if tags.get("adkim", "").lower() == "s" else "r",
        "s" if tags.get("aspf", "").lower() == "s" else "r",
        psd if (psd := tags.get("psd", "").lower()) in ("y", "n") else "u",
        tags.get("t", "").lower() == "y",
        int(pct) if _NUMBER.match(pct) and int(pct) <= 100 else 100,
        rua,
        _addresses(tags.get("ruf", "")),
        fo if _FO.match(fo := tags.get("fo", "0").lower().replace(" ", "")) else "0",
        int(ri) if _NUMBER.match(ri) else 86400,
        tags.get("rf", "afrf").lower(),
    )
    wrong = [name for name in ("p", "sp", "np") if name in tags and tags[name].lower() not in POLICIES]
    if not wrong and "p" in tags:
        return record
    if rua:
        return record._replace(p="none", sp="", np="")
    if wrong:
        words = f"The DMARC record has no policy that is understood: {wrong[0]}={tags[wrong[0]][:40]}"
        return record._replace(p="", sp="", np="", wrong=words, result=Result.PERMERROR)
    return record._replace(p="", sp="", np="", wrong="The DMARC record has no policy, and asks for no reports.")


_remembered = lru_cache(maxsize=2048)(_parse)


def _tags(text: str) -> dict[str, str]:
    """Names in lower case, with their values as they were written; of a name that stands twice, ``?``."""
    tags: dict[str, str] = {}
    for tag in text.split(";"):
        name, equals, value = tag.partition("=")
        name, value = name.strip(" \t").lower(), value.strip(" \t")
        if not equals or not _NAME.match(name):
            continue
        tags[name] = value if name not in tags and _VALUE.match(value) else "?"
    return tags


def _addresses(text: str) -> tuple[str, ...]:
    """The URIs of a list that are such, without their sizes (RFC 9989 section 4.8, obs-dmarc-report-size)."""
    uris = (_SIZE.sub("", uri.strip(" \t")) for uri in text.split(","))
    return tuple(uri for uri in uris if _URI.match(uri))[:ADDRESSES_MAX]
