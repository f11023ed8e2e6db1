"""``mailnode queue``: what changes many mails or destinations; and ``show``."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import CONTENT, Bridge, FakeNode, mail
from tests.admin.test_queue_commands import Case
from tests.threads import ThreadsAtOnce
from twisted_mail_node.admin import queue_changes
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.admin.queue_show import safe_lines
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.cause import cause_named
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.content import FileContent
from twisted_mail_node.spool.mail import Attempt, Entry, State
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.freezes import Freezes

ANN = Address("ann", "there.example")
BUSY = DeliveryStatus(
    Action.DELAYED, "4.2.2", Reason.REMOTE_DELAYED, "452 4.2.2 mailbox full", "mx.there.example", "192.0.2.7:25", True,
    tls="TLSv1.3 with X",
)  # fmt: skip


class RunningCase(Case):
    """A node runs, with some mails."""

    MAILS = 2

    def setUp(self) -> None:
        super().setUp()
        self.node = FakeNode([mail(f"{number:014x}") for number in range(self.MAILS)])
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def ordered(self) -> list[tuple[str, int]]:
        """The orders that came to the queue, and for how many mails each."""
        return [(order, len(ids)) for order, ids in self.node.queue.ordered]


class ChangesTest(RunningCase):
    """Orders on mails."""

    MAILS = 1203

    def test_all(self) -> None:
        """All mails are changed, page by page, and the count is that of all."""
        self.assertEqual(self.mailnode("queue", "hold", "--all").stdout, "Held 1203 mails.\n")
        self.assertEqual(self.ordered(), [("hold", 500), ("hold", 500), ("hold", 203)])

    def test_dry_run(self) -> None:
        """--dry-run tells how many, and nothing happens."""
        result = self.mailnode("queue", "remove", "--all", "--dry-run")
        self.assertEqual((result.exit_code, result.stdout), (0, "It would be 1203 mails. Nothing was changed.\n"))
        result = self.mailnode("queue", "retry", "--sender", "nobody", "--dry-run", "--json")
        self.assertEqual((json.loads(result.stdout), self.ordered()), ({"would_change": 0}, []))

    def test_ask(self) -> None:
        """On a terminal many are changed only after an answer; --yes gives it before."""
        self.patch(queue_changes, "is_asked", lambda: True)
        result = self.mailnode("queue", "hold", "--all", given="n\n")
        self.assertEqual((result.exit_code, self.ordered()), (1, []))
        self.assertIn("Hold 1203 mails?", result.stderr)
        self.assertEqual(self.mailnode("queue", "hold", "--all", "--yes").exit_code, 0)
        self.node.queue.mails = self.node.queue.mails[: queue_changes.MANY]
        self.assertEqual(self.mailnode("queue", "hold", "--all").exit_code, 0)

    def test_for_good(self) -> None:
        """What cannot be taken back is not done where nobody answers, however few they are."""
        for options in (["remove"], ["remove", "--dsn"]):
            result = self.mailnode("queue", *options, "--all")
            self.assertEqual((result.exit_code, self.ordered()), (1, []))
        self.assertIn("Give up 1203 mails, and tell the senders?", result.stderr)

    def test_dsn(self) -> None:
        """remove --dsn gives mails up in the operator's words."""
        result = self.mailnode("queue", "remove", "--dsn", "--why", "we moved", f"{3:014x}")
        self.assertEqual(result.stdout, "Given up 1 mail; the senders are told.\n")
        self.assertEqual((self.ordered(), self.node.queue.given), ([("fail", 1)], ["we moved"]))
        self.assertEqual(self.mailnode("queue", "remove", "--why", "x", f"{3:014x}").exit_code, 2)

    def test_retry_destination(self) -> None:
        """retry --destination tries all that waits there; the first page ends its suspension."""
        result = self.mailnode("queue", "retry", "--destination", "there.example")
        self.assertEqual(result.stdout, "To be tried now: 1203 mails.\n")
        self.assertEqual(self.node.queue.given, [True, False, False])

    def test_retry_frozen(self) -> None:
        """Who retries what is frozen is told so."""
        self.node.queue.stopped["there.example"] = "by hand"
        result = self.mailnode("queue", "retry", "--destination", "there.example")
        self.assertIn("But there.example is frozen", result.stdout)

    def test_reroute(self) -> None:
        """reroute takes a next hop and mails; --by-route takes them back."""
        one, two = f"{1:014x}", f"{2:014x}"
        result = self.mailnode("queue", "reroute", "[192.0.2.9]:25", one, two)
        self.assertEqual(result.stdout, "To go another way now: 2 mails.\n")
        self.mailnode("queue", "reroute", "--by-route", one)
        self.mailnode("queue", "reroute", "smart.example", "--destination", "there.example", "--yes")
        self.assertEqual(
            self.node.queue.given, ["[192.0.2.9]:25", "", "smart.example", "smart.example", "smart.example"]
        )

    def test_reroute_wrong(self) -> None:
        """Neither a missing next hop, nor a wrong one, nor a queue id in its place touches a mail."""
        one = f"{1:014x}"
        for words, said in (
            ([], "Give a NEXT_HOP"),
            (["192.0.2.9", one], "did you mean '[192.0.2.9]'?"),
            ([one, one], "is a queue id"),
            (["mx.example"], "Which mails?"),
            (["mx.example", one, "--all"], "not both"),
        ):
            result = self.mailnode("queue", "reroute", *words)
            self.assertEqual((result.exit_code, self.ordered()), (2, []))
            self.assertIn(said, " ".join(result.stderr.split()))

    def test_progress(self) -> None:
        """On a terminal a long change shows how far it is."""
        said: list[str] = []
        self.patch(queue_changes, "is_watched", lambda: True)
        self.patch(click, "echo", lambda words="", **options: said.append(words))
        with queue_changes.progress(1203) as tell:
            tell(50)
            tell(500)
            tell(1203)
        self.assertEqual(said, ["\r500 of 1203 mails …", "\r1203 of 1203 mails …", ""])


class FreezingTest(RunningCase):
    """Freezes."""

    def test_back_and_forth(self) -> None:
        """freeze, frozen and thaw."""
        self.assertEqual(self.mailnode("queue", "frozen").stdout, "No destination is frozen.\n")
        result = self.mailnode("queue", "freeze", "gmail.example", "--why", "they slow us")
        self.assertIn("mailnode queue thaw gmail.example", result.stdout)
        output = self.mailnode("queue", "frozen").stdout
        for words in ("gmail.example", "they slow us"):
            self.assertIn(words, output)
        (found,) = json.loads(self.mailnode("queue", "frozen", "--json").stdout)
        self.assertEqual(found["destination"], "gmail.example")
        self.assertEqual(
            self.mailnode("queue", "thaw", "gmail.example").stdout, "gmail.example is not frozen any more.\n"
        )
        result = self.mailnode("queue", "thaw", "gmail.example")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("gmail.example is not frozen", result.stderr)


class DownTest(Case):
    """Freezes while no node runs."""

    def test_back_and_forth(self) -> None:
        """They are kept in the state database for the node's next start, and can be taken back there."""
        self.state.mkdir(parents=True)
        for why in ("they slow us", "still"):
            result = self.mailnode("queue", "freeze", "gmail.example", "--why", why)
            self.assertEqual(result.exit_code, 0)
            self.assertIn("counts from its next start", result.stderr)
        database = StateDatabase(self.state / "state.sqlite", cast("Any", ThreadsAtOnce()))
        ((destination, words, since),) = Freezes(database).all()
        database.close()
        self.assertEqual((destination, words), ("gmail.example", "still"))
        self.assertLess(abs(since - time.time()), 60)
        self.assertIn("still", self.mailnode("queue", "frozen").stdout)
        self.assertEqual(self.mailnode("queue", "thaw", "gmail.example").exit_code, 0)
        self.assertEqual(json.loads(self.mailnode("queue", "frozen", "--json").stdout), [])
        self.assertEqual(self.mailnode("queue", "thaw", "gmail.example").exit_code, 1)

    def test_looking_makes_nothing(self) -> None:
        """Who only looks, or thaws what is not frozen, leaves no file behind."""
        self.state.mkdir(parents=True)
        self.assertEqual(json.loads(self.mailnode("queue", "frozen", "--json").stdout), [])
        self.assertEqual(self.mailnode("queue", "thaw", "gmail.example").exit_code, 1)
        self.assertEqual(list(self.state.iterdir()), [])

    def test_no_node(self) -> None:
        """Where no node ever was, nothing is made."""
        result = self.mailnode("queue", "freeze", "gmail.example")
        self.assertEqual((result.exit_code, self.state.exists()), (1, False))
        self.assertIn("there is no node", result.stderr)


class ShowTest(RunningCase):
    """show."""

    def shown(self, *options: str) -> str:
        """What show says of the first mail."""
        result = self.mailnode("queue", "show", f"{0:014x}", *options)
        self.assertEqual(result.exit_code, 0, result.stderr)
        return result.stdout

    def keep(self, *entries: Entry, content: bytes = CONTENT) -> None:
        """The queue's only mail."""
        one = mail(f"{0:014x}", *entries)
        one.content.octets, one.content.size = content, len(content)
        self.node.queue.mails = [one]

    def test_cause(self) -> None:
        """A recipient's cause comes with its sentence and what to do, and what happens next."""
        self.keep(Entry(0, Recipient(ANN, ANN), State.DELAYED, time.time() + 100, 2, "there.example", BUSY))
        full = cause_named("mailbox-full")
        assert full is not None
        output = self.shown()
        for words in (
            f"Why:    {full.title} (mailbox-full)",
            f"To do:  {full.operator}",
            "it is tried again by its route",
        ):
            self.assertIn(words, output)

    def test_next(self) -> None:
        """What comes next depends on the state."""
        delayed = Entry(0, Recipient(ANN, ANN), State.DELAYED, 5.0, 2, "there.example", BUSY)
        failed = BUSY._replace(action=Action.FAILED)
        for entry, words in (
            (delayed._replace(state=State.HELD), f"mailnode queue release {0:014x}"),
            (delayed._replace(state=State.ACTIVE), "it is being tried"),
            (delayed._replace(last=failed), "its sender is told, then it leaves the queue"),
            (delayed._replace(next_hop="[192.0.2.9]"), "it is tried again to [192.0.2.9], as an operator said"),
        ):
            self.keep(entry)
            self.assertIn(words, self.shown())
        self.node.queue.stopped["there.example"] = ""
        self.keep(delayed)
        self.assertIn("until somebody says: mailnode queue thaw there.example", self.shown())

    def test_attempts(self) -> None:
        """Every attempt is told: when, whom it asked, the reply, TLS, and how long until the next."""
        begin = time.time() - 1000
        self.keep(Entry(0, Recipient(ANN, ANN), State.DELAYED, begin + 1500, 2, "there.example", BUSY))
        self.node.queue.tried[f"{0:014x}"] = [
            Attempt(begin, 0, "there.example", BUSY),
            Attempt(begin + 300, 0, "there.example", BUSY._replace(words="452 \x1b[2J full", tls="")),
        ]
        _, _, attempts = self.shown().partition("Attempts\n")
        first, second = attempts.splitlines()[:2]
        for words in ("mx.there.example 192.0.2.7:25", "452 4.2.2 mailbox full [TLSv1.3 with X]; then 5 min"):
            self.assertIn(words, first)
        self.assertTrue(second.endswith("452 ?[2J full; then 20 min"), second)
        found = json.loads(self.shown("--json"))
        self.assertEqual([one["when"] for one in found[0]["tried"]], [begin, begin + 300])

    def test_content(self) -> None:
        """--content prints the whole mail, and nothing in it reaches the terminal as a control (attack T20)."""
        self.keep(content=b"Subject: x\r\n\r\n\x1b]0;owned\x07\xff\r\ttab\r\nlast")
        output = self.shown("--content")
        _, _, content = output.partition("Content\n")
        self.assertEqual(
            content.splitlines(),
            ["  Received: by here.example", "  Subject: x", "  ", "  ?]0;owned?\ufffd?    tab", "  last"],
        )
        self.assertTrue(all(octet.isprintable() or octet == "\n" for octet in output))

    def test_save(self) -> None:
        """--save writes every octet to a new file that only its owner reads, and over none that is there."""
        octets = bytes(range(256)) * 5
        self.keep(content=octets)
        path = self.config.with_name("mail.eml")
        self.shown("--save", str(path))
        self.assertEqual(path.read_bytes(), b"Received: by here.example\r\n" + octets)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        result = self.mailnode("queue", "show", f"{0:014x}", "--save", str(path))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("is there already", result.stderr)
        result = self.mailnode("queue", "show", f"{0:014x}", "--save", "/nowhere/at/all")
        self.assertIn("cannot be written", result.stderr)

    def test_large(self) -> None:
        """Content in a file of its own is read piece by piece."""
        path = Path(self.mktemp())
        octets = os.urandom(700_000)
        path.write_bytes(octets)
        self.node.queue.mails[0] = replace(self.node.queue.mails[0], content=FileContent(path, len(octets), True))
        saved = self.config.with_name("large.eml")
        self.shown("--save", str(saved))
        self.assertEqual(saved.read_bytes(), b"Received: by here.example\r\n" + octets)

    def test_usage(self) -> None:
        """One file takes one mail."""
        self.assertEqual(self.mailnode("queue", "show", "0a", "0b", "--save", "x").exit_code, 2)
        self.assertEqual(self.mailnode("queue", "show", "0a", "--json", "--content").exit_code, 2)


class SafeLinesTest(SynchronousTestCase):
    """Lines for a terminal."""

    @given(st.lists(st.binary(max_size=50), max_size=20))
    def test_any(self, pieces: list[bytes]) -> None:
        """Whatever octets come in whatever pieces, each line is printable, and cuts between pieces do not show."""
        lines = list(safe_lines(pieces))
        self.assertTrue(all(line.isprintable() or "\ufffd" in line for line in lines), lines)
        self.assertEqual(lines, list(safe_lines([b"".join(pieces)])))

    def test_endless(self) -> None:
        """A line without end is cut, and never kept whole."""
        self.assertTrue(all(len(line) <= 2000 for line in safe_lines([b"x" * 1000] * 500)))
