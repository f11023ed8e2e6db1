"""T25: what others write as Authentication-Results in our name, and what they put into values that we write."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.authresults import (
    AuthenticationResults,
    MethodResult,
    Property,
    field,
    parse,
    without_ours,
)

OURS = "mx.example.org"
END = b"From: a@bank.example\r\n\r\n"
CLAIM = b"; dkim=pass header.d=bank.example"

#: Every one would be believed by some reader of mail as ours.
FORGED = [
    b"Authentication-Results: mx.example.org" + CLAIM,
    b"AUTHENTICATION-RESULTS:MX.EXAMPLE.ORG" + CLAIM,
    b"Authentication-Results : mx.example.org" + CLAIM,
    b"Authentication-Results\t: mx.example.org" + CLAIM,
    b"Authentication-Results:\r\n mx.example.org" + CLAIM,
    b"Authentication-Results:\r\n\t\r\n mx.example.org" + CLAIM,
    b"Authentication-Results: (mx.example.net) mx.example.org" + CLAIM,
    b"Authentication-Results: (a(b\\)c)) mx.example.org (x)" + CLAIM,
    b'Authentication-Results: "mx.example.org"' + CLAIM,
    b'Authentication-Results: "mx.ex\\ample.org"' + CLAIM,
    b'Authentication-Results: " mx.example.org "' + CLAIM,
    b"Authentication-Results: mx.example.org." + CLAIM,
    b"Authentication-Results: mx.example.org 1" + CLAIM,
    b"Authentication-Results: mx.example.org 2" + CLAIM,
    b"Authentication-Results: mx.example.org/1" + CLAIM,
    b"Authentication-Results: mx.example.org 1 1" + CLAIM,
    b"Authentication-Results: mx.example.org",
    b"Authentication-Results: mx.example.org dkim=pass",
    b"Authentication-Results: mx.example.org; none",
    b"Authentication-Results: mx.example.org; dkim=pass (",
    b"Authentication-Results: (mx.example.org" + CLAIM,
    b'Authentication-Results: "mx.example.org' + CLAIM,
    b"Authentication-Results: ;mx.example.org" + CLAIM,
    b"Authentication-Results: ,mx.example.org" + CLAIM,
    b"Authentication-Results: <mx.example.org>" + CLAIM,
    b"Authentication-Results: mx.example.org:25" + CLAIM,
    b"Authentication-Results: x=y mx.example.org" + CLAIM,
    b"Authentication-Results: mx.example.net\nAuthentication-Results: mx.example.org" + CLAIM,
    b"Authentication-Results: mx.example.net\rAuthentication-Results: mx.example.org" + CLAIM,
    b"Authentication-Results: mx.exa\x00mple.org" + CLAIM,
    b"Authentication-Results: mx.exa\xffmple.org" + CLAIM,
    "Authentication-Results: mx.exa\u200bmple.org".encode() + CLAIM,
    "Authentication-Results: \uff4dx.example\uff0eorg".encode() + CLAIM,
    b"Authentication-Results: =?utf-8?q?mx=2Eexample=2Eorg?=" + CLAIM,
    b'Authentication-Results: "=?utf-8?b?bXguZXhhbXBsZS5vcmc=?="' + CLAIM,
    b"Authentication-Results: mx.example.org; dkim=pass " + b"(" * 100 + b")" * 100,
    b"Authentication-Results: mx.example.org" + CLAIM + b" " * 70000,
]


class RemovedTest(SynchronousTestCase):
    """Fields in our name."""

    def test_forged(self) -> None:
        """However our name is written, the field goes, first or in the middle, and nothing else does."""
        for forged in FORGED:
            self.assertEqual(without_ours(forged + b"\r\n" + END, OURS), END, forged[:99])
            other = b"Authentication-Results: mx.example.net; none\r\n"
            self.assertEqual(without_ours(other + forged + b"\r\n" + other + END, OURS), other * 2 + END, forged[:99])

    def test_idn(self) -> None:
        """A name in A-labels is the same in U-labels."""
        for ours in ("mx.b\u00fccher.example", "mx.xn--bcher-kva.example"):
            for theirs in ("mx.B\u00fccher.example", "mx.bu\u0308cher.example", "MX.XN--BCHER-KVA.EXAMPLE."):
                header = f"Authentication-Results: {theirs}".encode() + CLAIM + b"\r\n" + END
                self.assertEqual(without_ours(header, ours), END)

    @given(st.text(alphabet='mx.exaplorgn(); "\\\t=?', max_size=40), st.text(alphabet='(); "\\=?1', max_size=20))
    def test_any(self, before: str, behind: str) -> None:
        """What stays is surely another's: ``parse`` reads it, and its authserv-id is not ours."""
        value = f"{before}mx.example.org{behind}; dkim=pass"
        header = f"Authentication-Results: {value}\r\n".encode() + END
        if without_ours(header, OURS) == END:
            return
        self.assertNotIn(parse(value).authserv_id.strip(' ."();\\?=').lower(), (OURS, ""))

    def test_many(self) -> None:
        """10 000 such fields cost milliseconds, in our name and in those of others."""
        for name in (b"mx.example.org", b"mx.example.org.example.net", b"(mx.example.org)a", b"mx.example.net"):
            header = (b"Authentication-Results: " + name + CLAIM + b"\r\n") * 10000 + END
            begun = time.thread_time()
            without_ours(header, OURS)
            self.assertLess(time.thread_time() - begun, 0.5)


#: What somebody may put into d=, into MAIL FROM, into HELO, or where the DNS is theirs.
TRICKS = [
    "attacker.example(.bank.example",
    "attacker.example).bank.example",
    "attacker.example;dkim=pass header.d=bank.example",
    '"x;dkim=pass header.d=bank.example;"@attacker.example',
    '"x\\";dkim=pass"@attacker.example',
    "attacker.example\r\nAuthentication-Results: mx.example.org; dkim=pass",
    "attacker.example\r\n\r\nbody",
    "attacker.example\n dkim=pass",
    "attacker.example\x00.bank.example",
    "attacker.example\u2028.bank.example",
    "=?utf-8?b?OyBka2ltPXBhc3M=?=",
    'attacker.example" header.d="bank.example',
    "attacker.example\\",
    "attacker.example header.d=bank.example",
    "\u202eelpmaxe.knab",
    "",
]


class WrittenTest(SynchronousTestCase):
    """Values of others in a field of ours."""

    def written(self, text: str) -> bytes:
        """A field with the text wherever there can be one."""
        spf = MethodResult("spf", "fail", (Property("smtp", "mailfrom", text),), text, text)
        dkim = MethodResult("dkim", "fail", (Property("header", "d", text), Property("header", "s", text)))
        return field(AuthenticationResults(OURS, (spf, dkim)))

    def holds(self, text: str) -> None:
        """Whoever reads it sees two results, both fail, with our properties: we, and one who knows no quotes."""
        octets = self.written(text)
        value = octets.partition(b":")[2]
        found = parse(value).results
        self.assertEqual([(each.method, each.result) for each in found], [("spf", "fail"), ("dkim", "fail")])
        self.assertEqual([each[:2] for each in found[1].properties], [("header", "d"), ("header", "s")])
        self.assertEqual(len(found[0].properties), 1)
        self.assertEqual(
            re.findall(rb"; *(?:\r\n *)?([a-z]+)=([a-z]+)", value), [(b"spf", b"fail"), (b"dkim", b"fail")]
        )
        self.assertEqual((value.count(b";"), value.count(b"=?")), (2, 0))
        self.assertEqual(value.count(b"("), value.count(b")"))
        self.assertLessEqual(value.count(b"("), 1)
        self.assertNotIn(b"\\", value)
        self.assertIsNone(re.search(rb"\r(?!\n)|(?<!\r)\n|\r\n(?! )[^ ]|[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\xff]", value))

    def test_tricks(self) -> None:
        """A domain, an address or a name forges nothing."""
        for text in TRICKS:
            self.holds(text)

    @given(st.text(max_size=50), st.sampled_from(TRICKS))
    def test_any(self, text: str, trick: str) -> None:
        """Nor does any other text."""
        self.holds(text + trick)
