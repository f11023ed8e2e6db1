"""Authentication-Results: read, written, and given back the same (RFC 8601)."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.authresults import (
    ARC_NAME,
    TEXT_MAX,
    AuthenticationResults,
    MethodResult,
    Property,
    field,
    parse,
    parse_arc,
    without_ours,
)
from twisted_mail_node.message.authresults_grammar import DEPTH_MAX, FIELD_MAX, PROPERTIES_MAX, RESULTS_MAX


def value_of(octets: bytes) -> bytes:
    """The value of a whole field."""
    return octets.partition(b":")[2]


def one(text: str) -> MethodResult:
    """The only result of a field."""
    (found,) = parse(f"mx.example.org; {text}").results
    return found


class ParseTest(SynchronousTestCase):
    """``parse``."""

    def test_none(self) -> None:
        """``none`` is a field without results, comments or not."""
        for text in ("mx.example.org; none", "mx.example.org;none", "mx.example.org 1; (nothing) none (at all)"):
            self.assertEqual(parse(text), AuthenticationResults("mx.example.org"))

    def test_versions(self) -> None:
        """The field has a version, and each method; 1 where none stands."""
        found = parse("mx.example.org 2; dkim/3=pass; spf / 4 = fail")
        self.assertEqual((found.version, [each.version for each in found.results]), (2, [3, 4]))
        self.assertEqual((parse("mx.example.org; none").version, one("dkim=pass").version), (1, 1))

    def test_everywhere(self) -> None:
        """White space, folding and comments, nested ones too, may stand between any two tokens."""
        text = (
            b' (x (y)) "ex\\ample.org"\r\n (c) 1\r\n\t; (a) spf (b) / (c) 1 (d) = (e) pass '
            b'(f (g)) reason (h) = (i) "x y" '
            b"smtp (j) . (k) mailfrom (l) = (m) joe (n) @ (o) example.net (p) ; dkim=fail\r\n header.d=a.example\r\n"
        )
        spf = MethodResult("spf", "pass", (Property("smtp", "mailfrom", "joe@example.net"),), "x y")
        dkim = MethodResult("dkim", "fail", (Property("header", "d", "a.example"),))
        found = parse(text)
        self.assertEqual(found.authserv_id, "example.org")
        self.assertEqual(tuple(each._replace(comment="") for each in found.results), (spf, dkim))
        self.assertEqual(found.results[0].comment, "a b c d e f (g) h i j k l m n o p")

    def test_keywords(self) -> None:
        """Methods, results, property types and properties are read in lower case; values keep their case."""
        found = one("DKIM=PASS HEADER.D=Example.Net")
        self.assertEqual(found, MethodResult("dkim", "pass", (Property("header", "d", "Example.Net"),)))

    def test_values(self) -> None:
        """A value is a token, a quoted string, a domain behind an @, or an address; quotes within an address stay."""
        for text, wanted in (
            ("203.0.113.1", "203.0.113.1"),
            ('"2001:db8::1"', "2001:db8::1"),
            ('"a \\"b\\" \\\\"', 'a "b" \\'),
            ('""', ""),
            ("@example.net", "@example.net"),
            ("joe+x/y=z@example.net", "joe+x/y=z@example.net"),
            ('"joe smith"@example.net', '"joe smith"@example.net'),
            ('"joe" . x @ example.net', '"joe".x@example.net'),
            ("Qgi/FoC0=", "Qgi/FoC0="),
            ("jos\u00e9@b\u00fccher.example", "jos\u00e9@b\u00fccher.example"),
        ):
            self.assertEqual(one(f"x=pass smtp.y={text}").value("smtp", "y"), wanted)
            self.assertEqual(one(f"x=pass smtp.y={text} smtp.z=1").properties[1], Property("smtp", "z", "1"))

    def test_what_others_write(self) -> None:
        """Words without a property type are passed over, a reason may stand late, and a last ; means nothing."""
        found = parse("mx.example.org; dmarc=pass action=none header.from=example.net; compauth=pass reason=100;")
        dmarc = MethodResult("dmarc", "pass", (Property("header", "from", "example.net"),))
        self.assertEqual(found.results, (dmarc, MethodResult("compauth", "pass", reason="100")))

    def test_malformed(self) -> None:
        """What the grammar does not know is refused with a sentence."""
        for text in (
            "",
            "mx.example.org",
            "mx.example.org;",
            "; spf=pass",
            "spf=pass smtp.mailfrom=example.net",
            "mx.example.org; spf",
            "mx.example.org; spf=",
            "mx.example.org; spf=pass; none",
            "mx.example.org; none; spf=pass",
            "mx.example.org; spf=pass smtp.mailfrom",
            "mx.example.org; spf=pass smtp.mailfrom=",
            "mx.example.org; spf=pass smtp.=x",
            "mx.example.org; iprev=pass policy.iprev=2001:db8::1",
            'mx.example.org; spf=pass smtp.x="a"b',
            'mx.example.org; spf=pass reason="x',
            "mx.example.org; spf=pass (x",
            "mx.example.org; spf=pass x)",
            "mx.example.org; spf=pass (x\\",
            "mx.example.org; spf=pass spf=fail x",
            "mx.example.org x; spf=pass",
            "mx.example.org 1234567; none",
            "mx.example.org \u0661; none",
            "mx.example.org; spf=pass\nx-y: z",
            "mx.example.org; spf=pass\x00",
            b"mx.example.org; spf=pass (\xff)",
        ):
            error = self.assertRaises(ValueError, parse, text)
            self.assertGreater(len(str(error)), 10, text)

    def test_bounds(self) -> None:
        """Depth, results, properties and size are bounded; what is just below is read."""
        for good, bad in (
            ("(" * DEPTH_MAX + ")" * DEPTH_MAX, "(" * (DEPTH_MAX + 1) + ")" * (DEPTH_MAX + 1)),
            ("; spf=pass" * (RESULTS_MAX - 1), "; spf=pass" * RESULTS_MAX),
            (" a.b=c" * PROPERTIES_MAX, " a.b=c" * (PROPERTIES_MAX + 1)),
            ("", " " * FIELD_MAX),
        ):
            parse(f"mx.example.org; spf=pass {good}")
            self.assertRaises(ValueError, parse, f"mx.example.org; spf=pass {bad}")

    @given(st.one_of(st.text(), st.binary(), st.text(alphabet='a1 ;=."()\\/@\r\n\t<?-', max_size=60)))
    def test_anything(self, text: str | bytes) -> None:
        """Any octets are a field or a ``ValueError``, and what was read can be asked."""
        prefix = "mx.example.org; spf=pass " if isinstance(text, str) else b"mx.example.org; spf=pass "
        for wanted in (text, prefix + text):  # type: ignore[operator]
            try:
                found = parse(wanted)
            except ValueError:
                continue
            self.assertTrue(all(each.method and each.result for each in found.results))


class ArcTest(SynchronousTestCase):
    """The payload with an instance."""

    def test_both_ways(self) -> None:
        """ARC-Authentication-Results are the same behind ``i=N;``."""
        results = AuthenticationResults("mx.example.org", (MethodResult("spf", "pass"),))
        written = field(results, ARC_NAME, instance=3)
        self.assertEqual(written, b"ARC-Authentication-Results: i=3; mx.example.org;\r\n spf=pass\r\n")
        self.assertEqual(parse_arc(value_of(written)), (3, results))
        self.assertEqual(parse_arc("(x) i (x) = 3 (y) ; (z) mx.example.org; spf=pass"), (3, results))

    def test_malformed(self) -> None:
        """An instance is a number from 1 to 50."""
        for text in ("mx.example.org; none", "i=0; a; none", "i=51; a; none", "i=x; a; none", "i=1 a; none", "j=1; a"):
            self.assertRaises(ValueError, parse_arc, text)


KEYWORD = st.from_regex(r"[a-z0-9-]{0,20}[a-z0-9]", fullmatch=True).filter(lambda word: word != "none")
#: What can stand in values and is written as it is.
TEXT = st.text(alphabet=[chr(code) for code in range(32, 127) if chr(code) not in ';()"\\'], max_size=100).filter(
    lambda text: "=?" not in text
)
ADDRESS = st.builds('"{}"@{}'.format, TEXT, st.sampled_from(["example.net", "xn--bcher-kva.example"]))
UTF8 = st.builds("{}\u00e9{}".format, TEXT, TEXT)


def results(texts: st.SearchStrategy[str]) -> st.SearchStrategy[AuthenticationResults]:
    """Every field that we write and read back the same."""
    properties = st.lists(st.builds(Property, KEYWORD, KEYWORD, texts | ADDRESS), max_size=5).map(tuple)
    numbers = st.integers(0, 999999)
    found = st.builds(MethodResult, KEYWORD, KEYWORD, properties, TEXT, TEXT, numbers)
    return st.builds(AuthenticationResults, TEXT.filter(bool), st.lists(found, max_size=5).map(tuple), numbers)


class FieldTest(SynchronousTestCase):
    """``field``."""

    def test_looks(self) -> None:
        """One result a line, folded at 78 octets, quotes only where they are needed."""
        spf = MethodResult(
            "spf", "fail", (Property("smtp", "mailfrom", "example.net"),), comment="192.0.2.1 is not in it"
        )
        dkim = MethodResult("dkim", "pass", (Property("header", "i", "@a.example"), Property("header", "b", "a/c=")))
        iprev = MethodResult("iprev", "fail", (Property("policy", "iprev", "2001:db8::1"),), reason="no such name")
        self.assertEqual(
            field(AuthenticationResults("mx.example.org", (spf, dkim, iprev))).decode().split("\r\n"),
            [
                "Authentication-Results: mx.example.org;",
                " spf=fail (192.0.2.1 is not in it) smtp.mailfrom=example.net;",
                ' dkim=pass header.i=@a.example header.b="a/c=";',
                ' iprev=fail reason="no such name" policy.iprev="2001:db8::1"',
                "",
            ],
        )
        self.assertEqual(
            field(AuthenticationResults("mx.example.org")), b"Authentication-Results: mx.example.org;\r\n none\r\n"
        )

    @given(results(TEXT))
    def test_both_ways(self, wanted: AuthenticationResults) -> None:
        """What was written is read back the same, whatever stands in it."""
        octets = field(wanted)
        self.assertTrue(octets.isascii())
        self.assertEqual(parse(value_of(octets)), wanted)

    @given(results(UTF8))
    def test_utf8(self, wanted: AuthenticationResults) -> None:
        """With SMTPUTF8 values may be UTF-8 (RFC 6532)."""
        self.assertEqual(parse(value_of(field(wanted, smtputf8=True))), wanted)
        for found in parse(value_of(field(wanted))).results:
            self.assertTrue("".join(each.value for each in found.properties).isascii())

    @given(st.text(), st.text(), st.text(), st.booleans())
    @example('"x;y"@example.net', "=?utf-8?q?x?=", ")" * 2000, True)
    @example("x" * 2000, "\r\n" * 2000, "\u2028\ud800", False)
    def test_any_text(self, value: str, reason: str, comment: str, smtputf8: bool) -> None:
        """Whatever stands in a value: one property, one reason, one comment; lines of mail, none above 998 octets."""
        found = MethodResult("spf", "fail", (Property("smtp", "mailfrom", value),), reason, comment)
        octets = field(AuthenticationResults("mx.example.org", (found,)), smtputf8=smtputf8)
        read = parse(value_of(octets))
        (again,) = read.results
        self.assertEqual((again.method, again.result, len(again.properties)), ("spf", "fail", 1))
        self.assertEqual(field(read, smtputf8=smtputf8), octets)
        self.assertEqual((octets.count(b"\n"), octets.count(b"\r")), (octets.count(b"\r\n"),) * 2)
        lines = octets.split(b"\r\n")
        self.assertTrue(all(line.startswith(b" ") and line.strip() for line in lines[1:-1]), lines)
        self.assertLessEqual(max(map(len, lines)), 998)
        self.assertEqual(lines[-1], b"")

    def test_long(self) -> None:
        """A text that is too long is cut so that nobody takes the rest for a domain."""
        value = "a." * 310 + "bank.example.attacker.example"
        found = MethodResult("spf", "pass", (Property("smtp", "mailfrom", value),))
        read = parse(value_of(field(AuthenticationResults("mx.example.org", (found,))))).results[0].properties[0].value
        self.assertEqual((len(read), read[-3:]), (TEXT_MAX, "???"))

    def test_not_ours(self) -> None:
        """What is no keyword, or no authserv-id, is not written at all."""
        for words in (("", "pass"), ("spf", "Pass"), ("spf", "pass x"), ("s;pf", "pass"), ("spf-", "pass")):
            self.assertRaises(ValueError, field, AuthenticationResults("mx", (MethodResult(*words),)))
        for ptype, name in (("", "x"), ("smtp", "a.b"), ("smtp", "x\r\n")):
            wrong = MethodResult("spf", "pass", (Property(ptype, name, "x"),))
            self.assertRaises(ValueError, field, AuthenticationResults("mx", (wrong,)))
        for name in ("", "mx;", "mx\r\n", "m(x)", "x" * 256, "=?x", "m\u00fcx"):
            self.assertRaises(ValueError, field, AuthenticationResults(name))


OURS = "mx.example.org"
OTHER = b"Authentication-Results:  mx.example.net ;\r\n\tspf=pass (a) smtp.mailfrom=example.org\r\n"


class WithoutOursTest(SynchronousTestCase):
    """``without_ours``."""

    def test_same_object(self) -> None:
        """A header section without such fields is the same object again, and so is one with those of others only."""
        for header in (b"From: a@b.example\r\n\r\n", OTHER + b"From: a@b.example\r\n\r\n", b"", b"\r\n"):
            self.assertIs(without_ours(header, OURS), header)

    def test_arc(self) -> None:
        """ARC-Authentication-Results and X- fields with our name are other fields, and stay."""
        header = (
            b"ARC-Authentication-Results: i=1; mx.example.org; none\r\nX-Authentication-Results: mx.example.org\r\n\r\n"
        )
        self.assertIs(without_ours(header, OURS), header)

    def test_removed(self) -> None:
        """All fields with our name go, wherever they stand; the others stay octet for octet."""
        ours = b"Authentication-Results: mx.example.org;\r\n dkim=pass header.d=bank.example\r\n"
        rest = b"Received: x\r\n\t y\r\n" + OTHER
        end = b"From: a@b.example\r\n\r\n"
        self.assertEqual(without_ours(ours + rest + ours + ours + end, OURS), rest + end)
        self.assertEqual(without_ours(ours, OURS), b"")
        self.assertEqual(without_ours(rest + ours + b"\r\n", OURS), rest + b"\r\n")

    def test_others_with_comments(self) -> None:
        """A field of another host may be malformed, and it may name us in a value."""
        for value in (
            b"mx.example.net; spf=pass smtp.mailfrom=mx.example.org",
            b"mx.example.net (mx.example.org); spf=pass",
            b"mx.example.org.example.net; spf=pass",
            b"mx.example.net; iprev=pass policy.iprev=2001:db8::1",
            b"spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=example.org",
        ):
            header = b"Authentication-Results: " + value + b"\r\n\r\n"
            self.assertIs(without_ours(header, OURS), header)

    def test_no_name(self) -> None:
        """A name without letters cannot be looked for."""
        self.assertRaises(ValueError, without_ours, OTHER, "()")


class FoldTest(SynchronousTestCase):
    """Folding of what ``field`` writes."""

    @given(results(TEXT))
    def test_folded(self, wanted: AuthenticationResults) -> None:
        """A line above 78 octets has no white space at which it could be folded."""
        for line in field(wanted).split(b"\r\n"):
            if len(line) > 78:
                self.assertLessEqual(len(re.findall(rb"[^ ] +[^ ]", line.removeprefix(b"Authentication-Results: "))), 1)
