"""Reads the address lists of From, Sender, Reply-To and Resent- fields (RFC 5322 section 3.4).

What is read here decides who wrote a mail, so nothing is guessed: what is not surely one reading is a ``MailboxError``.
Comments, quoted strings, folding and the obsolete forms (RFC 5322 section 4.4) are understood, UTF-8 too (RFC 6532).
An encoded-word (RFC 2047) is the octets it is: nothing here decodes one.

Each octet is looked at once or twice, and a field that is longer than any author needs is not looked at at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from twisted_mail_node.message.address import Address
from twisted_mail_node.smtp.grammar import LOCAL_PART_MAX, GrammarError, parse_domain

#: Octets of a field's value. Nobody has so many authors; To and Cc, which may be longer, are not read here.
VALUE_MAX = 8192

_UNFOLD = re.compile(rb"\r\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_TOKEN = re.compile(
    r"(?P<space>[ \t]+)"
    r'|(?P<atom>[^\x00-\x20"(),.:;<>@\[\\\]\x7f-\x9f]+)'
    r'|(?P<quoted>"(?:[^"\\]|\\.)*+")'
    r"|(?P<literal>\[[^\[\]\\ \t]*+\])"
    r"|(?P<special>[.,:;<>@])"
)
#: What a quoted local-part must not hold where readers may take it for more than one address.
_LIKE_ADDRESSES = re.compile(r'[@<>,;:()"\\]')
_IN_COMMENT = re.compile(r"(?:[^()\\]|\\.)*+")
_PAIR = re.compile(r"\\(.)")


class MailboxError(ValueError):
    """The field cannot be understood for sure; the words say why, and can follow the field's name and a colon."""


class Token(NamedTuple):
    """A piece of an address list.

    :ivar kind: ``space``, ``comment``, ``atom``, ``quoted``, ``literal``, or the special character it is.
    :ivar text: as it was written.
    """

    kind: str
    text: str

    @property
    def meant(self) -> str:
        """What it stands for: without the quotes and backslashes of a quoted string."""
        return _PAIR.sub(r"\1", self.text[1:-1]) if self.kind == "quoted" else self.text


def tokens(value: bytes) -> list[Token]:
    """The tokens of a structured field's value (RFC 5322 section 3.2); joined they are the value, unfolded.

    :raises MailboxError: it holds what no such field may.
    """
    try:
        text = _UNFOLD.sub(b"", value).decode("utf-8")
    except UnicodeDecodeError:
        raise MailboxError("it is neither ASCII nor UTF-8") from None
    if _CONTROL.search(text):
        raise MailboxError("it holds a control character")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is not None:
            kind = match.lastgroup or ""
            found.append(Token(match[0] if kind == "special" else kind, match[0]))
            at = match.end()
        elif text[at] == "(":
            end = _comment_end(text, at)
            found.append(Token("comment", text[at:end]))
            at = end
        else:
            words = {'"': "a quoted string does not end", "[": "an address literal is malformed"}
            raise MailboxError(words.get(text[at], f"the character {text[at]!r} has no meaning here"))
    return found


def _comment_end(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        if text[at] == "(":
            depth += 1
        elif text[at] == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        else:
            break  # a backslash with nothing behind it
        match = _IN_COMMENT.match(text, at + 1)
        assert match is not None
        at = match.end()
    raise MailboxError("a comment does not end")


def mailboxes(value: bytes, *, plain: bool = False) -> tuple[Address, ...]:
    """Every mailbox of an address list, in order; those of groups too. Names and comments are passed over.

    :param plain: groups, source routes, addresses with spaces, comments or folding in them, and comments and quoted
        local-parts with addresses in them are errors: an author needs none of these, and readers of mail disagree
        about them.
    :raises MailboxError: it cannot be understood for sure.
    """
    if len(value) > VALUE_MAX:
        raise MailboxError(f"it is longer than {VALUE_MAX} octets")
    return tuple(_Reader(tokens(value), plain).addresses())


class _Reader:
    """Reads tokens from the left; each is taken once.

    :ivar _found: the tokens without white space and comments, each with whether it stands close behind the one before.
    """

    __slots__ = ("_at", "_found", "_plain")

    def __init__(self, found: list[Token], plain: bool) -> None:
        self._found: list[tuple[Token, bool]] = []
        self._plain = plain
        self._at = 0
        close = True
        for token in found:
            if token.kind in ("space", "comment"):
                if plain and "@" in token.text:
                    raise MailboxError("a comment holds an address")
                close = False
            else:
                self._found.append((token, close))
                close = True

    @property
    def _next(self) -> str:
        """The kind of the next token; ``""`` at the end."""
        return self._found[self._at][0].kind if self._at < len(self._found) else ""

    def addresses(self) -> Iterator[Address]:
        """The whole list (RFC 5322 sections 3.4 and 4.4); empty members are passed over."""
        in_group = False
        while self._next:
            if self._next == ",":
                self._at += 1
                continue
            if self._next == ";":
                if not in_group:
                    raise MailboxError("a semicolon ends no group")
                in_group = False
                self._at += 1
            else:
                begun = self._at
                named = self._words()
                if self._next == "@":
                    self._at = begun
                    yield self._address()
                elif self._next == "<":
                    yield self._in_brackets()
                elif self._next == ":" and named and not in_group:
                    if self._plain:
                        raise MailboxError("a group is no author")
                    in_group = True
                    self._at += 1
                    continue
                else:
                    words = "there is a name without an address" if named else f"{self._next!r} stands alone"
                    raise MailboxError(words)
            if self._next not in ("", ",", ";"):
                raise MailboxError("something follows an address without a comma between them")
        if in_group:
            raise MailboxError("a group does not end")

    def _words(self) -> bool:
        """Pass over words and dots: a name, or a local-part. True when there was one."""
        begun = self._at
        while self._next in ("atom", "quoted", ".") and (self._at > begun or self._next != "."):
            self._at += 1
        return self._at > begun

    def _in_brackets(self) -> Address:
        self._at += 1
        if self._next in ("@", ","):
            self._route()
        address = self._address()
        if self._next != ">":
            raise MailboxError("an angle bracket does not end behind its address")
        self._at += 1
        return address

    def _route(self) -> None:
        """A source route (RFC 5322 section 4.4, obs-route), which says nothing today."""
        if self._plain:
            raise MailboxError("an address has a source route")
        while self._next in ("@", ","):
            self._at += 1
            if self._next not in ("@", ",", ":"):
                self._domain()
        if self._next != ":":
            raise MailboxError("a source route does not end")
        self._at += 1

    def _address(self) -> Address:
        """local-part ``@`` domain."""
        begun = self._at
        words = [self._word()]
        while self._next == ".":
            self._at += 1
            words.append(self._word())
        if self._plain and len(words) > 1 and any(word.kind == "quoted" for word in words):
            raise MailboxError("an address is quoted in part")
        if self._plain and _LIKE_ADDRESSES.search(words[0].meant):
            raise MailboxError("an address has quotes around what looks like another")
        if self._next != "@":
            raise MailboxError("an address has no @")
        self._at += 1
        domain = self._domain()
        if self._plain and not all(close for _, close in self._found[begun + 1 : self._at]):
            raise MailboxError("an address has spaces or comments in it")
        local_part = ".".join(word.meant for word in words)
        if not local_part or len(local_part.encode()) > LOCAL_PART_MAX:
            raise MailboxError(f"a local-part is empty, or longer than {LOCAL_PART_MAX} octets")
        return Address(local_part, domain)

    def _word(self) -> Token:
        if self._next not in ("atom", "quoted"):
            raise MailboxError("an address is malformed before its @")
        self._at += 1
        return self._found[self._at - 1][0]

    def _domain(self) -> str:
        """A domain or an address literal, in the spelling that addresses are compared in."""
        pieces: list[str] = []
        while self._next == ("." if len(pieces) % 2 else "atom") or (self._next == "literal" and not pieces):
            pieces.append(self._found[self._at][0].text)
            self._at += 1
            if pieces[0][0] == "[":
                break
        try:
            return parse_domain("".join(pieces))
        except GrammarError as error:
            raise MailboxError(str(error)) from None
