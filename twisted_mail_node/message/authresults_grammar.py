"""Reads Authentication-Results fields: the grammar of RFC 8601 section 2.2.

All that the grammar allows is taken: comments and folding wherever they may stand, nested ones too, quoted strings,
versions. What others write often is borne with: a last ``;``, a ``/`` or ``=`` in a value without quotes
(``header.b=Qgi/FoC0``), and words without a property type such as ``action=none``, which are passed over. All else is
a ``ValueError``. Sizes are bounded, and each octet is looked at a few times at most.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Octets of a field that are read. Real ones have some hundred.
FIELD_MAX = 65536
#: Comments within comments. Nobody needs two.
DEPTH_MAX = 50
#: Results in a field, and properties in one result. Ten signatures are many.
RESULTS_MAX = 200
PROPERTIES_MAX = 100
#: RFC 8617 section 4.2.1.
INSTANCE_MAX = 50

_UNFOLD = re.compile(r"\r\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"[ \t]*")
_IN_COMMENT = re.compile(r"(?:[^()\\]|\\.)*+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_PAIR = re.compile(r"\\(.)")
_KEYWORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGITS = re.compile(r"[0-9]{1,6}(?![0-9])", re.ASCII)
_ID = re.compile(r'[^\x00-\x20()<>@,;:\\"\[\]?=\x7f-\x9f]+')
_UNQUOTED = re.compile(r'[^\x00-\x20()<>,;:\\"\[\]\x7f-\x9f]+')


class Property(NamedTuple):
    """What of the mail a method looked at: ``smtp.mailfrom=example.net``.

    :ivar ptype: ``smtp``, ``header``, ``body`` or ``policy``, in lower case.
    :ivar name: in lower case.
    :ivar value: without quotes; but an address with a quoted local-part keeps them (``"joe smith"@example.net``).
    """

    ptype: str
    name: str
    value: str


class MethodResult(NamedTuple):
    """What one method came to.

    :ivar method: ``spf``, ``dkim`` …, and :ivar result: ``pass`` …, both in lower case.
    :ivar comment: all comments of it, without parentheses, joined by a space.
    """

    method: str
    result: str
    properties: tuple[Property, ...] = ()
    reason: str = ""
    comment: str = ""
    version: int = 1

    def value(self, ptype: str, name: str) -> str:
        """The value of the first such property; ``""`` without one."""
        return next((found.value for found in self.properties if found[:2] == (ptype, name)), "")


class AuthenticationResults(NamedTuple):
    """A whole field.

    :ivar authserv_id: who says so, as it was written, without quotes.
    :ivar results: none when nothing was checked.
    """

    authserv_id: str
    results: tuple[MethodResult, ...] = ()
    version: int = 1


def parse(value: bytes | str) -> AuthenticationResults:
    """The field's value, folded or not.

    :raises ValueError: it is malformed or out of bounds; a sentence tells how.
    """
    return _Reader(_text(value)).payload()


def parse_arc(value: bytes | str) -> tuple[int, AuthenticationResults]:
    """The value of an ARC-Authentication-Results field: its instance, and the rest (RFC 8617 section 4.1.1).

    :raises ValueError: as ``parse``; or the instance is not from 1 to 50 (section 4.2.1).
    """
    reader = _Reader(_text(value))
    reader.skip()
    named = reader.keyword("the instance").lower()
    reader.skip()
    if named != "i" or not reader.passes("="):
        raise ValueError("it does not begin with i=")
    reader.skip()
    instance = reader.number("the instance")
    reader.skip()
    if not 1 <= instance <= INSTANCE_MAX or not reader.passes(";"):
        raise ValueError(f"the instance is not from 1 to {INSTANCE_MAX}, or no ; stands behind it")
    reader.comments.clear()
    return instance, reader.payload()


def _text(value: bytes | str) -> str:
    if len(value) > FIELD_MAX:
        raise ValueError(f"it is longer than {FIELD_MAX} octets")
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is neither ASCII nor UTF-8") from None
    text = _UNFOLD.sub("", value.removesuffix("\r\n"))
    if _CONTROL.search(text):
        raise ValueError("it holds a control character")
    return text


class _Reader:
    """Reads from the left, one construct of the grammar a method.

    :ivar comments: those that were passed since somebody last took them.
    """

    __slots__ = ("at", "comments", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.comments: list[str] = []

    def payload(self) -> AuthenticationResults:
        """From the authserv-id to the end."""
        self.skip()
        name = self.authserv_id()
        version = 1
        self.skip()
        if self.next.isdigit():
            version = self.number("the version")
            self.skip()
        results: list[MethodResult] = []
        some = False
        while self.passes(";"):
            self.comments.clear()
            self.skip()
            if not self.next or self.next == ";":
                continue
            if len(results) == RESULTS_MAX:
                raise ValueError(f"it has more than {RESULTS_MAX} results")
            method = self.keyword("a method").lower()
            self.skip()
            if method == "none" and self.next in ("", ";") and not some:
                some = True
                continue
            results.append(self.result(method))
        if self.next:
            raise ValueError(f"there should be a ; before {self.rest}")
        if bool(results) == some:
            raise ValueError('there should be results, or "none" alone')
        return AuthenticationResults(name, tuple(results), version)

    def authserv_id(self) -> str:
        """A token or a quoted string."""
        if self.next == '"':
            return _PAIR.sub(r"\1", self.quoted()[1:-1])
        return self.take(_ID, "the authserv-id")

    def result(self, method: str) -> MethodResult:
        """resinfo, behind the method's name."""
        version = 1
        if self.passes("/"):
            self.skip()
            version = self.number("the version of a method")
            self.skip()
        if not self.passes("="):
            raise ValueError(f"there should be a = before {self.rest}")
        self.skip()
        result = self.keyword("a result").lower()
        reason = ""
        properties: list[Property] = []
        while self.skip() and self.next not in ("", ";"):
            ptype = self.keyword("a property").lower()
            self.skip()
            name = ""
            if self.passes("."):
                self.skip()
                name = self.keyword("a property").lower()
                self.skip()
            if not self.passes("="):
                raise ValueError(f"there should be a = before {self.rest}")
            self.skip()
            value = self.value()
            if name:
                if len(properties) == PROPERTIES_MAX:
                    raise ValueError(f"a result has more than {PROPERTIES_MAX} properties")
                properties.append(Property(ptype, name, value))
            elif ptype == "reason":
                reason = reason or value
        comment = " ".join(filter(None, self.comments))
        return MethodResult(method, result, tuple(properties), reason, comment, version)

    def value(self) -> str:
        """A token, a quoted string, or an address, the obsolete forms with spaces and comments in it too. Stands before
        white space, a comment, a ``;`` or the end."""
        found = [self.quoted() if self.next == '"' else self.take(_UNQUOTED, "a value")]
        while True:
            behind = self.at
            if not self.skip_in_value(found):
                break
            if self.next == '"':
                found.append(self.quoted())
            else:
                found.append(self.take(_UNQUOTED, "the rest of a value"))
        self.at = behind
        if len(found) == 1 and found[0][0] == '"':
            return _PAIR.sub(r"\1", found[0][1:-1])
        return "".join(found)

    def skip_in_value(self, found: list[str]) -> bool:
        """Pass over white space and comments when what follows belongs to the same address."""
        kept = len(self.comments)
        begun = self.at
        self.skip()
        unfinished = found[-1][-1] == "@" or (len(found) > 1 and found[-1] == ".")
        if self.next and (self.next in ".@" or unfinished or (self.next == '"' and self.at == begun)):
            return True
        del self.comments[kept:]  # they are met again
        return False

    @property
    def next(self) -> str:
        return self.text[self.at : self.at + 1]

    @property
    def rest(self) -> str:
        """What follows, for people."""
        return repr(self.text[self.at : self.at + 40]) if self.next else "the end"

    def passes(self, character: str) -> bool:
        """Step over one character, if it is the next."""
        if self.next != character:
            return False
        self.at += 1
        return True

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"{what} should stand before {self.rest}")
        self.at = match.end()
        return match[0]

    def keyword(self, what: str) -> str:
        return self.take(_KEYWORD, what)

    def number(self, what: str) -> int:
        return int(self.take(_DIGITS, what))

    def quoted(self) -> str:
        return self.take(_QUOTED, "a quoted string that ends")

    def skip(self) -> bool:
        """Pass over white space and comments (CFWS); True when there were any, or nothing follows, or a ``;``."""
        begun = self.at
        while True:
            space = _SPACE.match(self.text, self.at)
            assert space is not None
            self.at = space.end()
            if self.next != "(":
                break
            self.comment()
        return self.at > begun or self.next in ("", ";")

    def comment(self) -> None:
        begun = self.at + 1
        depth = 0
        while True:
            depth += 1 if self.next == "(" else -1
            if depth > DEPTH_MAX:
                raise ValueError(f"more than {DEPTH_MAX} comments stand within each other")
            self.at += 1
            if depth == 0:
                break
            match = _IN_COMMENT.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.next not in ("(", ")"):
                raise ValueError("a comment does not end")
        self.comments.append(_PAIR.sub(r"\1", self.text[begun : self.at - 1]))
