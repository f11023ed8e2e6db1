"""Tests of twisted_mail_node.smtp.mailboxes."""

from __future__ import annotations

import ast
import inspect
import json
import time
import unicodedata
import xml.etree.ElementTree as ElementTree
from email.utils import getaddresses
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.smtp.grammar import GrammarError, parse_address
from twisted_mail_node.smtp.mailboxes import VALUE_MAX, MailboxError, mailboxes, tokens

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "addresses"

_ATOMS = st.text("abz019!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=6)
_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=8)
_QUOTED = _TEXT.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
_COMMENTS = st.recursive(
    _TEXT.map(lambda text: "(" + "".join(one for one in text if one not in "()\\") + ")"),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "(x" + " ".join(parts) + ")"),
    max_leaves=4,
)
_SPACES = st.one_of(st.just(""), st.just(" "), st.just("\r\n\t"), _COMMENTS)
_DOMAINS = st.one_of(st.sampled_from(["example.org", "EXAMPLE.org", "bücher.example", "[192.0.2.1]", "a.b.c"]))
_LOCALS = st.one_of(st.lists(_ATOMS, min_size=1, max_size=3).map(".".join), _QUOTED.filter(lambda text: text != '""'))
_OPTIONS = inspect.signature(getaddresses).parameters
_NAMES = st.lists(st.one_of(_ATOMS, _QUOTED), max_size=3).map(" ".join)


class MailboxesTests(SynchronousTestCase):
    """Address lists."""

    def test_understood(self) -> None:
        """Every form of RFC 5322, the obsolete ones too."""
        joe, ann = Address("joe", "example.org"), Address("ann", "example.org")
        table: dict[bytes, tuple[Address, ...]] = {
            b"": (),
            b" joe@example.org ": (joe,),
            b"joe@EXAMPLE.ORG": (joe,),
            b"Joe <joe@example.org>": (joe,),
            b'"Smith, <Joe>" <joe@example.org>, ann@example.org': (joe, ann),
            b"Joe Q. Public <joe@example.org>": (joe,),
            b"(a (nested) \\) comment) joe@example.org (Joe, <x@y>)": (joe,),
            b"joe (c) . x @ (d) example . org": (Address("joe.x", "example.org"),),
            b'joe."x y"@example.org': (Address("joe.x y", "example.org"),),
            b'"joe\\"@x"@example.org': (Address('joe"@x', "example.org"),),
            b"joe@\r\n example.org": (joe,),
            b"team: joe@example.org, ann@example.org;": (joe, ann),
            b"team: joe@example.org;, nobody:;, ann@example.org": (joe, ann),
            b"<@a.example,@b.example:joe@example.org>": (joe,),
            b",joe@example.org,, ann@example.org,": (joe, ann),
            b"joe@[192.0.2.1]": (Address("joe", "[192.0.2.1]"),),
            "jürgen@bücher.example".encode(): (Address("jürgen", "bücher.example"),),
            b"=?utf-8?q?ann=40example=2Eorg?= <joe@example.org>": (joe,),
            b"=?utf-8?q?joe?=@example.org": (Address("=?utf-8?q?joe?=", "example.org"),),
        }
        for value, found in table.items():
            self.assertEqual(mailboxes(value), found, value)

    def test_refused(self) -> None:
        """What has not surely one reading, with words that say why."""
        table = {
            b"joe": "name without an address",
            b"=?utf-8?q?joe=40example=2Eorg?=": "name without an address",
            b"<>": "malformed before its @",
            b"<joe@example.org": "does not end",
            b"joe@example.org>": "without a comma",
            b"joe@example.org ann@example.org": "without a comma",
            b"joe@example.org <ann@example.org>": "without a comma",
            b"<joe@example.org> ann": "without a comma",
            b"joe@example.org@elsewhere.example": "without a comma",
            b"Smith, Joe <joe@example.org>": "name without an address",
            b"joe..x@example.org": "malformed",
            b".joe@example.org": "stands alone",
            b"joe.@example.org": "malformed",
            b"joe@": "domain",
            b"joe@example..org": "domain",
            b"joe@example.org.": "domain",
            b"joe@-x.example": "domain",
            b"joe@[192.0.2.999]": "literal",
            b"joe@[192.0.2.1": "literal",
            b"@example.org": "malformed before",
            b'""@example.org': "empty",
            b"x" * 300 + b"@example.org": "longer",
            b'"joe@example.org': "does not end",
            b"joe@example.org (": "does not end",
            b"joe@example.org (\\": "does not end",
            b"joe@example.org )": "no meaning",
            b"joe\\@x@example.org": "no meaning",
            b"team: joe@example.org": "does not end",
            b"joe@example.org;": "ends no group",
            b"a: b: joe@example.org;;": "name without",
            b": joe@example.org;": "stands alone",
            b"<@a.example joe@example.org>": "source route",
            b"joe@example.org\0": "control",
            b"joe@example.org\r": "control",
            b"joe@example.org\nann@example.org": "control",
            b"joe@example.org\r\nann@example.org": "control",
            b"joe\xff@example.org": "UTF-8",
            "joe@exa\u0085mple.org".encode(): "control",
            b"a@b," * (VALUE_MAX // 4) + b",": "longer",
        }
        for value, why in table.items():
            error = self.assertRaises(MailboxError, mailboxes, value)
            self.assertIn(why, str(error), value)

    def test_plain(self) -> None:
        """For an author: no groups, no source routes, nothing within an address."""
        for value, why in {
            b"team: joe@example.org;": "group",
            b"nobody:;": "group",
            b"<@a.example:joe@example.org>": "source route",
            b"joe@ example.org": "spaces or comments",
            b"joe @example.org": "spaces or comments",
            b"joe(x)@example.org": "spaces or comments",
            b"joe@example(x).org": "spaces or comments",
            b"joe.\r\n x@example.org": "spaces or comments",
            b'joe."x"@example.org': "quoted in part",
            b"joe@example.org (ann@example.org)": "comment holds an address",
        }.items():
            mailboxes(value)
            error = self.assertRaises(MailboxError, mailboxes, value, plain=True)
            self.assertIn(why, str(error))
        for value in (
            b"J. Q. (x) Public (y) < joe@example.org > (z)",
            b'"joe"@example.org',
            b"a@b.example, c@d.example",
        ):
            self.assertEqual(mailboxes(value, plain=True), mailboxes(value))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(_NAMES, _LOCALS, _DOMAINS, _SPACES, st.booleans()), max_size=4))
    def test_written_is_read(self, people: list[tuple[str, str, str, str, bool]]) -> None:
        """Whatever list is written after the grammar is read as it was meant; with more commas, too."""
        written, meant = [], []
        for name, local, domain, space, bare in people:
            mailbox = f"{local}@{domain}"
            written.append(space + (mailbox if bare else f"{name}{space} <{mailbox}>") + space)
            unquoted = "".join(_unquoted(local)) if local[0] == '"' else local
            meant.append(Address(unquoted, domain.lower()))
        value = ",".join(written).encode()
        self.assertEqual(mailboxes(value), tuple(meant))
        self.assertEqual(mailboxes(b"x:" + value + b";, ,"), tuple(meant))
        self.assertEqual("".join(token.text for token in tokens(value)).encode(), value.replace(b"\r\n", b""))

    @settings(max_examples=1000, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                ["joe@example.org", " <joe@example.org>", "ann", "@", "<", ">", "elsewhere.example", '"', "\\", "(",
                 ")", ",", ":", ";", ".", " ", "[", "]", "\r\n ", "=?utf-8?q?x=40y?=", "joe", "example", "\xff",
                 "\u0430", "x@y.z"]
            ),
            max_size=10,
        ).map("".join)
    )  # fmt: skip
    def test_one_reading(self, text: str) -> None:
        """Where we take somebody for the author, another reader (the standard library's) finds no other author."""
        try:
            found = mailboxes(text.encode(), plain=True)
        except MailboxError:
            return
        if not found:
            return  # it names no author, and so nobody is taken for one
        ours = {str(address).lower() for address in found}
        for options in ({"strict": True}, {"strict": False}) if "strict" in _OPTIONS else ({},):
            theirs = {str(address).lower() for _, one in getaddresses([text], **options) for address in _addresses(one)}
            self.assertLessEqual(theirs, ours, text)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=60))
    def test_never_breaks(self, value: bytes) -> None:
        """Octets of any kind are addresses or a MailboxError."""
        try:
            for address in mailboxes(value):
                self.assertTrue(address.local_part and address.domain)
        except MailboxError as error:
            self.assertTrue(str(error))

    def test_linear(self) -> None:
        """T32: the worst of its kind at the greatest length takes milliseconds."""
        size = VALUE_MAX - 20
        for value in (
            b"(" * size, b"(" * (size // 2) + b")" * (size // 2), b'"' * size, b'"\\' * (size // 2), b"<" * size,
            b"a@b.c," * (size // 6), b"." * size, b"a." * (size // 2) + b"@b", b"[" * size, b"\\" * size,
            b"a " * (size // 2), b"a@b" + b".c" * (size // 2), b"\r\n " * (size // 3), b"x:" * (size // 2),
        ):  # fmt: skip
            began = time.process_time()
            try:
                mailboxes(value)
            except MailboxError:
                pass
            self.assertLess(time.process_time() - began, 1.0, value[:10])  # it is 20 ms on an idle host


class VectorTests(SynchronousTestCase):
    """Addresses that others have collected."""

    def test_isemail(self) -> None:
        """What is valid for SMTP is read to the octet; what is an error for mail is refused (RFC 6532 lets more be)."""
        path = VECTORS / "isemail-tests.xml"
        if not path.exists():
            raise SkipTest("the vectors are not here")
        taken = refused = 0
        for test in ElementTree.parse(path).getroot().iter("test"):
            text = "".join(
                chr(ord(one) - 0x2400) if 0x2400 <= ord(one) < 0x2424 else one for one in test.findtext("address") or ""
            )
            category = test.findtext("category")
            try:
                found = mailboxes(text.encode())
            except MailboxError:
                refused += 1
                self.assertNotEqual(category, "ISEMAIL_VALID_CATEGORY", text)
            else:
                taken += 1
                if category in ("ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN"):
                    self.assertEqual([str(one) for one in found], [text.lower()])
                if category == "ISEMAIL_ERR" and found and text.isascii():
                    self.fail(f"{text!r} was taken: {found}")
        self.assertGreater(min(taken, refused), 50)

    def test_email_validator(self) -> None:
        """Addresses that are valid for email-validator are read, with the parts it names."""
        path = VECTORS / "email_validator_vectors.json"
        if not path.exists():
            raise SkipTest("the vectors are not here")
        compared = 0
        for vector in json.loads(path.read_text("utf-8"))["vectors"]:
            if not vector["group"].startswith("test_email_valid"):
                continue
            made = ast.parse(vector["want"], mode="eval").body
            assert isinstance(made, ast.Tuple)
            (one,) = made.elts
            if isinstance(one, ast.Call):
                (normal,) = [keyword.value for keyword in one.keywords if keyword.arg == "normalized"]
            else:
                normal = one
            expected = ast.literal_eval(normal)
            (found,) = mailboxes(vector["input"].encode())
            text = unicodedata.normalize("NFC", str(found))
            self.assertEqual(text if isinstance(one, ast.Call) else text.rpartition("@")[0], expected)
            compared += 1
        self.assertGreater(compared, 30)


def _addresses(text: str) -> tuple[Address, ...]:
    """The address, if the text is one at all."""
    try:
        return (parse_address(text),)
    except GrammarError:
        return ()


def _unquoted(text: str) -> list[str]:
    found: list[str] = []
    escaped = False
    for one in text[1:-1]:
        if one == "\\" and not escaped:
            escaped = True
        else:
            found.append(one)
            escaped = False
    return found
