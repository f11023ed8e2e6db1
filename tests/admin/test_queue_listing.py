"""``mailnode queue list`` by cause and age, ``count``, and what ``status`` says of the queue."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from tests.admin.fakes import Bridge, FakeNode, mail
from tests.admin.test_queue_commands import Case
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.cause import cause_named
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Entry, State

ANN = Recipient(Address("ann", "there.example"), Address("ann", "there.example"))
FULL = DeliveryStatus(Action.DELAYED, "4.2.2", Reason.REMOTE_DELAYED, "452 4.2.2 mailbox full", "mx", "", True)


class WaitingCase(Case):
    """A node runs; mails wait there for different things."""

    def setUp(self) -> None:
        super().setUp()
        full = Entry(0, ANN, State.DELAYED, 2000.0, 2, "full.example", FULL)
        self.node = FakeNode([mail("0a"), mail("0b", full), mail("0c", full._replace(state=State.HELD), sender=None)])
        now = time.time()
        for number, hours in enumerate((1, 3, 50)):
            self.node.queue.mails[number] = replace(self.node.queue.mails[number], received=now - hours * 3600)
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node, time.time()))


class ListTest(WaitingCase):
    """list."""

    def ids(self, *options: str) -> list[str]:
        """What list finds."""
        return [one["queue_id"] for one in json.loads(self.mailnode("queue", "list", "--json", *options).stdout)]

    def test_why(self) -> None:
        """Each mail says why it waits, in the words of its cause."""
        first, second, third = self.mailnode("queue", "list").stdout.splitlines()[1:4]
        refused, full = cause_named("connect-failed"), cause_named("mailbox-full")
        assert refused is not None and full is not None
        self.assertIn(refused.title[:30], first)
        for line in (second, third):
            self.assertIn(full.title[:30], line)

    def test_narrow(self) -> None:
        """On a narrow terminal the cause is there, and the host's words are left to show."""
        self.mailnode("queue", "list")
        heading = self.mailnode("queue", "list", columns="100").stdout.splitlines()[0]
        self.assertIn("Why", heading)
        self.assertNotIn("Last words", heading)

    def test_cause(self) -> None:
        """Mails are chosen by a cause's code, or by a kind."""
        self.assertEqual(self.ids("--cause", "mailbox-full"), ["0b", "0c"])
        self.assertEqual(self.ids("--cause", "mailbox"), ["0b", "0c"])
        self.assertEqual(self.ids("--cause", "network"), ["0a"])
        self.assertEqual(self.ids("--cause", "dns"), [])

    def test_unknown_cause(self) -> None:
        """What is no cause is a sentence that names the kinds, and what may have been meant."""
        result = self.mailnode("queue", "list", "--cause", "mailbx")
        self.assertEqual(result.exit_code, 2)
        for words in ("reputation, rate", "did you mean 'mailbox'?", "mailnode queue count --by cause"):
            self.assertIn(words, " ".join(result.stderr.split()))

    def test_age(self) -> None:
        """Mails are chosen by age."""
        self.assertEqual(self.ids("--older", "2h"), ["0b", "0c"])
        self.assertEqual(self.ids("--newer", "2h"), ["0a"])
        self.assertEqual(self.ids("--older", "2h", "--newer", "1d"), ["0b"])
        result = self.mailnode("queue", "list", "--older", "2 hours")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("did you mean '2h'?", result.stderr)


class CountTest(WaitingCase):
    """count."""

    def test_destination(self) -> None:
        """By destination: recipients and the oldest, the largest first, and how many in all."""
        heading, first, second, last = self.mailnode("queue", "count").stdout.splitlines()
        self.assertEqual(heading.split(), ["Destination", "Recipients", "Oldest"])
        self.assertEqual(first.split(), ["full.example", "2", "2", "d", "2", "h"])
        self.assertEqual(second.split()[:2], ["there.example", "1"])
        self.assertEqual(last, "3 recipients")

    def test_cause(self) -> None:
        """By cause: what each is, and below the table what can be done about it."""
        output = self.mailnode("queue", "count", "--by", "cause").stdout
        full = cause_named("mailbox-full")
        assert full is not None
        for words in ("mailbox-full", full.title, full.operator, "mailnode queue list --cause mailbox-full"):
            self.assertIn(words, output)

    def test_other(self) -> None:
        """By kind, sender, state and age."""
        for by, words in (
            ("kind", ["mailbox 2", "network 1"]),
            ("sender", ["joe@here.example 2", "<> 1"]),
            ("state", ["delayed 2", "held 1"]),
            ("age", ["1 h to 4 h 2", "2 d to 5 d 1"]),
        ):
            output = " ".join(self.mailnode("queue", "count", "--by", by).stdout.split())
            for word in words:
                self.assertIn(word, output)

    def test_filter(self) -> None:
        """The filters of list narrow what is counted."""
        self.assertIn("1 recipient\n", self.mailnode("queue", "count", "--state", "held").stdout)
        self.assertIn("2 recipients\n", self.mailnode("queue", "count", "--cause", "mailbox").stdout)
        self.assertEqual(
            self.mailnode("queue", "count", "--sender", "nobody").stdout, "Nobody in the queue waits like that.\n"
        )
        self.node.queue.mails = []
        self.assertEqual(self.mailnode("queue", "count").stdout, "Nobody waits in the queue.\n")

    def test_json(self) -> None:
        """--json gives the same to programs."""
        found = json.loads(self.mailnode("queue", "count", "--by", "state", "--json").stdout)
        self.assertEqual((found["by"], found["recipients"]), ("state", 3))
        self.assertEqual([one["name"] for one in found["groups"]], ["delayed", "held"])


class StatusTest(WaitingCase):
    """status."""

    def test_short(self) -> None:
        """status ends with what most wait for, and what is frozen."""
        self.node.queue.stopped["gmail.example"] = "they slow \x1b[2J us"
        output = self.mailnode("status").stdout
        for words in (
            "3 mails; recipients: 2 delayed, 0 active, 1 held",
            "2  mailbox-full",
            "frozen      gmail.example",
        ):
            self.assertIn(words, output)
        self.assertTrue(all(octet.isprintable() or octet == "\n" for octet in output))
        self.assertIn("by_cause", json.loads(self.mailnode("status", "--json").stdout)["waits"])

    def test_spool_fails(self) -> None:
        """Where the spool cannot be counted the rest is shown all the same."""
        self.node.queue.error = OSError("oh")
        result = self.mailnode("status")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("not known", result.stdout)
        self.flushLoggedErrors(OSError)
