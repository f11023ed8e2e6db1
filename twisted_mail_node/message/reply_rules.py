"""Finds the first line of ``replies.toml`` that fits a reply of another host (RFC 5321 section 4.2, RFC 3463).

Pure, and cheap for any text: words are found by look-ups in an index and by substring search, never by patterns that
could run away. What stands in the file is turned into ``Rules`` once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

#: Characters of a reply that are looked at; what follows is boilerplate, or an attempt to keep us busy.
TEXT_MAX = 2000
#: Letters of a word that must be known for it to be found.
STEM = 3

# RFC 5321 section 4.2: a code, alone or before a space or a hyphen; RFC 2034: class.subject.detail. Some write a "#".
_REPLY = re.compile(r"\s*([2-5][0-9][0-9])(?=[ -]|$)[ -]?(?:#?([245])\.([0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?")
_STATUS = re.compile(r"\s*#?([245])\.([0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
_INSIDE = re.compile(r"(?<![0-9a-zA-Z.])[45][0-9][0-9](?=[ -])")
_NOT_WORDS = {number: " " for number in range(128) if not chr(number).isalnum()}


#: What must stand in a text, one piece after the other; a space at an end of one is the end of a word.
Pieces: TypeAlias = tuple[str, ...]


class Said(NamedTuple):
    """A reply, taken apart.

    :ivar code: three digits, or only the class where the text has no code, or ``""``.
    :ivar status: subject and detail of its enhanced status code (``7.26``), ``""`` without one.
    :ivar text: its words in small letters with a space before and after each; nothing but letters and digits.
    """

    code: str
    status: str
    text: str


class Rule(NamedTuple):
    """One line of the file.

    :ivar words: alternatives; each is the pieces that must be found one after the other.
    """

    cause: str
    of: str
    codes: tuple[str, ...]
    statuses: frozenset[str]
    words: tuple[Pieces, ...]


class Provider(NamedTuple):
    """Whose replies a rule is about.

    :ivar hosts: ends of host names, with their dot.
    :ivar marks: words that nobody else uses.
    """

    hosts: tuple[str, ...]
    marks: tuple[Pieces, ...]


def take_apart(text: str, status: str = "") -> Said:
    """A reply as it came, on one line or several.

    :param status: the enhanced status code, where it is known from elsewhere.
    """
    text = text[:TEXT_MAX]
    code = found = ""
    match = _REPLY.match(text)
    if match is not None:
        code, found = match[1], match[3] or ""
        text = text[match.end() :]
        # Gathered lines may still hold "550-5.7.1" at each line's begin, in the midst of a phrase.
        if found:
            for mark in (f"{code}-{match[2]}.{found}", f"{code} {match[2]}.{found}"):
                text = text.replace(mark, " ")
        text = text.replace(f"\n{code}-", " ").replace(f"\n{code} ", " ")
    else:
        match = _STATUS.match(text)
        if match is not None:
            code, found, text = match[1], match[2], text[match.end() :]
    if not found or not code:
        match = _STATUS.match(status)
        if match is not None:
            code, found = code or match[1], found or match[2]
    return Said(code, found, _words(text))


def begin_of_reply(text: str) -> str:
    """``text`` from its first reply code on, for people who copy a line of a log; all of it where there is none."""
    text = text[:TEXT_MAX]
    if _REPLY.match(text) or _STATUS.match(text):
        return text
    match = _INSIDE.search(text)
    return text if match is None else text[match.start() :]


class Rules:
    """All lines, in their order.

    :param table: what ``replies.toml`` holds.
    :raises ValueError: a line has a key that is none, or words that are too short to be found.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.rules = tuple(_rule(line) for part in table["replies"] for line in part["lines"])
        self._providers = {name: _provider(one) for name, one in table["provider"].items()}
        self._ways: list[tuple[Rule, Pieces]] = []  #: every way to fit, in the order of the lines
        self._by_word: dict[str, list[int]] = {}  #: ways by a whole word of their pieces
        self._by_stem: dict[str, list[int]] = {}  #: ways by the first letters of a word of their pieces
        self._by_status: dict[str, list[int]] = {}
        self._by_code: list[int] = []  #: ways that want nothing else
        for rule in self.rules:
            for pieces in rule.words:
                self._enter(rule, pieces)
            if not rule.words:
                for status in rule.statuses:
                    self._by_status.setdefault(status, []).append(len(self._ways))
                if not rule.statuses:
                    self._by_code.append(len(self._ways))
                self._ways.append((rule, ()))

    def first(self, said: Said, host: str) -> Rule | None:
        """The first rule that fits.

        :param host: name of the host that said it, ``""`` where it is not known.
        """
        code, status, text = said
        by_word, by_stem = self._by_word, self._by_stem
        asked: list[int] = [*self._by_status.get(status, ()), *self._by_code]
        for word in set(text.split()):
            if word in by_word:
                asked += by_word[word]
            stem = word[:STEM]
            if stem in by_stem:
                asked += by_stem[stem]
        asked.sort()
        host = f".{host.lower().rstrip('.')}"
        ways = self._ways
        for number in asked:
            rule, pieces = ways[number]
            of, codes, statuses = rule.of, rule.codes, rule.statuses
            if (
                (not codes or code.startswith(codes))
                and (not statuses or status in statuses)
                and _stands(pieces, text)
                and (not of or self._is_of(of, text, host))
            ):
                return rule
        return None

    def _is_of(self, name: str, text: str, host: str) -> bool:
        provider = self._providers[name]
        return host.endswith(provider.hosts) or any(_stands(pieces, text) for pieces in provider.marks)

    def _enter(self, rule: Rule, pieces: Pieces) -> None:
        """Into the index: under the longest whole word of the pieces, or the begin of a word where they have none."""
        number = len(self._ways)
        self._ways.append((rule, pieces))
        whole = [word for piece in pieces for word in piece.split() if f" {word} " in piece]
        if whole:
            self._by_word.setdefault(max(whole, key=len), []).append(number)
            return
        stems = [piece[1 : 1 + STEM] for piece in pieces if piece.startswith(" ") and len(piece) > STEM]
        if not stems:
            raise ValueError(f"words of replies.toml cannot be found: {pieces}")
        self._by_stem.setdefault(stems[0], []).append(number)


def _rule(line: Mapping[str, Any]) -> Rule:
    unknown = set(line) - {"cause", "of", "code", "status", "words"}
    if unknown:
        raise ValueError(f"a line of replies.toml has {', '.join(sorted(unknown))}")
    return Rule(
        line["cause"],
        line.get("of", ""),
        tuple(line.get("code", ())),
        frozenset(line.get("status", ())),
        _alternatives(line.get("words", ())),
    )


def _provider(table: Mapping[str, Sequence[str]]) -> Provider:
    return Provider(tuple(host.removeprefix("*") for host in table["hosts"]), _alternatives(table["marks"]))


def _alternatives(texts: Iterable[str]) -> tuple[Pieces, ...]:
    return tuple(tuple(piece for piece in f" {text} ".split("*") if piece.strip()) for text in texts)


def _words(text: str) -> str:
    """The words; those of addresses do not count, for anybody may be called "spam"."""
    if "@" in text:
        text = " ".join([word for word in text.split() if "@" not in word])
    return f" {' '.join(text.lower().translate(_NOT_WORDS).split())} "


def _stands(pieces: Pieces, text: str) -> bool:
    """Whether the pieces stand in the text, one after the other; they may share a space."""
    start = 0
    for piece in pieces:
        found = text.find(piece, start)
        if found < 0:
            return False
        start = found + len(piece) - piece.endswith(" ")
    return True
