"""``mailnode test``: what it says about a mail that arrives, waits, or is refused."""

from __future__ import annotations

import json
import smtplib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import Bridge, FakeNode, mail
from twisted_mail_node.admin import testmail
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.admin.testmail import Place, TestMail, place_of
from twisted_mail_node.settings import parse

SETTINGS = """
hostname = "mx.here.example"
[[listener]]
kind = "mx"
endpoint = "tcp:2525:interface=127.0.0.1"
[[domain]]
name = "here.example"
[[account]]
address = "demo@here.example"
"""


class FakeSMTP:
    """The node's SMTP side, as ``smtplib`` shows it."""

    command_encoding = "ascii"

    def __init__(self, case: TestMailCase) -> None:
        self.case = case

    def connect(self, host: str, port: int) -> tuple[int, bytes]:
        if self.case.refuses:
            raise ConnectionRefusedError
        self.case.place = (host, port)
        return 220, b"mx.here.example ESMTP"

    def ehlo(self, name: str) -> tuple[int, bytes]:
        return 250, b"mx.here.example\nSIZE 5"

    def mail(self, sender: str, options: list[str]) -> tuple[int, bytes]:
        return 250, b"2.1.0 OK"

    def rcpt(self, recipient: str) -> tuple[int, bytes]:
        self.case.recipient = recipient
        return self.case.rcpt_reply

    def data(self, content: bytes) -> tuple[int, bytes]:
        self.case.content = content
        self.case.accepted()
        return self.case.data_reply

    def quit(self) -> None:
        pass

    def close(self) -> None:
        pass


class TestMailCase(SynchronousTestCase):
    """A node whose event log and Maildir are written by the test."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name)
        (self.state / "log").mkdir()
        self.log = self.state / "log/mail.jsonl"
        self.log.write_text('{"time":"2020-01-01T00:00:00.000Z","event":"mail-finished","queue_id":"0a"}\n')
        self.text = SETTINGS
        self.refuses = False
        self.rcpt_reply = (250, b"2.1.5 OK")
        self.data_reply = (250, b"2.0.0 Queued as 0a")
        self.content = b""
        self.recipient = ""
        self.place = ("", 0)
        self.accepted: Callable[[], None] = lambda: None
        self.said = ""
        self.patch(smtplib, "SMTP", lambda timeout: FakeSMTP(self))

    def event(self, name: str, **facts: Any) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%S.999Z", time.gmtime())
        with open(self.log, "a") as file:
            file.write(json.dumps({"time": when, "event": name, "queue_id": "0a", **facts}) + "\n")

    def run_test(self, **options: Any) -> int:
        lines: list[str] = []
        settings = parse(self.text, self.state).model_copy(update={"state_dir": self.state})
        code = TestMail(settings, say=lines.append, **{"wait": 5.0, "sleep": self.slept, **options}).run()
        self.said = "\n".join(lines)
        return code

    def slept(self, seconds: float) -> None:
        """Overridden where something happens meanwhile."""

    def delivered(self) -> None:
        new = self.state / "mail/here.example/demo/new"
        new.mkdir(parents=True)
        (new / "1.other").write_bytes(b"Subject: another\r\n\r\n")
        (new / "2.this").write_bytes(b"Received: x\r\n" + self.content)
        self.event("recipient-delivered", recipient="demo@here.example")
        self.event("mail-finished")


class ArrivalTest(TestMailCase):
    """The mail arrives."""

    def test_delivered(self) -> None:
        """Each step stands in a line with its time, and the file in the Maildir is named."""
        self.accepted = self.delivered
        self.assertEqual(self.run_test(), 0)
        self.assertEqual((self.place, self.recipient), (("127.0.0.1", 2525), "demo@here.example"))
        for words in (
            "connected to 127.0.0.1:2525",
            "220",
            "EHLO",
            "250 2.0.0 Queued as 0a",
            "delivered to demo",
            "2.this",
        ):
            self.assertIn(words, self.said)
        self.assertIn("has arrived", self.said)

    def test_later(self) -> None:
        """The log is read as it grows."""
        self.slept = lambda seconds: self.delivered() if not (self.state / "mail").exists() else None  # type: ignore[method-assign]
        self.assertEqual(self.run_test(), 0)
        self.assertIn("delivered to demo", self.said)

    def test_relayed(self) -> None:
        """A relayed mail shows the host and its words, without control characters."""

        def relayed() -> None:
            self.event(
                "recipient-relayed", recipient="a@b.example", host="h", address="192.0.2.1:25", reply="250 \x1b OK"
            )
            self.event("mail-finished")

        self.accepted = relayed
        self.assertEqual(self.run_test(recipient="a@b.example"), 0)
        self.assertIn("relayed for a@b.example to h [192.0.2.1:25]: 250 ? OK", self.said)

    def test_by_queue(self) -> None:
        """Without a log file the queue is asked."""
        self.text = SETTINGS + '[log]\npath = "-"\n'
        node = FakeNode()
        self.patch(ControlClient, "_connect", lambda client: Bridge(node))
        self.assertEqual(self.run_test(), 0)
        self.assertIn("has left the queue", self.said)

    def test_no_queue_id(self) -> None:
        """A node that names no queue id is no failure."""
        self.data_reply = (250, b"OK")
        self.assertEqual(self.run_test(), 0)


class FailureTest(TestMailCase):
    """The mail does not arrive."""

    def test_nobody(self) -> None:
        """Nobody listens: start a node."""
        self.refuses = True
        self.assertEqual(self.run_test(), 1)
        self.assertIn("mailnode run", self.said)

    def test_running_elsewhere(self) -> None:
        """A node runs, but not there."""
        self.refuses = True
        self.patch(ControlClient, "_connect", lambda client: Bridge(FakeNode()))
        self.assertEqual(self.run_test(port=99), 1)
        self.assertIn("nobody listens on 127.0.0.1:99; see: mailnode status", self.said)

    def test_refused(self) -> None:
        """A refusal is shown with what to do about it."""
        for reply, words in (
            ((550, b"5.1.1 No such recipient"), "mailnode account add"),
            ((550, b"5.7.1 Relaying denied"), "relay_from"),
            ((451, b"4.3.0 Try later"), "may work later"),
        ):
            self.rcpt_reply = reply
            self.assertEqual(self.run_test(), 1)
            self.assertIn(words, self.said)

    def test_waits(self) -> None:
        """A mail that must wait is told with its reason."""
        self.accepted = lambda: self.event(
            "recipient-delayed", recipient="a@b.example", words="connection refused", due=time.time() + 60
        )
        self.assertEqual(self.run_test(), 1)
        self.assertIn("a@b.example must wait: connection refused; the next attempt is in", self.said)
        self.assertIn("safe in the spool", self.said)

    def test_waits_by_queue(self) -> None:
        """The same is seen by asking the queue."""
        self.text = SETTINGS + '[log]\npath = "-"\n'
        self.patch(ControlClient, "_connect", lambda client: Bridge(FakeNode([mail("0a")])))
        self.assertEqual(self.run_test(), 1)
        self.assertIn("must wait: connection refused", self.said)

    def test_failed_and_held(self) -> None:
        """Given up and held are told apart."""
        self.accepted = lambda: self.event("recipient-failed", recipient="a@b.example", words="550 no")
        self.assertEqual(self.run_test(), 1)
        self.assertIn("given up", self.said)
        self.accepted = lambda: self.event("mail-held", words="looks odd")
        self.assertEqual(self.run_test(), 1)
        self.assertIn("queue release", self.said)

    def test_never(self) -> None:
        """A mail of which nothing is heard is not waited for longer than we said."""
        self.assertEqual(self.run_test(wait=0.0), 1)
        self.assertIn("did not arrive within 0 s. See: mailnode queue show 0a", self.said)

    def test_nobody_to_write_to(self) -> None:
        """Without any account there must be a --to."""
        self.text = SETTINGS.partition("[[account]]")[0]
        self.assertEqual(self.run_test(), 1)
        self.assertIn("--to", self.said)


class PlaceTest(SynchronousTestCase):
    """Where a listener can be reached."""

    def test_places(self) -> None:
        """Wild cards are reached by loopback; what has no port cannot be told."""
        for endpoint, place in (
            ("tcp:2525:interface=127.0.0.2", Place("127.0.0.2", 2525)),
            ("tcp:25", Place("127.0.0.1", 25)),
            ("tcp:port=25:interface=0.0.0.0", Place("127.0.0.1", 25)),
            ("tcp6:25", Place("::1", 25)),
            (r"tcp6:25:interface=\:\:2", Place("::2", 25)),
            ("tcp:0", None),
            ("unix:/run/x.sock", None),
            ("systemd:domain=INET:name=smtp", None),
            ("", None),
        ):
            self.assertEqual(place_of(endpoint), place, endpoint)
        self.assertTrue(testmail.REPLY_TIME)
