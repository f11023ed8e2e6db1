"""Tests of ``mailauth.arc_seal``: sets are added, and what we add, others accept."""

from __future__ import annotations

from importlib import import_module

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.arcs import BASIC, NOW, Mail, added, as_list, body_hash, forged, hop, key, records, validate
from twisted_mail_node.mailauth.arc import Arc
from twisted_mail_node.mailauth.arc_seal import seal
from twisted_mail_node.mailauth.dkim_sign import sign
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.tags import listed, read
from twisted_mail_node.message.authresults import AuthenticationResults
from twisted_mail_node.message.header import fields, first


def oracle(mail: Mail) -> str:
    """What dkimpy says of a chain."""

    def txt(name: bytes, timeout: int = 5) -> bytes:
        return records()[name.decode().rstrip(".")][0]

    status, _, _ = import_module("dkim").arc_verify(mail.header + mail.body, dnsfunc=txt)
    return str(status.decode())


class SealTest(SynchronousTestCase):
    """RFC 8617 section 5.1."""

    def test_form(self) -> None:
        """Three fields in lines of 78 octets, the seal above; its tags are those that it may have (section 4.1.3)."""
        set_ = added(BASIC, Arc(Result.NONE), "a.example")
        self.assertTrue(set_.endswith(b"\r\n"))
        self.assertLessEqual(max(map(len, set_.split(b"\r\n"))), 78)
        names = [field.name for field in fields(set_)]
        self.assertEqual(names, [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
        tags = read(first(set_, b"ARC-Seal") or b"")
        self.assertEqual(list(tags), ["i", "a", "cv", "d", "s", "t", "b"])
        self.assertEqual(tags["cv"], "none")
        self.assertEqual(
            first(set_, b"ARC-Authentication-Results"), b"i=1; a.example; dmarc=pass header.from=author.example"
        )

    def test_names(self) -> None:
        """The message signature covers what a DKIM-Signature does, each once more than it is there, and the
        DKIM-Signatures that are there; nothing of ARC, no results, no trace (section 4.1.2)."""
        header = sign(BASIC.header, body_hash(BASIC.body), [key("author.example")], now=NOW) + BASIC.header
        mail = hop(Mail(header, BASIC.body), "a.example")
        mail = Mail(b"Authentication-Results: b.example; none\r\n" + mail.header, mail.body)
        tags = read(first(added(mail, validate(mail), "b.example"), b"ARC-Message-Signature") or b"")
        names = [name.lower() for name in listed(tags["h"])]
        self.assertEqual([names.count(name) for name in ("from", "to", "subject", "reply-to")], [2, 2, 2, 1])
        self.assertEqual(names.count("dkim-signature"), 1)
        self.assertEqual([name for name in names if name.startswith(("arc-", "auth", "received"))], [])
        self.assertNotIn("l", tags)
        self.assertEqual((tags["c"], tags["a"]), ("relaxed/relaxed", "rsa-sha256"))

    def test_oracle(self) -> None:
        """Others accept what we seal, at each of several hops, those of a list that changes the mail among them."""
        mail = BASIC
        for step in (
            lambda mail: hop(mail, "a.example"),
            lambda mail: hop(mail, "b.example", "fail"),
            as_list,
            lambda mail: hop(mail, "d.example"),
            as_list,
        ):
            mail = step(mail)
            self.assertEqual((validate(mail).result, oracle(mail)), (Result.PASS, "pass"))
        self.assertEqual(oracle(mail._replace(body=b"x\r\n")), "fail")

    def test_body(self) -> None:
        """Any body, and none."""
        for body in (b"", b"\r\n\r\n", b"x", b"  a \t b  \r\n \r\n", b"\x00\xff\r\n" * 9, b"a\nb\rc"):
            mail = hop(BASIC._replace(body=body), "a.example")
            self.assertEqual(validate(mail).result, Result.PASS)

    def test_odd_header(self) -> None:
        """A header with what nobody should write: repeated fields, no From, octets outside ASCII, no fields at all."""
        for header in (
            b"\r\n",
            b"To: a@example.org\r\n\r\n",
            b"From: a@example.org\r\nFROM : b@example.org\r\nfrom:\r\n c@example.org\r\n\r\n",
            b"Subject: \xff\xfe\r\nFrom: \r\n\t \r\nX:y\r\n\r\n",
            b"From: a@example.org\r\n",
        ):
            mail = hop(Mail(header, b"x\r\n"), "a.example")
            self.assertEqual(validate(mail).result, Result.PASS)
            more = Mail(b"From: x@evil.example\r\n" + mail.header, mail.body)
            self.assertEqual(validate(more).result, Result.FAIL)

    def test_failed(self) -> None:
        """A chain that failed is sealed once with cv=fail, over our set alone (section 5.1.2), and never again."""
        mail = forged(hop(hop(BASIC, "a.example"), "b.example"), b"Subject: ", b"Subject: Re: ")
        arc = validate(mail)
        set_ = added(mail, arc, "d.example")
        tags = read(first(set_, b"ARC-Seal") or b"")
        self.assertEqual((tags["i"], tags["cv"]), ("3", "fail"))
        mail = Mail(set_ + mail.header, mail.body)
        arc = validate(mail)
        self.assertEqual(arc.problem, "the seal of instance 3 (d.example) says that the chain was broken already")
        self.assertEqual(added(mail, arc, "a.example"), b"")

    def test_scope_of_failed(self) -> None:
        """The seal on a failed chain is good as if our set was the only one: whatever else stands there."""
        mail = forged(hop(BASIC, "a.example"), b"Subject: ", b"Subject: Re: ")
        first_set = added(mail, validate(mail), "d.example")
        for at in (b"rsa", b"xyz"):
            other = Mail(mail.header.replace(b"s=rsa", b"s=" + at), mail.body)
            self.assertEqual(added(other, Arc(Result.FAIL, 1), "d.example"), first_set)

    def test_unreadable(self) -> None:
        """A chain without any instance that can be read is sealed as the first, with cv=fail."""
        mail = Mail(b"ARC-Seal: i=x; cv=none\r\n" + BASIC.header, BASIC.body)
        arc = validate(mail)
        self.assertEqual((arc.result, arc.instance), (Result.FAIL, 0))
        tags = read(first(added(mail, arc, "a.example"), b"ARC-Seal") or b"")
        self.assertEqual((tags["i"], tags["cv"]), ("1", "fail"))

    def test_fifty(self) -> None:
        """Up to fifty sets; all fifty are checked, by others too, and none is added."""
        mail = BASIC
        arc = Arc(Result.NONE)
        for instance in range(1, 51):
            mail = Mail(
                added(mail, arc, "a.example", algorithm="ed" if instance % 7 else "rsa") + mail.header, mail.body
            )
            arc = Arc(Result.PASS, instance)
        arc = validate(mail)
        self.assertEqual((arc.result, arc.instance, arc.oldest_pass), (Result.PASS, 50, 0))
        self.assertEqual(added(mail, arc, "a.example"), b"")
        self.assertEqual(
            added(forged(mail, b"Subject: ", b"Subject: Re: "), arc._replace(result=Result.FAIL), "a.example"), b""
        )

    def test_other_header(self) -> None:
        """We never vouch for ARC fields that were not validated."""
        mail = hop(BASIC, "a.example")
        for arc in (Arc(Result.NONE), Arc(Result.PASS, 2), Arc(Result.FAIL, 0)):
            self.assertRaises(ValueError, added, mail, arc, "b.example")
        broken = forged(mail, b"ARC-Seal: i=1; ", b"ARC-Seal: ")
        self.assertRaises(ValueError, added, broken, validate(mail), "b.example")
        unreadable = Mail(b"ARC-Seal: i=x; cv=none\r\n" + BASIC.header, BASIC.body)
        self.assertRaises(ValueError, added, unreadable, Arc(Result.NONE), "b.example")

    def test_many_fields(self) -> None:
        """A mail with so many fields that are to be signed that nobody would check it is not sealed."""
        mail = Mail(b"To: a@example.org\r\n" * 2000 + BASIC.header, BASIC.body)
        self.assertEqual(added(mail, validate(mail), "a.example"), b"")
        mail = Mail(b"X: x\r\n" * 20_001 + BASIC.header, BASIC.body)
        self.assertEqual(added(mail, validate(mail), "a.example"), b"")
        mail = Mail(b"Received: x\r\n" * 2000 + BASIC.header, BASIC.body)
        self.assertIs(validate(hop(mail, "a.example")).result, Result.PASS)

    def test_no_results(self) -> None:
        """Who checked nothing says so."""
        set_ = seal(
            BASIC.header,
            arc=Arc(Result.NONE),
            results=AuthenticationResults("a.example"),
            body_hash=body_hash(BASIC.body),
            key=key("a.example"),
            now=NOW,
        )
        self.assertEqual(first(set_, b"ARC-Authentication-Results"), b"i=1; a.example; none")
        self.assertEqual(validate(Mail(set_ + BASIC.header, BASIC.body)).results, (AuthenticationResults("a.example"),))

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from((b"From", b"to", b"Subject ", b"X-A", b"DKIM-Signature", b"Content-Type", b"List-Id")),
                st.lists(
                    st.binary(max_size=20).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
                    max_size=3,
                ),
            ),
            max_size=6,
        ),
        st.binary(max_size=60),
        st.lists(st.sampled_from(("a.example", "b.example", "list")), min_size=1, max_size=3),
    )
    def test_any(self, parts: list[tuple[bytes, list[bytes]]], body: bytes, hops: list[str]) -> None:
        """Whatever the header and the body: what we seal passes, hop after hop."""
        header = b"".join(name + b":" + b"\r\n\t".join(lines) + b"\r\n" for name, lines in parts) + b"\r\n"
        mail = Mail(header, body)
        for domain in hops:
            mail = as_list(mail) if domain == "list" else hop(mail, domain, algorithm="ed")
        self.assertEqual(validate(mail).problem, "")
        self.assertEqual(validate(mail).instance, len(hops))
