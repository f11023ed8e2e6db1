"""DSNs as a weapon (T34, T35): reports about reports, floods of bounces, aliases that multiply.

The node is that of the attacks on forwarding: real sessions, directory, queue and notifier.
"""

from __future__ import annotations

import email
import tempfile
from email.message import Message
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.test_srs import CONTENT, Node
from tests.queue.fakes import LATER, REFUSED
from twisted_mail_node.events import MailFinished, NotificationDropped
from twisted_mail_node.message.address import Address
from twisted_mail_node.report.double_bounce import AT_MOST
from twisted_mail_node.settings import Alias

POSTMASTER = Address("postmaster", "here.example")
TEAM = Address("team", "here.example")


def groups(octets: bytes) -> list[Message]:
    """The field groups of a DSN's part for programs."""
    parts: Any = email.message_from_bytes(octets).get_payload()
    return list(parts[1].get_payload())


class BounceCase(SynchronousTestCase):
    """A fresh node."""

    def made(self, *aliases: Alias) -> Node:
        """A node with these aliases, too."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        return Node(Path(place.name), aliases)

    def dropped(self, node: Node) -> list[str]:
        """Why nobody was told."""
        return [event.words for event in node.world.of(NotificationDropped)]


class LoopTests(BounceCase):
    """Reports about reports."""

    def test_end_of_a_dsn(self) -> None:
        """A DSN of ours that is refused is told to postmaster; that notice, refused too, is the end."""
        away = Alias(address=POSTMASTER, to=(Address("boss", "elsewhere.example"),))
        node = self.made(away)
        node.answer = REFUSED
        node.bring("ann@elsewhere.example", "sales@here.example")
        for _ in range(20):
            node.world.pass_time(60.0, 10.0)
        self.assertEqual(
            [recipient for _, recipient in node.went()],
            ["far@elsewhere.example", "ann@elsewhere.example", "boss@elsewhere.example"],
        )
        self.assertIn("it was a notice to postmaster itself", self.dropped(node)[0])
        self.assertEqual((node.world.spool.mails, len(node.world.of(MailFinished))), ({}, 3))

    def test_end_after_a_restart(self) -> None:
        """It is the end also when the notice waited through a restart."""
        away = Alias(address=POSTMASTER, to=(Address("boss", "elsewhere.example"),))
        node = self.made(away)
        node.bring("", "far@elsewhere.example")  # refused: no relay
        node.answer = REFUSED
        node.bring("", "sales@here.example")
        node.answer = LATER
        (first, second) = node.went()
        self.assertEqual((first[1], second[1]), ("far@elsewhere.example", "boss@elsewhere.example"))
        again = self.made(away)
        again.answer = REFUSED
        again.world.spool.mails.update(node.world.spool.mails)
        again.world.pass_time(3600.0, 30.0)
        self.assertEqual(len(again.went()), len(node.world.spool.mails))
        self.assertEqual(again.world.spool.mails, {})

    def test_flood(self) -> None:
        """Bounces by the hundred that cannot be delivered bury nobody: postmaster gets no more than the bound."""
        node = self.made()
        node.answer = REFUSED
        for _ in range(AT_MOST + 20):
            node.bring("", "sales@here.example")
        notices = [recipient for _, recipient in node.went() if recipient == "joe@here.example"]
        self.assertEqual(len(notices), AT_MOST)
        self.assertEqual(len(self.dropped(node)), 20)
        self.assertEqual(node.world.spool.mails, {})


class AliasTests(BounceCase):
    """NOTIFY=SUCCESS to aliases."""

    def test_one_report(self) -> None:
        """However many stand behind an alias, and however often it is named, the sender gets one report of it, and
        learns of none of them."""
        people = tuple(Address(f"u{number}", f"d{number}.example") for number in range(30))
        node = self.made(Alias(address=TEAM, to=people))
        rcpt = "RCPT TO:<team@here.example> NOTIFY=SUCCESS"
        node.say("MAIL FROM:<ann@example.net> ENVID=QQ1", *[rcpt] * 10, "DATA", *CONTENT)
        node.world.pass_time(60.0)
        reports = [request for request in node.world.agent.requests if request.envelope.reverse_path is None]
        self.assertEqual(len(node.world.agent.requests), 31)
        (report,) = reports
        octets = report.content.octets or b""
        blocks = groups(octets)
        self.assertEqual([block["Final-Recipient"] for block in blocks], [None, "rfc822;team@here.example"])
        self.assertEqual((blocks[0]["Original-Envelope-Id"], blocks[1]["Action"]), ("QQ1", "expanded"))
        self.assertNotIn(b"u1@", octets)

    def test_failure_behind_it(self) -> None:
        """When one behind the alias fails the report names the alias, and comes beside the one of the expansion."""
        node = self.made(Alias(address=TEAM, to=(Address("a", "elsewhere.example"), Address("b", "d.example"))))
        node.answer = REFUSED
        node.say("MAIL FROM:<ann@example.net>", "RCPT TO:<team@here.example> NOTIFY=SUCCESS,FAILURE", "DATA", *CONTENT)
        node.world.pass_time(60.0)
        reports = [one.content.octets or b"" for one in node.world.agent.requests if one.envelope.reverse_path is None]
        actions = sorted(groups(one)[1]["Action"] for one in reports)
        self.assertEqual(actions, ["expanded", "failed"])
        self.assertFalse([one for one in reports if b"a@elsewhere" in one])

    def test_many_spellings(self) -> None:
        """Aliases named in many spellings count as recipients: no mail grows without bound in the spool (T34)."""
        node = self.made(Alias(address=TEAM, to=(Address("a", "d.example"), Address("b", "d.example"))))
        node.receiver.factory.limits = node.receiver.limits.model_copy(update={"recipients": 10, "errors": 1000})
        names = [f"{''.join(c.upper() if n >> i & 1 else c for i, c in enumerate('team'))}" for n in range(16)]
        lines = [f"RCPT TO:<{name}@here.example> NOTIFY=SUCCESS" for name in [*names, *names]]
        answer = node.say("MAIL FROM:<ann@example.net>", *lines, "DATA", *CONTENT)
        self.assertEqual(answer.count("250 2.1.5"), 8)  # the first spelling is three recipients, each other one is one
        self.assertEqual(answer.count("452 4.5.3"), len(lines) - 8)
        self.assertEqual(len(node.world.of(MailFinished)), 2)  # the mail, and one report
