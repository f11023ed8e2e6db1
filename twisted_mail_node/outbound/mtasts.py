"""MTA-STS (RFC 8461): what a domain says of the TLS of its mail exchangers, read from its TXT record and policy file.

Pure: octets in, values out. ``mtasts_fetch`` gets the file, ``mtasts_policies`` remembers and asks again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from twisted_mail_node.dns.wire import name_key

#: RFC 8461 section 3.2: seconds; a policy that says more is kept for so long.
MAX_AGE = 31_557_600
#: Octets of a policy file (RFC 8461 section 3.3 suggests 64 kilobytes).
POLICY_MAX = 64 << 10
#: mx lines of a policy. The largest providers have a few dozen hosts, and each is compared with every name.
EXCHANGERS_MAX = 500
#: Characters of a wrong line that a sentence quotes.
SHOWN_MAX = 60

Mode = Literal["enforce", "testing", "none"]

# RFC 8461 section 3.1.
_VERSION = re.compile(rb"v=STSv1[ \t]*(?:;|\Z)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([!-:<>-~]+)\Z")
# RFC 8461 section 3.2.
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(.*?)[ \t]*\Z", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AGE = re.compile(r"[0-9]{1,10}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PATTERN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")


class PolicyError(ValueError):
    """A policy file that is none; the sentence says why."""


class StsPolicy(NamedTuple):
    """A domain's policy.

    :ivar id: of the TXT record that led to it.
    :ivar exchangers: the mx patterns in their order, in look-up spelling.
    :ivar max_age: seconds it holds, at most ``MAX_AGE``.
    :ivar fetched: when it was fetched, seconds since the epoch.
    """

    id: str
    mode: Mode
    exchangers: tuple[str, ...]
    max_age: int
    fetched: float

    def allows(self, host: str) -> bool:
        """Whether a mail exchanger's name fits a pattern (RFC 8461 section 4.1): ``*`` stands for one whole label."""
        name = name_key(host)
        if name is None:
            return False
        return name in self.exchangers or f"*.{name.partition('.')[2]}" in self.exchangers

    @property
    def expires(self) -> float:
        """When it holds no longer, seconds since the epoch."""
        return self.fetched + self.max_age

    @property
    def lines(self) -> tuple[str, ...]:
        """As reports show it (RFC 8460)."""
        return (
            "version: STSv1",
            f"mode: {self.mode}",
            *(f"mx: {pattern}" for pattern in self.exchangers),
            f"max_age: {self.max_age}",
        )


def id_of(records: Sequence[object]) -> str | None:
    """The id in the TXT records of ``_mta-sts.DOMAIN``; ``None`` where the domain announces no policy.

    Exactly one record must begin with the version, and it must be right as a whole (RFC 8461 section 3.1).

    :param records: each with its strings joined; what is no ``bytes`` is passed over.
    """
    ours = [record for record in records if isinstance(record, bytes) and _VERSION.match(record)]
    if len(ours) != 1 or not ours[0].isascii():
        return None
    first, *fields = (part.strip(" \t") for part in ours[0].decode("ascii").split(";"))
    if fields and not fields[-1]:
        fields.pop()
    found = None
    for field in fields:
        match = _FIELD.match(field)
        if match is None:
            return None
        if match[1] == "id" and found is None:
            found = match[2]
    return found if first == "v=STSv1" and found is not None and _ID.match(found) else None


def read_policy(octets: bytes, policy_id: str, fetched: float) -> StsPolicy:
    """The policy in a file (RFC 8461 section 3.2). Lines end in LF or CRLF; unknown fields are passed over; of a field
    that stands twice the first counts, but for ``mx``.

    :raises PolicyError: it is none.
    """
    if len(octets) > POLICY_MAX:
        raise PolicyError(f"it is larger than {POLICY_MAX >> 10} KiB")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError("it is not UTF-8") from None
    values: dict[str, str] = {}
    exchangers: dict[str, None] = {}
    count = 0
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if not line.strip(" \t"):
            continue
        name, value = _read_line(line)
        if name != "mx":
            values.setdefault(name, value)
            continue
        count += 1
        if count > EXCHANGERS_MAX:
            raise PolicyError(f"it has more than {EXCHANGERS_MAX} mx lines")
        exchangers[_pattern(value)] = None
    if values.get("version") != "STSv1":
        raise PolicyError("its version is not STSv1")
    mode = values.get("mode")
    if mode not in ("enforce", "testing", "none"):
        raise PolicyError("its mode is not enforce, testing or none")
    if not _AGE.match(values.get("max_age", "")):
        raise PolicyError("its max_age is not a number of seconds")
    if not exchangers and mode != "none":
        raise PolicyError("it names no mail exchanger (mx)")
    age = min(int(values["max_age"]), MAX_AGE)
    return StsPolicy(policy_id, cast(Mode, mode), tuple(exchangers), age, fetched)


def _pattern(value: str) -> str:
    """An mx pattern as it is compared: in lower case, without a dot at its end. It has A-labels (RFC 8461 section 3.2:
    the Domain of RFC 5321)."""
    wild = "*." if value.startswith("*.") else ""
    name = name_key(value.removeprefix("*."))
    if name is None or not value.isascii() or not _PATTERN.match(name):
        raise PolicyError(f"an mx line names no host: {_shown(value)}")
    return wild + name


def _read_line(line: str) -> tuple[str, str]:
    match = _LINE.match(line)
    if match is None or not match[2] or _CONTROL.search(match[2]):
        raise PolicyError(f"a line is not of the form name: value: {_shown(line)}")
    return match[1], match[2]


def _shown(text: str) -> str:
    """So much of what they wrote as fits a sentence, on one line."""
    return ascii(text[:SHOWN_MAX])
