"""Header fields as signatures cover them (RFC 6376 sections 3.4.1, 3.4.2, 3.7, 5.4.2)."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.mailauth.canonical import (
    RUNS,
    HeaderFields,
    emptied,
    relaxed,
    signed_octets,
    simple,
    single_spaces,
)
from twisted_mail_node.message.header import Field, border, fields

PARTS = st.sampled_from(
    [
        b"\r\n",
        b"\r\n ",
        b"\r\n\t",
        b" ",
        b"\t",
        b"   ",
        b"a",
        b"B:",
        b"A: x",
        b"\xe4",
        b"\x0b",
        b"\x0c",
        b"\r",
        b"\n",
        b":",
    ]
)
HEADERS = st.lists(PARTS, max_size=20).map(lambda parts: b"A:" + b"".join(parts))


def field(raw: bytes) -> Field:
    """A field from its octets."""
    return fields(raw)[0]


def by_the_letter(one: Field) -> bytes:
    """Section 3.4.2, step by step."""
    value = one.value.replace(b"\r\n", b"")
    value = re.sub(rb"[ \t]+", b" ", value)
    return one.name.lower() + b":" + re.sub(rb"\A | \Z", b"", value)


class RelaxedTest(SynchronousTestCase):
    """One field."""

    def test_example(self) -> None:
        """The example of section 3.4.5."""
        header = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n"
        found = HeaderFields(header)
        self.assertEqual([found.canonical(0), found.canonical(1)], [b"a:X", b"b:Y Z"])
        self.assertEqual([relaxed(one) for one in fields(header)], [b"a:X", b"b:Y Z"])
        self.assertEqual([simple(one) for one in fields(header)], [b"A: X", b"B : Y\t\r\n\tZ  "])

    def test_other_white_space(self) -> None:
        """Only space and tab are white space: form feeds, bare CR and LF, and what Unicode has, are text."""
        self.assertEqual(relaxed(field(b"A: x\x0c y\x0b\xc2\xa0")), b"a:x\x0c y\x0b\xc2\xa0")
        self.assertEqual(relaxed(field(b"A: x\r y\n z")), b"a:x\r y\n z")

    def test_empty(self) -> None:
        """A field without a value, or with nothing but folds."""
        self.assertEqual(relaxed(field(b"A:")), b"a:")
        self.assertEqual(relaxed(field(b"A: \r\n \r\n\t")), b"a:")

    @given(HEADERS)
    def test_same(self, header: bytes) -> None:
        """The whole section at once gives what each field gives alone, which is the RFC's by the letter; the fields
        are those of ``message.header``."""
        header = header[: border(header)]
        found, plain = HeaderFields(header), fields(header)
        self.assertEqual([found.canonical(place) for place in range(len(plain))], [by_the_letter(one) for one in plain])
        self.assertEqual([relaxed(one) for one in plain], [by_the_letter(one) for one in plain])
        self.assertEqual(found.fields, plain)
        for name in {one.name.lower() for one in plain}:
            wanted = [place for place, one in enumerate(plain) if one.name.lower() == name]
            self.assertEqual(found.places(name), wanted)

    def test_spaces(self) -> None:
        """A megabyte of spaces becomes one, in a bounded number of passes."""
        self.assertEqual(single_spaces(b"a" + b" " * 1_000_003 + b"b"), b"a b")
        for length in range(2, 1 << 20, 997):
            run = length
            for size in RUNS:
                run = run // size + run % size
            self.assertLess(run, 1025 // 4)


class EmptiedTest(SynchronousTestCase):
    """The signature's own field."""

    def test_value(self) -> None:
        """The value of b= goes, and all white space around it, and nothing else."""
        for raw, left in (
            (b"D: a=1; b=xx; c=2", b"D: a=1; b=; c=2"),
            (b"D: a=1; b= \r\n\tx\r\n x \r\n ; c=2", b"D: a=1; b=; c=2"),
            (b"D: a=1; b=xx", b"D: a=1; b="),
            (b"D: a=1; b=xx=\r\n ", b"D: a=1; b="),
            (b"D:b=xx;bh=yy", b"D:b=;bh=yy"),
            (b"D: bh=b=; b\t =x;", b"D: bh=b=; b\t =;"),
            (b"D: x=b=1; bb=2; b=y; z=b=2", b"D: x=b=1; bb=2; b=; z=b=2"),
            (b"D: bh=yy", b"D: bh=yy"),
            (b"D : B=xx; b=y", b"D : B=xx; b="),
        ):
            with self.subTest(raw=raw):
                self.assertEqual(emptied(field(raw)).raw, left)

    @given(
        st.lists(
            st.sampled_from([b"b=x", b" b=", b"b =y", b"bh=b=", b"c=b=", b"\r\n b\t=z ", b"B=1", b" "]), max_size=6
        )
    )
    def test_relaxed_commutes(self, specs: list[bytes]) -> None:
        """It is the same whether b= is emptied before or after the "relaxed" algorithm, for whole sections, too."""
        raw = b"D:" + b";".join(specs)
        if raw.count(b"b=") + len(re.findall(rb"b[ \t]+=", raw)) != 1:
            return
        header = b"From: x\r\n" + raw + b"\r\n\r\n"
        found = HeaderFields(header)
        own = fields(header)[1]
        wanted = by_the_letter(fields(header)[0]) + b"\r\n" + by_the_letter(emptied(own))
        self.assertEqual(found.signed_octets([b"from"], 1, "relaxed"), wanted)
        self.assertEqual(signed_octets([fields(header)[0]], own, "relaxed"), wanted)


class ChooseTest(SynchronousTestCase):
    """Which fields h= means."""

    header = b"Received: A\r\nSubject: s\r\nreceived: B\r\nReceived : C\r\nDKIM-Signature: old\r\n\r\n"

    def test_from_the_bottom(self) -> None:
        """The example of section 5.4.2: of three fields, the two lowest, the lowest first."""
        found = HeaderFields(self.header)
        chosen = found.choose([b"received", b"subject", b"received"])
        self.assertEqual([one.unfolded for one in chosen], [b"C", b"s", b"B"])

    def test_used_up(self) -> None:
        """Names that are not there, or no longer, are the null string."""
        found = HeaderFields(self.header)
        self.assertEqual(found.choose_places([b"received"] * 5 + [b"x", b"subject", b"subject"]), [3, 2, 0, 1])

    def test_own(self) -> None:
        """A signature's own field is never what its h= means by DKIM-Signature; older ones are."""
        found = HeaderFields(b"DKIM-Signature: own\r\n" + self.header)
        self.assertEqual(found.choose_places([b"dkim-signature"] * 3, 0), [5])
        self.assertEqual(found.choose_places([b"dkim-signature"] * 3, 5), [0])
        self.assertEqual(found.choose_places([b"dkim-signature"] * 3), [5, 0])

    def test_joined(self) -> None:
        """The fields end in CRLF, the signature's own does not."""
        found = HeaderFields(b"D: b=x;\r\nA:  1\r\nB : 2\r\n\r\n")
        self.assertEqual(found.signed_octets([b"b", b"c", b"a"], 0, "relaxed"), b"b:2\r\na:1\r\nd:b=;")
        self.assertEqual(found.signed_octets([b"b", b"c", b"a"], 0, "simple"), b"B : 2\r\nA:  1\r\nD: b=;")
        new = field(b"D: new; b=")
        self.assertEqual(found.signed_octets([b"d", b"a"], new, "relaxed"), b"d:b=x;\r\na:1\r\nd:new; b=")
        self.assertEqual(found.signed_octets([b"d", b"a"], new, "simple"), b"D: b=x;\r\nA:  1\r\nD: new; b=")
