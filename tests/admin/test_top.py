"""``mailnode queue top``: its frames, its keys, and the whole of it in a terminal (a pty)."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.admin.fakes import Bridge, FakeNode, mail
from tests.admin.test_queue_commands import SETTINGS, Case
from twisted_mail_node.admin.control import ControlService
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.admin.top_frame import frame, heading, rows_of
from twisted_mail_node.admin.top_view import KEYS, View, Wish, keys_of
from twisted_mail_node.admin.traffic import OVER, Traffic
from twisted_mail_node.events import MailAccepted, MailFinished, NodeStopped
from twisted_mail_node.reasons import Reason

NOW = 1_000_000.0
ROOT = Path(__file__).parents[2]


def snapshot(**more: Any) -> dict[str, Any]:
    """A queue with three destinations."""
    return {
        "hostname": "mx.here.example",
        "counts": {"mails": 130, "delayed": 120, "active": 9, "held": 1},
        "by_destination": [
            {"name": "big.example", "recipients": 100, "oldest": NOW - 7200},
            {"name": "old.example", "recipients": 5, "oldest": NOW - 90_000},
            {"name": "", "recipients": 3, "oldest": NOW - 10},
        ],
        "by_cause": [{"name": "mailbox-full", "recipients": 100, "oldest": 1.0}, {"name": "", "recipients": 3}],
        "accepted_a_second": 12.3,
        "finished_a_second": 0.0,
        "destinations": [
            {"destination": "big.example", "in_flight": 20, "waiting": 7, "window": 20, "until": None, "state": "open",
             "words": "", "rate": 3.25},
            {"destination": "down.example", "in_flight": 0, "waiting": 2, "window": 1, "until": NOW + 90,
             "state": "suspended", "words": "no \x1b[2J route", "rate": 0.0},
        ],
        "frozen": [{"destination": "old.example", "words": "by hand", "since": 1.0}],
    } | more  # fmt: skip


class FrameTest(SynchronousTestCase):
    """What is printed."""

    def test_heading(self) -> None:
        """The heading has name, rates, numbers by state, and what most wait for."""
        first, second, third = heading(snapshot(), NOW)
        for words in ("mx.here.example", "in 12.3/s", "out 0.0/s"):
            self.assertIn(words, first)
        self.assertEqual(second, "130 mails; recipients: 120 delayed, 9 active, 1 held")
        self.assertEqual(third, "Why: 100 mailbox-full")

    def test_rows(self) -> None:
        """A row brings together what the spool, the queue and the freezes know of a destination."""
        lines = {line.split()[0]: " ".join(line.split()) for line in frame(snapshot(), "w", 120, 24, NOW).lines[5:]}
        self.assertEqual(lines["big.example"], "big.example 100 20 20 3.2 2 h")
        self.assertEqual(lines["old.example"], "old.example 5 0 1 d frozen: by hand")
        self.assertEqual(lines["down.example"], "down.example 2 0 1 0.0 suspended, 1 min more: no ?[2J route")
        self.assertEqual(lines["(not"], "(not tried yet) 3 0 10 s")

    def test_sort(self) -> None:
        """Rows are sorted by name, what waits, speed or age."""
        for key, first in (("d", ""), ("w", "big.example"), ("s", "big.example"), ("o", "old.example")):
            self.assertEqual(rows_of(snapshot(), key, NOW)[0].name, first)

    @given(st.integers(20, 200), st.integers(6, 60), st.text(max_size=300), st.sampled_from("dwso"))
    def test_fits(self, width: int, height: int, words: str, sort: str) -> None:
        """A frame has at most the terminal's lines and columns, and no control character, whatever hosts said."""
        known = [{"destination": words or "x", "in_flight": 1, "waiting": 1, "window": 1, "words": words}] * 3
        made = frame(snapshot(destinations=known), sort, width, height, NOW, words, words)
        self.assertLessEqual(len(made.lines), max(height, 8))
        for line in made.lines:
            self.assertLessEqual(len(line), width)
            self.assertNotRegex(line, r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

    def test_chosen(self) -> None:
        """The chosen destination is on the screen, however far down it stands."""
        many = [{"name": f"d{number:03}", "recipients": 1, "oldest": NOW} for number in range(100)]
        for name in ("d000", "d050", "d099"):
            made = frame(snapshot(by_destination=many), "d", 80, 24, NOW, name, "keys")
            self.assertIn(name, made.lines[made.chosen])
            self.assertEqual((len(made.lines), made.lines[-1]), (24, "keys"))

    def test_words(self) -> None:
        """What was said of the chosen destination stands below the table, with more room than in its row."""
        words = "450 " + "x" * 50
        known = [
            {"destination": "a.example", "in_flight": 1, "waiting": 1, "window": 1, "state": "open", "words": words}
        ]
        made = frame(snapshot(destinations=known), "d", 80, 24, NOW, "a.example", "keys")
        self.assertNotIn(words, made.lines[made.chosen])
        self.assertEqual(made.lines[-2], f"a.example: {words}")

    def test_empty(self) -> None:
        """A queue without mail says so."""
        made = frame({"counts": {"mails": 0}}, "w", 80, 24, NOW)
        self.assertEqual(made.lines[-1], "Nothing waits for any destination.")


class ViewTest(SynchronousTestCase):
    """What keys do."""

    def setUp(self) -> None:
        self.view = View()

    def press(self, keys: str, **more: Any) -> list[Wish]:
        """The wishes that keys come to."""
        wishes = []
        for key in keys:
            wish = self.view.press(key, rows_of(snapshot(**more), self.view.sort, NOW))
            wishes += [wish] if wish is not None else []
        return wishes

    def test_quit(self) -> None:
        """q ends it."""
        self.assertEqual(self.press("q"), [Wish("quit")])

    def test_choose(self) -> None:
        """j and k choose, and stop at both ends."""
        for keys, chosen in (
            ("j", "big.example"),
            ("j", "old.example"),
            ("kkk", "big.example"),
            ("jjjjjj", "down.example"),
        ):
            self.press(keys)
            self.assertEqual(self.view.chosen, chosen)

    def test_confirm(self) -> None:
        """Freezing and retrying happen after a y, and after no other key."""
        self.assertEqual(self.press("jr"), [])
        self.assertEqual(self.view.last, "Try again now what waits for big.example? y/n")
        self.assertEqual(self.press("y"), [Wish("retry", "big.example")])
        for key in "nq ":
            self.assertEqual(self.press(f"f{key}"), [])
        self.assertEqual(self.press("fy"), [Wish("freeze", "big.example")])
        self.assertEqual(self.press("jfy"), [Wish("thaw", "old.example")])
        self.assertEqual(self.view.last, KEYS)

    def test_none_chosen(self) -> None:
        """Without a chosen destination there is a sentence instead; likewise for what was not tried anywhere."""
        self.press("f")
        self.assertIn("Choose a destination first", self.view.last)
        self.press("d")
        self.press("jr")
        self.assertEqual(self.view.chosen, "")
        self.assertIn("Choose a destination first", self.view.last)

    def test_sort(self) -> None:
        """d, w, s and o sort; the chosen destination stays chosen."""
        self.press("jd")
        self.assertEqual((self.view.sort, self.view.chosen), ("d", "big.example"))

    @given(st.binary(max_size=20))
    def test_any_octets(self, octets: bytes) -> None:
        """Whatever a terminal sends is keys or nothing."""
        self.assertTrue(all(len(key) == 1 for key in keys_of(octets)))

    def test_keys(self) -> None:
        """Arrows are j and k, capitals small; other sequences are nothing, their letters included."""
        self.assertEqual(keys_of(b"\x1b[A\x1b[BQ\x1bOAj"), ["k", "j", "q", "k", "j"])
        self.assertEqual(keys_of(b"\x1b[5~q"), [])


class TrafficTest(SynchronousTestCase):
    """Mails a second."""

    def test_rates(self) -> None:
        """Mails are counted over the last ten seconds; events of other kinds are not; what is old is forgotten."""
        now = [500.0]
        traffic = Traffic(lambda: now[0])
        accepted = MailAccepted("", "", "", "", "", "", (), 0, Reason.ACCEPTED)
        for _ in range(30):
            now[0] += 1
            for _ in range(5):
                traffic.observe(accepted)
            traffic.observe(MailFinished("q", 1.0))
            traffic.observe(NodeStopped(1.0))
        into, out = traffic.rates()
        self.assertAlmostEqual(into, 5.0, delta=0.6)
        self.assertAlmostEqual(out, 1.0, delta=0.2)
        now[0] += OVER + 1
        self.assertEqual(traffic.rates(), (0.0, 0.0))

    def test_young(self) -> None:
        """A node that just began counts over the time it has had, a second at least."""
        now = [500.0]
        traffic = Traffic(lambda: now[0])
        traffic.observe(MailFinished("q", 1.0))
        self.assertEqual(traffic.rates(), (0.0, 1.0))
        now[0] += 4
        self.assertEqual(traffic.rates(), (0.0, 0.25))


class OnceTest(Case):
    """Without a terminal."""

    def test_once(self) -> None:
        """--once prints one frame as text, at any width."""
        self.patch(ControlClient, "_connect", lambda client: Bridge(FakeNode([mail("0a")])))
        for columns in ("80", "200"):
            result = self.mailnode("queue", "top", "--once", columns=columns)
            self.assertEqual(result.exit_code, 0, result.stderr)
            self.assertIn("there.example", result.stdout)
            self.assertTrue(all(len(line) <= int(columns) for line in result.stdout.splitlines()))
            self.assertNotIn("\x1b", result.stdout)

    def test_down(self) -> None:
        """While the node is down a sentence names what works then."""
        result = self.mailnode("queue", "top", "--once")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("mailnode queue count", result.stderr)


class TerminalTest(TestCase):
    """The command in a terminal of its own, asking a control socket."""

    timeout = 60

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="mn-")
        self.addCleanup(place.cleanup)
        state = Path(place.name) / "var"
        self.config = Path(place.name) / "settings.toml"
        self.config.write_text(SETTINGS.format(state))
        self.node = FakeNode([mail("0a"), mail("0b")])
        service = ControlService(self.node, state / "control.sock", reactor)
        service.startService()
        self.addCleanup(service.stopService)

    def in_terminal(self, terminal: str, *keys: tuple[str, bytes]) -> Deferred[str]:
        """Run it and press each key when the words before it are on the screen; gives all that it wrote."""
        return deferToThread(self._shown, terminal, keys)

    def _shown(self, terminal: str, keys: tuple[tuple[str, bytes], ...]) -> str:
        own, other = pty.openpty()
        environment = {**os.environ, "TERM": terminal, "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(
            [sys.executable, "-m", "twisted_mail_node.admin.cli", "queue", "top", "--interval", "0.2",
             "-c", str(self.config)],
            stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        written, since, end = "", 0, time.monotonic() + 40
        waiting = list(keys)
        try:
            while time.monotonic() < end:
                if select.select([own], [], [], 0.1)[0]:
                    try:
                        written += os.read(own, 65536).decode("utf-8", "replace")
                    except OSError:
                        break  # it has ended
                if waiting and waiting[0][0] in written[since:]:
                    since = len(written)
                    key = waiting.pop(0)[1]
                    if key == b"\x03":  # the terminal is not the child's controlling one
                        child.send_signal(signal.SIGINT)
                    os.write(own, key)
            self.assertEqual((waiting, child.wait(10)), ([], 0), written)
        finally:
            child.kill()
            child.wait(10)
            os.close(own)
        return written

    async def test_keys(self) -> None:
        """A destination is chosen, retried after a y, frozen, thawed; q gives the terminal back as it was."""
        written = await self.in_terminal(
            "xterm",
            ("there.example", b"\x1b[B"),
            ("q quit", b"r"),
            ("Try again now what waits for there.example? y/n", b"y"),
            ("2 mails for there.example: to be tried now.", b"f"),
            ("Freeze there.example? y/n", b"y"),
            ("there.example: frozen", b"f"),
            ("Thaw there.example? y/n", b"y"),
            ("there.example: thawed", b"q"),
        )
        self.assertEqual([order for order, _ in self.node.queue.ordered], ["retry"])
        self.assertEqual(self.node.queue.stopped, {})
        self.assertTrue(written.endswith("\x1b[?25h") or "\x1b[?1049l" in written)

    async def test_dumb(self) -> None:
        """In a terminal that can do nothing, frames follow each other as text, until Ctrl-C."""
        written = await self.in_terminal("dumb", ("there.example", b""), ("there.example", b"\x03"))
        self.assertEqual(re.findall(r"\x1b", written), [])
