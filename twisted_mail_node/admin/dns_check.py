"""Compares what the DNS says of a local domain with what ``dns_publish`` would have it say.

Pure: values and answers in, findings out, one sentence each: what is there, what should be, and what to do. An answer
that could not be had is told as such, and never taken for a record that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from twisted_mail_node.admin.dns_answers import Answers
from twisted_mail_node.admin.dns_lines import Line, ZoneLine
from twisted_mail_node.admin.dns_node import Facts
from twisted_mail_node.dns.answer import DNSError

#: Characters of a published text that a sentence quotes.
SHOWN_MAX = 300


class Severity(StrEnum):
    """How bad it is. An error loses mail, now or as soon as somebody looks; a note may be meant so."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    OK = "ok"


class Finding(NamedTuple):
    """One sentence. ``about``: which kind of record. ``publish``: records that would mend it."""

    severity: Severity
    about: str
    words: str
    publish: tuple[ZoneLine, ...] = ()


Check = Callable[[Facts, Answers], Iterator[Finding]]


def findings(facts: Facts, answers: Answers, checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """All that the checks find, in their order.

    :param checks: each with the kind of record it is about.
    """
    found: list[Finding] = []
    for about, check in checks:
        try:
            for finding in check(facts, answers):
                found.append(finding)  # what comes before an answer that lacks is kept
        except DNSError as error:
            words = f"{about} of {facts.domain} could not be asked: {error}. Ask again later."
            found.append(Finding(Severity.ERROR, about, words))
    return found


def records(lines: Iterable[Line]) -> tuple[ZoneLine, ...]:
    """The records among lines."""
    return tuple(line for line in lines if isinstance(line, ZoneLine))


def missing(severity: Severity, about: str, words: str, lines: Iterable[Line]) -> Finding:
    """Something is not there, or not right: the sentence ends with what to publish."""
    wanted = records(lines)
    listed = ", ".join(map(str, wanted))
    return Finding(severity, about, f"{words}; publish: {listed}{'' if listed.endswith('.') else '.'}", wanted)


def shown(text: str | bytes) -> str:
    """A published text in a sentence."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return f'"{text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"}"'


def joined(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
