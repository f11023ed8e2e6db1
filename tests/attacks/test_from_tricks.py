"""T24: a From field that shows one author to people and another to DMARC.

The victim is ``bank.example``, whose policy is reject. The attacker owns ``attacker.test``, and has SPF and DKIM pass
for it. Whatever the mail looks like, there is no author, or it is the one that every reader shows; and nothing that
shows the victim passes.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth.vectors_dmarc import ran
from twisted_mail_node.mailauth.author import author
from twisted_mail_node.mailauth.dmarc import check
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.header import border

VICTIM, ATTACKER = "bank.example", "attacker.test"
V, A = b"admin@bank.example", b"x@attacker.test"

#: Header sections that some readers take for the victim's, and some checks for the attacker's.
AMBIGUOUS = {
    "two fields": b"From: " + A + b"\r\nFrom: " + V + b"\r\n",
    "two fields, the other way": b"From: " + V + b"\r\nFrom: " + A + b"\r\n",
    "two fields, in other cases": b"FROM: " + A + b"\r\nfrom: " + V + b"\r\n",
    "two fields, far apart": b"From: " + A + b"\r\n" + b"X-A: b\r\n" * 1000 + b"From: " + V + b"\r\n",
    "two fields, the same twice": b"From: " + V + b"\r\nFrom: " + V + b"\r\n",
    "space before the colon": b"From : " + V + b"\r\nFrom: " + A + b"\r\n",
    "tab before the colon": b"From: " + A + b"\r\nFrom\t: " + V + b"\r\n",
    "space before the only colon": b"From : " + V + b"\r\n",
    "many spaces before the colon": b"From     : " + V + b"\r\n",
    "no name before the colon": b": x\r\nFrom: " + A + b"\r\nFrom: " + V + b"\r\n",
    "a continuation as first line": b" From: " + V + b"\r\nFrom: " + A + b"\r\n",
    "a continuation as first line, with a tab": b"\tFrom: " + V + b"\r\nFrom: " + A + b"\r\n",
    "an mbox line": b"From " + V + b" Sat Nov 28 00:00:00 2026\r\nFrom: " + A + b"\r\n",
    "an mbox line behind": b"From: " + A + b"\r\nFrom " + V + b" Sat Nov 28 00:00:00 2026\r\nFrom: " + V + b"\r\n",
    "an mbox line, quoted": b">From " + V + b"\r\nFrom: " + A + b"\r\n",
    "a line that is no field between": b"From: " + A + b"\r\nnothing\r\nFrom: " + V + b"\r\n",
    "a NUL in the name": b"From: " + A + b"\r\nFrom\x00: " + V + b"\r\n",
    "8 bits in the name": b"From: " + A + b"\r\n\xffFrom: " + V + b"\r\n",
    "a byte order mark": b"\xef\xbb\xbfFrom: " + V + b"\r\nFrom: " + A + b"\r\n",
    "a bare LF": b"From: " + A + b"\nFrom: " + V + b"\r\n",
    "a bare LF in another field": b"From: " + A + b"\r\nSubject: x\nFrom: " + V + b"\r\n",
    "a bare CR": b"From: " + A + b"\rFrom: " + V + b"\r\n",
    "CR CR LF": b"From: " + A + b"\r\r\nFrom: " + V + b"\r\n",
    "an empty continuation": b"From: " + A + b"\r\n \r\n " + V + b"\r\n",
    "an empty continuation first": b"From:\r\n \r\n " + V + b"\r\n",
    "an empty continuation, then another field": b"From: " + A + b"\r\n\t\r\nFrom: " + V + b"\r\n",
    "a NUL in the address": b"From: <" + V + b"\x00@attacker.test>\r\n",
    "a NUL behind the address": b"From: " + V + b"\x00" + A + b"\r\n",
    "8 bits that are no UTF-8": b"From: \xe4 <" + V + b">\xff<" + A + b">\r\n",
    "two authors": b"From: " + A + b", " + V + b"\r\n",
    "two authors, the other way": b"From: " + V + b"," + A + b"\r\n",
    "two authors, folded": b"From: " + A + b",\r\n " + V + b"\r\n",
    "two authors with a Sender": b"Sender: " + A + b"\r\nFrom: " + V + b", " + A + b"\r\n",
    "a thousand authors": b"From: " + b", ".join([A] * 1000) + b", " + V + b"\r\n",
    "an address as a name": b"From: " + V + b" <" + A + b">\r\n",
    "an address behind": b"From: <" + A + b"> " + V + b"\r\n",
    "two in brackets": b"From: <" + V + b"> <" + A + b">\r\n",
    "brackets in brackets": b"From: <<" + V + b">" + A + b">\r\n",
    "brackets that do not end": b"From: <" + V + b"\r\n",
    "no brackets at the beginning": b"From: " + V + b">, <" + A + b">\r\n",
    "a comma without space": b"From: <" + V + b">,<" + A + b">\r\n",
    "two signs": b"From: admin@bank.example@attacker.test\r\n",
    "a quoted sign": b'From: "admin@bank.example"@attacker.test\r\n',
    "quoted brackets": b'From: "<admin@bank.example>"@attacker.test\r\n',
    "a quoted sign with a backslash": b'From: "admin\\@bank.example"@attacker.test\r\n',
    "a backslash outside quotes": b"From: admin\\@bank.example@attacker.test\r\n",
    "quotes that end early": b'From: "x\\" <' + V + b'> "<' + A + b">\r\n",
    "brackets in quotes": b'From: "<' + V + b'>" <' + A + b">\r\n",
    "quotes that do not end": b'From: "' + V + b" <" + A + b">\r\n",
    "quotes in part": b'From: admin."@bank.example"@attacker.test\r\n',
    "a source route": b"From: <@bank.example:" + A + b">\r\n",
    "a source route, the other way": b"From: <@attacker.test:" + V + b">\r\n",
    "a source route with commas": b"From: <@attacker.test,@bank.example:" + A + b">\r\n",
    "a group": b"From: " + b"Bank: " + V + b", " + A + b";\r\n",
    "a group of one": b"From: admin@bank.example: " + A + b";\r\n",
    "an empty group": b"From: bank.example:;\r\n",
    "an empty group and one": b"From: Bank:;, " + A + b"\r\n",
    "a comment with an address": b"From: (" + V + b") " + A + b"\r\n",
    "a comment with brackets": b"From: " + A + b" (<" + V + b">)\r\n",
    "a comment in the domain": b"From: admin@bank.example(.attacker.test)\r\n",
    "a comment behind the domain": b"From: x@attacker.test(.bank.example)\r\n",
    "a comment in the address": b"From: admin@(x)bank.example\r\n",
    "a comment that does not end": b"From: admin@bank.example(.attacker.test\r\n",
    "a comment that ends early": b"From: admin@bank.example) <" + A + b">\r\n",
    "nested comments": b"From: (a(b)" + V + b")" + A + b"\r\n",
    "a comment with a backslash": b"From: (\\)" + V + b") " + A + b"\r\n",
    "spaces in the address": b"From: admin @ bank.example\r\n",
    "folding in the address": b"From: admin@bank\r\n .example\r\n",
    "folding behind the sign": b"From: admin@\r\n bank.example\r\n",
    "an encoded address": b"From: =?utf-8?b?YWRtaW5AYmFuay5leGFtcGxl?=\r\n",
    "an encoded address as a name": b"From: =?utf-8?b?YWRtaW5AYmFuay5leGFtcGxl?= <" + A + b">\r\n",
    "an encoded address with brackets": b"From: =?utf-8?q?=3Cadmin=40bank=2Eexample=3E?= <" + A + b">\r\n",
    "an encoded address and a comma": b"From: =?utf-8?q?admin=40bank.example=2C?= <" + A + b">\r\n",
    "an encoded address in quotes": b'From: "=?utf-8?q?admin=40bank.example?=" <' + A + b">\r\n",
    "an encoded address in two": b"From: =?utf-8?q?admin=40?= =?utf-8?q?bank.example?= <" + A + b">\r\n",
    "an encoded address in two lines": b"From: =?utf-8?q?admin?=\r\n =?utf-8?q?=40bank.example?= <" + A + b">\r\n",
    "an encoded address in UTF-7": b"From: =?utf-7?q?admin+AEA-bank.example?= <" + A + b">\r\n",
    "an encoded address in UTF-16": b"From: =?utf-16-be?b?AGEAQABiAC4AYw==?= <" + A + b">\r\n",
    "an encoded address in broken base64": b"From: =?utf-8?b?YWRtaW5AYmFuay5leGFtcGxlX?= <" + A + b">\r\n",
    "an encoded local-part": b"From: =?utf-8?q?admin=40bank.example=3E?=@attacker.test\r\n",
    "an encoded local-part in brackets": b"From: <=?utf-8?q?admin=40bank.example?=@attacker.test>\r\n",
    "an encoded domain": b"From: admin@=?utf-8?q?bank.example?=\r\n",
    "an encoded sign": b"From: admin=?utf-8?q?=40?=bank.example <" + A + b">\r\n",
    "a dot behind the domain": b"From: admin@bank.example.\r\n",
    "two dots": b"From: admin@bank..example\r\n",
    "an address literal": b"From: admin@[192.0.2.1]\r\n",
    "a domain as literal": b"From: admin@[bank.example]\r\n",
    "a right-to-left mark": "From: x@attacker.test\u202e, admin@bank.example\r\n".encode(),
    "a right-to-left mark in the local-part": "From: \u202eelpmaxe.knab@attacker.test\r\n".encode(),
    "a control character": b"From: admin@bank.example\x1b[8m@attacker.test\r\n",
    "a line separator": "From: admin@bank.example\u2028<x@attacker.test>\r\n".encode(),
    "a C1 control": "From: x@attacker.test\u0085From: admin@bank.example\r\n".encode(),
    "a semicolon": b"From: " + A + b"; " + V + b"\r\n",
    "a tab between": b"From: " + V + b"\t" + A + b"\r\n",
    "nothing": b"From:\r\n",
    "no From but a Sender": b"Sender: " + V + b"\r\nResent-From: " + V + b"\r\n",
    "percent behind the sign": b"From: admin@bank.example%attacker.test\r\n",
    "an exclamation mark": b"From: admin@bank.example!attacker.test\r\n",
}

#: Odd, but the same to every reader: the domain that all of them show.
CLEAR = {
    "a name that is an address": (b'From: "admin@bank.example" <' + A + b">\r\n", ATTACKER),
    "quotes in a name": (b'From: "Joe \\"<3\\" Smith" <' + A + b">\r\n", ATTACKER),
    "a percent before the sign": (b"From: admin%bank.example@attacker.test\r\n", ATTACKER),
    "a subdomain of the attacker": (b"From: admin@bank.example.attacker.test\r\n", f"{VICTIM}.{ATTACKER}"),
    "another first letter": ("From: admin@b\u0430nk.example\r\n".encode(), "xn--bnk-6cd.example"),
    "a folded field": (b"From:\r\n\t<" + V + b">\r\n", VICTIM),
    "case": (b"fROM: <ADMIN@BANK.Example>\r\n", VICTIM),
    "with Sender and Resent-From": (b"Sender: " + A + b"\r\nResent-From: " + A + b"\r\nFrom: " + V + b"\r\n", VICTIM),
    "a field that only looks like it": (b"X-From: " + A + b"\r\nFrom: " + V + b"\r\nFrom-X: " + A + b"\r\n", VICTIM),
    "within a folded Subject": (b"Subject: x\r\n From: " + A + b"\r\nFrom: " + V + b"\r\n", VICTIM),
    "no space": (b"From:" + V + b"\r\n", VICTIM),
    "a name in 8 bits": ("From: B\u00e4nk <admin@bank.example>\r\n".encode(), VICTIM),
    "an ideographic full stop": ("From: admin@bank\u3002example\r\n".encode(), VICTIM),
    "a comment beside it": (b"From: " + V + b" (attacker.test)\r\n", VICTIM),
}


def domain_of(header: bytes) -> str:
    """The author of a mail as it arrives: its header section ends where ``border`` says."""
    content = header + b"Subject: hello\r\n\r\nThis is your bank.\r\n"
    return author(content[: border(content)]).domain


class FromTest(SynchronousTestCase):
    """T24."""

    def test_ambiguous(self) -> None:
        """What readers disagree about has no author."""
        for name, header in AMBIGUOUS.items():
            self.assertEqual(domain_of(header), "", name)

    def test_clear(self) -> None:
        """What all readers agree about has the domain that they show."""
        for name, (header, domain) in CLEAR.items():
            self.assertEqual(domain_of(header), domain, name)

    def test_nothing_passes(self) -> None:
        """With pass for the attacker's domain only, none passes as the victim, and none without an author passes."""
        zone = {"_dmarc.bank.example": {"TXT": [b"v=DMARC1; p=reject"]},
                "_dmarc.attacker.test": {"TXT": [b"v=DMARC1; p=none"]}}  # fmt: skip
        passes = [(Result.PASS, name) for name in (ATTACKER, f"{VICTIM}.{ATTACKER}", f"x{VICTIM}", "example", "")]
        headers = {**AMBIGUOUS, **{name: header for name, (header, _) in CLEAR.items()}}
        for name, header in headers.items():
            domain = domain_of(header)
            found = ran(check(FakeResolver(zone), domain, spf=passes, dkim=passes))
            if not domain.endswith(ATTACKER):
                self.assertIsNot(found.result, Result.PASS, name)
            if domain == VICTIM:
                self.assertEqual((found.result, found.asked), (Result.FAIL, "reject"), name)

    def test_helo(self) -> None:
        """With the null reverse-path, SPF is about HELO: it vouches for that name alone."""
        zone = {"_dmarc.bank.example": {"TXT": [b"v=DMARC1; p=reject"]}}
        for helo in ("attacker.test", "bank.example.attacker.test", "xbank.example", "[192.0.2.1]", "bank.example:"):
            found = ran(check(FakeResolver(zone), VICTIM, spf=[(Result.PASS, helo)], dkim=()))
            self.assertEqual((found.result, found.asked), (Result.FAIL, "reject"), helo)
