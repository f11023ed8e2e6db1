"""What SPF says of a client and a domain is remembered for a minute, where it holds for every mail."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.checked import HOST, CheckedReceiver, signed, told, zone
from twisted_mail_node.inbound import remembering
from twisted_mail_node.inbound.remembering import Remembered
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf

FOUND = Spf(Result.PASS, "bank.example", "mfrom", "ann@bank.example", "ip4:192.0.2.50")


class RememberedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.remembered = Remembered(self.clock.seconds)

    def test_kept(self) -> None:
        """A result holds for other local-parts, for a minute, and for no other client or domain."""
        self.remembered.keep("192.0.2.50", "ann@bank.example", FOUND)
        self.assertEqual(
            self.remembered.find("192.0.2.50", "bob@bank.example"), FOUND._replace(sender="bob@bank.example")
        )
        self.assertIsNone(self.remembered.find("192.0.2.51", "ann@bank.example"))
        self.assertIsNone(self.remembered.find("192.0.2.50", "ann@sub.bank.example"))
        self.clock.advance(remembering.KEPT)
        self.assertIsNone(self.remembered.find("192.0.2.50", "ann@bank.example"))

    def test_not_kept(self) -> None:
        """What depends on the sender, or could not be found out, is asked for again."""
        for found in (
            FOUND._replace(personal=True),
            FOUND._replace(result=Result.TEMPERROR),
            FOUND._replace(result=Result.PERMERROR),
            FOUND._replace(result=Result.FAIL, explanation="ann may not"),
        ):
            self.remembered.keep("192.0.2.50", "ann@bank.example", found)
            self.assertIsNone(self.remembered.find("192.0.2.50", "ann@bank.example"))

    def test_bounded(self) -> None:
        """Memory is bounded."""
        self.patch(remembering, "KEPT_MAX", 3)
        for number in range(10):
            self.remembered.keep("192.0.2.50", f"a@d{number}.example", FOUND)
        known = [number for number in range(10) if self.remembered.find("192.0.2.50", f"a@d{number}.example")]
        self.assertEqual(known, [7, 8, 9])


class ReceivedTests(SynchronousTestCase):
    def bring(self, record: bytes, *paths: str) -> list[str]:
        """Mails with these reverse-paths; what SPF says of each."""
        node = CheckedReceiver(names=zone() | {"bank.example": {"TXT": [record]}})
        for path in paths:
            node.bring(signed(), client=HOST, path=path)
        self.asked = node.resolver.asked.count(("bank.example", "TXT"))
        return [told(mail)["spf"] for mail in node.queue.mails]

    def test_asked_once(self) -> None:
        """The second mail of a domain needs no evaluation."""
        self.assertEqual(
            self.bring(b"v=spf1 ip4:192.0.2.50 -all", "a@bank.example", "b@bank.example"), ["pass", "pass"]
        )
        self.assertEqual(self.asked, 1)

    def test_macros(self) -> None:
        """With a macro of the local-part each mail has a result of its own."""
        record = b"v=spf1 exists:%{l}.users.bank.example ?all"
        self.assertEqual(self.bring(record, "a@bank.example", "b@bank.example"), ["neutral", "neutral"])
        self.assertEqual(self.asked, 2)
