"""The event log: what a line looks like, when it is written, and that a full disk harms nothing."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node import eventlog, events
from twisted_mail_node.eventlog import EventLog, LogFile, Stream, event_name, open_event_log
from twisted_mail_node.reasons import Reason

HELD = events.MailHeld("q1", Reason.HELD, "looks odd")


class Disk:
    """Takes octets; may be full, or take only some at a time."""

    def __init__(self) -> None:
        self.octets = b""
        self.full = False
        self.at_once = 1 << 30
        self.writes = 0

    def write(self, octets: memoryview) -> int:
        self.writes += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(octets[: self.at_once])
        self.octets += taken
        return len(taken)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.octets.splitlines()]


class LinesTest(SynchronousTestCase):
    """What stands in a line."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1769860800.1239
        self.disk = Disk()
        self.log = EventLog(self.disk.write, self.clock)

    def test_fields(self) -> None:
        """A line holds the time in UTC to the millisecond, the event's name and each field under its own name."""
        self.log.observe(
            events.MailAccepted("s1", "q1", "192.0.2.1", "mx", "ESMTP", "", ("a@b.c", "d@e.f"), 5, Reason.ACCEPTED)
        )
        self.log.flush()
        self.assertEqual(
            self.disk.octets,
            b'{"time":"2026-01-31T12:00:00.123Z","event":"mail-accepted","session":"s1","queue_id":"q1",'
            b'"client":"192.0.2.1","helo":"mx","protocol":"ESMTP","reverse_path":"","recipients":["a@b.c","d@e.f"],'
            b'"size":5,"reason":"accepted","account":"","tls":""}\n',
        )

    def test_numbers(self) -> None:
        """Seconds are written to the microsecond and no further."""
        self.log.observe(events.RecipientDelayed("q", "r", "d", "h", "4.0.0", "x", "w", 3, 1769860800.1234567))
        self.log.observe(events.MailFinished("q", 0.0036423206329345703))
        self.log.flush()
        self.assertEqual([line.get("due") for line in self.disk.lines], [1769860800.123457, None])
        self.assertIn(b'"seconds":0.003642}', self.disk.octets)

    def test_time_moves(self) -> None:
        """The second's part of the time stamp follows the clock."""
        self.log.observe(HELD)
        self.clock.rightNow = 1769860801.0
        self.log.observe(HELD)
        self.log.flush()
        self.assertEqual(
            [line["time"] for line in self.disk.lines], ["2026-01-31T12:00:00.123Z", "2026-01-31T12:00:01.000Z"]
        )

    def test_every_event(self) -> None:
        """Each event of the closed list becomes one line that JSON reads back."""
        kinds = events.Event.__args__
        for kind in kinds:
            self.log.observe(kind(*["x" for _ in kind._fields]))
        self.log.flush()
        self.assertEqual([line["event"] for line in self.disk.lines], [event_name(kind) for kind in kinds])
        self.assertIn("recipient-delayed", {line["event"] for line in self.disk.lines})

    @given(st.text(), st.text())
    def test_any_text(self, first: str, second: str) -> None:
        """Whatever text an event holds, it stays one line of printable ASCII and comes back unchanged."""
        disk = Disk()
        log = EventLog(disk.write, Clock())
        log.observe(events.MailRefused("s", first, second, (first, second), 1, "policy", first))
        log.flush()
        self.assertEqual(disk.octets.count(b"\n"), 1)
        self.assertTrue(all(32 <= octet < 127 for octet in disk.octets[:-1]))
        (line,) = disk.lines
        self.assertEqual((line["client"], line["recipients"]), (first, [first, second]))

    def test_forged_line(self) -> None:
        """CR, LF, escapes, direction marks and DEL in a HELO name begin no second line and reach no terminal."""
        self.log.observe(events.SettingsRefused("p", 'x\r\n{"event":"forged"}\x1b[2J\u202e\u2028\x7f\x85'))
        self.log.flush()
        self.assertEqual(len(self.disk.octets.splitlines()), 1)
        for octet in (b"\r", b"\x1b", b"\x7f", b"\x85", b"\xe2"):
            self.assertNotIn(octet, self.disk.octets)


class WritingTest(SynchronousTestCase):
    """When lines are written, and what happens when they cannot be."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = Disk()
        self.log = EventLog(self.disk.write, self.clock)
        self._heard = self.enterContext(capturedLogs())

    @property
    def said(self) -> list[str]:
        ours = [event for event in self._heard if event.get("log_namespace") == "twisted_mail_node.eventlog"]
        return [str(event["log_format"]) for event in ours]

    def test_batch(self) -> None:
        """Events of one moment are one write, a tenth of a second after the first."""
        for _ in range(10):
            self.log.observe(HELD)
        self.clock.advance(0.099)
        self.assertEqual(self.disk.writes, 0)
        self.clock.advance(0.001)
        self.assertEqual((self.disk.writes, len(self.disk.lines)), (1, 10))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_much(self) -> None:
        """A few hundred events are written at once."""
        while not self.disk.writes:
            self.log.observe(HELD)
        self.assertEqual(len(self.disk.lines), eventlog.FLUSH_EVENTS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pieces(self) -> None:
        """A destination that takes a few octets at a time gets them all in order."""
        self.disk.at_once = 7
        self.log.observe(HELD)
        self.log.observe(HELD)
        self.log.flush()
        self.assertEqual(len(self.disk.lines), 2)

    def test_full_disk(self) -> None:
        """A full disk is said once; when there is room again nothing is missing and no line is torn."""
        self.disk.full = True
        for _ in range(5):
            self.log.observe(HELD)
            self.clock.advance(1)
        self.clock.advance(60)
        self.assertEqual(len(self.said), 1)
        self.disk.full = False
        self.clock.advance(eventlog.RETRY_AFTER)
        self.assertEqual(len(self.disk.lines), 5)
        self.assertEqual(len(self.said), 1)

    def test_bounded(self) -> None:
        """What does not fit into the memory for waiting lines is counted, and the count is said later."""
        self.disk.full = True
        line = events.SettingsRefused("p", "x" * 100_000)
        for _ in range(60):
            self.log.observe(line)
        self.clock.advance(eventlog.FLUSH_AFTER)
        self.assertGreater(self.log.lost, 10)
        self.disk.full = False
        self.clock.advance(eventlog.RETRY_AFTER)
        self.assertEqual(len(self.disk.lines), 60 - 19)
        self.assertEqual(self.log.lost, 0)
        self.assertIn("lines are missing", self.said[-1])

    def test_not_now(self) -> None:
        """A destination that takes nothing now is asked again soon, without a word."""
        self.disk.at_once = 0
        self.log.observe(HELD)
        self.clock.advance(0.1)
        self.disk.at_once = 1000
        self.clock.advance(0.1)
        self.assertEqual((len(self.disk.lines), self.said), (1, []))

    def test_close(self) -> None:
        """Closing writes what waits, closes the destination once, and leaves no timer."""
        closed: list[bool] = []
        log = EventLog(self.disk.write, self.clock, close=lambda: closed.append(True))
        log.observe(HELD)
        log.close()
        log.close()
        log.observe(HELD)
        self.assertEqual((len(self.disk.lines), closed, self.clock.getDelayedCalls()), (1, [True], []))

    def test_close_on_full_disk(self) -> None:
        """Closing while the disk is full ends, and says what is missing."""
        self.disk.full = True
        self.log.observe(HELD)
        self.log.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIn("could not be written", self.said[-1])


class FilesTest(SynchronousTestCase):
    """The file, and a pipe in its place."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = Path(place.name)
        self.clock = Clock()

    def test_append(self) -> None:
        """The file is made with its directory, nobody else may read it, and a later start goes on at its end."""
        for _ in range(2):
            log = open_event_log("log/mail.jsonl", self.directory, self.clock)
            log.observe(HELD)
            log.close()
        path = self.directory / "log/mail.jsonl"
        self.assertEqual(path.read_bytes().count(b"\n"), 2)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o137, 0)

    def test_rotation(self) -> None:
        """After a rename, lines gathered before ``reopen`` are in the old file and later ones in the new."""
        log = open_event_log("mail.jsonl", self.directory, self.clock)
        path, old = self.directory / "mail.jsonl", self.directory / "mail.jsonl.1"
        log.observe(HELD)
        path.rename(old)
        log.reopen()
        log.observe(HELD)
        log.observe(HELD)
        log.close()
        self.assertEqual((old.read_bytes().count(b"\n"), path.read_bytes().count(b"\n")), (1, 2))

    def test_reopen_fails(self) -> None:
        """When the new file cannot be opened the old one stays in use."""
        path = self.directory / "mail.jsonl"
        file = LogFile(path)

        def reopen() -> None:
            raise OSError(errno.EACCES, "Permission denied")

        log = EventLog(file.write, self.clock, reopen=reopen, close=file.close)
        log.reopen()
        log.observe(HELD)
        log.close()
        self.assertEqual(path.read_bytes().count(b"\n"), 1)

    def test_sleeping_reader(self) -> None:
        """A pipe that nobody reads never blocks; once it is read every line comes."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        log = EventLog(Stream(writing).write, self.clock)
        for _ in range(2000):
            log.observe(HELD)
        log.flush()
        got = b""
        for _ in range(100):
            got += os.read(reading, 1 << 20)
            if got.count(b"\n") == 2000:
                break
            self.clock.advance(eventlog.FLUSH_AFTER)
        self.assertEqual(got.count(b"\n"), 2000)
        log.close()
