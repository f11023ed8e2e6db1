"""Tests of the agent that delivers into Maildirs."""

from __future__ import annotations

import errno
import mailbox
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.delivery.test_quota import Threads
from twisted_mail_node.delivery import frames, maildir
from twisted_mail_node.delivery.frames import (
    BROKEN,
    DELIVERED,
    FAILED,
    Frames,
    Job,
    Target,
    Written,
    decode_job,
    encode_result,
)
from twisted_mail_node.delivery.maildir import CLOSE_WAIT, DIED, DONE, INTERNAL, KILL_WAIT, LATE, RESTART, MaildirStore
from twisted_mail_node.interfaces import IContent, IDeliveryAgent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Body, Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.content import RowContent

CONTENT = b"From: ann@elsewhere.test\r\nSubject: x\r\n\r\nOne\r\n..\r\n"
HEADER = b"Received: by us\r\n"
#: Seconds an attempt may last in these tests.
DEADLINE = 60.0
#: Seconds the test with a real process may last.
PATIENCE = 60
OK = Written(DELIVERED)


@implementer(IContent)
class Content:
    """Content in memory, or in a file."""

    def __init__(self, octets: bytes, path: Path | None = None) -> None:
        self.size = len(octets)
        self.octets: bytes | None = octets if path is None else None
        self.path = path
        self.eight_bit = False

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        """See IContent."""
        raise AssertionError("read in the reactor's process")


def request_for(content: Any, *names: str, body: Body = "7BIT", reverse_path: Address | None = None) -> DeliveryRequest:
    """A request for recipients at local.test."""
    recipients = tuple(Recipient(Address(name, "local.test"), Address(name, "local.test")) for name in names)
    envelope = Envelope(reverse_path, recipients, body=body)
    return DeliveryRequest("Q1", envelope, recipients, HEADER, content, "local.test", DEADLINE)


class Process:
    """Stands for a process: remembers what it was told."""

    def __init__(self, protocol: Any, command: list[str], fds: dict[int, Any]) -> None:
        self.protocol = protocol
        self.command = command
        self.fds = fds
        self.octets = b""
        self.stdin = self.stdout = True
        self.signals: list[str] = []
        self.exited = False
        protocol.makeConnection(self)

    def write(self, octets: bytes) -> None:
        """See IProcessTransport: without a standard input it is lost silently."""
        if self.stdin:
            self.octets += octets

    def writeSequence(self, pieces: Sequence[bytes]) -> None:
        """See IProcessTransport."""
        self.write(b"".join(pieces))

    def closeStdin(self) -> None:
        """See IProcessTransport."""
        self.stdin = False

    def closeStdout(self) -> None:
        """See IProcessTransport."""
        self.stdout = False

    def signalProcess(self, signal: str) -> None:
        """See IProcessTransport."""
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(signal)

    # ---- what the test lets it do ----------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """What it was asked to write."""
        return [decode_job(frame) for frame in Frames().feed(self.octets) if frame]

    def said_goodbye(self) -> bool:
        """Whether it was told to end."""
        return Frames().feed(self.octets)[-1:] == [b""]

    def tell(self, *results: tuple[int, list[Written]]) -> None:
        """Let it tell results."""
        self.protocol.childDataReceived(1, b"".join(encode_result(*result) for result in results))

    def end(self, signal: int | None = None) -> None:
        """Let it end: in order, or by a signal."""
        reason = ProcessDone(0) if signal is None else ProcessTerminated(None, signal, signal)
        self.protocol.processEnded(Failure(reason))


class Reactor(Threads):
    """A clock, a thread pool, and processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.started: list[float] = []
        self.refuse = False

    def spawnProcess(
        self, protocol: Any, executable: str, args: list[str], env: dict[str, str] | None, childFDs: dict[int, Any]
    ) -> Process:
        """See IReactorProcess."""
        self.started.append(self.seconds())
        if self.refuse:
            raise OSError(errno.EAGAIN, "no more processes")
        self.processes.append(Process(protocol, args, childFDs))
        return self.processes[-1]


class MaildirStoreCase(SynchronousTestCase):
    """What the tests of the store have in common."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.reactor.advance(1000.0)
        self.usage: list[tuple[str, int]] = []
        self.store = MaildirStore(
            path_of=lambda address: None if address.local_part == "nobody" else Path("/mail", address.local_part),
            reactor=self.reactor,
            hostname="mx.test",
            delivered=lambda address, octets: self.usage.append((address.local_part, octets)),
        )
        logs = capturedLogs()
        self.events = logs.__enter__()
        self.addCleanup(logs.__exit__, None, None, None)

    def deliver(self, *names: str, content: Any = None) -> Deferred[Sequence[DeliveryStatus]]:
        """Begin a delivery."""
        request = request_for(Content(CONTENT) if content is None else content, *(names or ("joe",)))
        return Deferred.fromCoroutine(self.store.deliver(request))

    @property
    def process(self) -> Process:
        """The last process."""
        return self.reactor.processes[-1]

    def logged(self) -> list[str]:
        """What was logged for people."""
        return [formatEvent(event) for event in self.events if event["log_level"] >= LogLevel.warn]


class DeliverTests(MaildirStoreCase):
    """deliver."""

    def test_interface(self) -> None:
        """It is a delivery agent."""
        self.assertTrue(verifyObject(IDeliveryAgent, self.store))

    def test_job(self) -> None:
        """The process is told where to write, what stands before the content in each mailbox, and the content."""
        request = request_for(Content(CONTENT), "joe", "ann", body="BINARYMIME", reverse_path=Address("x", "y.test"))
        done = Deferred.fromCoroutine(self.store.deliver(request))
        self.assertNoResult(done)
        heads = [
            b"Return-Path: <x@y.test>\nDelivered-To: %s@local.test\nReceived: by us\n" % name
            for name in (b"joe", b"ann")
        ]
        targets = (Target("/mail/joe", heads[0]), Target("/mail/ann", heads[1]))
        self.assertEqual(self.process.jobs(), [Job(1, targets, CONTENT, binary=True)])
        self.assertEqual(self.process.command[-2:], ["mx.test", "auto"])
        self.assertEqual(self.process.fds, {0: "w", 1: "r", 2: "r"})

    def test_file(self) -> None:
        """Content in a file is not read here: the process is told which file."""
        self.deliver(content=Content(CONTENT, Path("/spool/content/Q1")))
        [job] = self.process.jobs()
        self.assertEqual((job.content, job.file, job.size), (None, "/spool/content/Q1", len(CONTENT)))

    def test_row(self) -> None:
        """Content in the spool's database is read in a thread; when it cannot be read, the mail is delayed."""
        done = self.deliver(content=RowContent(lambda: CONTENT, len(CONTENT), False))
        self.assertEqual(self.reactor.processes, [])
        self.assertEqual(self.reactor.run_all(), 1)
        self.assertEqual(self.process.jobs()[0].content, CONTENT)
        self.process.tell((1, [OK]))
        self.assertEqual(self.successResultOf(done), [DONE])
        done = self.deliver("joe", "ann", content=RowContent(lambda: None, 5, False))
        self.reactor.run_all()
        self.assertEqual([status.action for status in self.successResultOf(done)], [Action.DELAYED] * 2)
        self.assertEqual(len(self.process.jobs()), 1)

    def test_row_late(self) -> None:
        """Reading the spool has the attempt's deadline."""
        done = self.deliver(content=RowContent(lambda: CONTENT, len(CONTENT), False))
        self.reactor.advance(DEADLINE)
        self.assertEqual(self.successResultOf(done), [LATE])
        self.reactor.run_all()
        self.assertEqual(self.reactor.processes, [])

    def test_delivered(self) -> None:
        """A mail that is told to be durable is delivered; quota hears of it, of each mailbox."""
        done = self.deliver("joe", "ann")
        self.assertEqual(self.usage, [])
        self.process.tell((1, [OK, OK]))
        self.assertEqual(self.successResultOf(done), [DONE, DONE])
        size = len(HEADER) + len(CONTENT)
        self.assertEqual(self.usage, [("joe", size), ("ann", size)])

    def test_unknown(self) -> None:
        """Who has no mailbox fails for good; the others keep their places."""
        done = self.deliver("nobody", "joe", "nobody", "ann")
        self.assertEqual([target.path for target in self.process.jobs()[0].targets], ["/mail/joe", "/mail/ann"])
        self.process.tell((1, [Written(FAILED, errno.EIO), OK]))
        found = [(status.action, status.status, status.reason) for status in self.successResultOf(done)]
        unknown = (Action.FAILED, "5.1.1", Reason.UNKNOWN_RECIPIENT)
        self.assertEqual(found[::2], [unknown, unknown])
        self.assertEqual(found[1], (Action.DELAYED, "4.3.0", Reason.STORE_FAILED))
        self.assertEqual(found[3][0], Action.DELIVERED)
        self.assertEqual([name for name, _ in self.usage], ["ann"])

    def test_window(self) -> None:
        """What is more than the process should have before it waits here, in order, and goes out at goodbye at once."""
        self.patch(maildir, "WINDOW", 100)
        done = [self.deliver(), self.deliver(), self.deliver(), self.deliver()]
        self.assertEqual([job.number for job in self.process.jobs()], [1])
        done[1].addErrback(lambda _: None).cancel()
        self.process.tell((1, [OK]))
        self.assertEqual(self.successResultOf(done[0]), [DONE])
        self.assertEqual([job.number for job in self.process.jobs()], [1, 3])
        self.store.close()
        self.assertEqual([job.number for job in self.process.jobs()], [1, 3, 4])
        self.assertTrue(self.process.said_goodbye())

    def test_window_after_death(self) -> None:
        """A new process begins with nothing before it."""
        self.patch(maildir, "WINDOW", 100)
        done = [self.deliver(), self.deliver()]
        self.process.end(9)
        self.assertEqual([self.successResultOf(one) for one in done], [[DIED], [DIED]])
        self.reactor.advance(RESTART)
        self.deliver()
        self.assertEqual(len(self.process.jobs()), 1)

    def test_all_unknown(self) -> None:
        """When nobody has a mailbox the process is not asked."""
        statuses = self.successResultOf(self.deliver("nobody", "nobody"))
        self.assertEqual([status.action for status in statuses], [Action.FAILED] * 2)
        self.assertEqual(self.reactor.processes, [])

    def test_errors(self) -> None:
        """A full disk or quota is 4.3.1, a mailbox we may not write 4.2.0, everything else 4.3.0: always a delay, and
        its words name no path."""
        for number, status, reason in (
            (errno.ENOSPC, "4.3.1", Reason.DISK_FULL),
            (errno.EDQUOT, "4.3.1", Reason.DISK_FULL),
            (errno.EACCES, "4.2.0", Reason.STORE_FAILED),
            (errno.ELOOP, "4.2.0", Reason.STORE_FAILED),
            (errno.EIO, "4.3.0", Reason.STORE_FAILED),
            (errno.EMFILE, "4.3.0", Reason.STORE_FAILED),
            (0, "4.3.0", Reason.STORE_FAILED),
        ):
            done = self.deliver()
            self.process.tell((self.process.jobs()[-1].number, [Written(FAILED, number)]))
            [found] = self.successResultOf(done)
            self.assertEqual((found.action, found.status, found.reason), (Action.DELAYED, status, reason))
            self.assertNotIn("/mail", found.words)
            self.assertIn(os.strerror(number) if number else "I/O error", found.words)

    def test_broken(self) -> None:
        """What broke there is a delay, whatever its number says; so is a kind of result nobody knows."""
        for written in (Written(BROKEN), Written(BROKEN, 1), Written(BROKEN, 2)):
            done = self.deliver()
            self.process.tell((self.process.jobs()[-1].number, [written]))
            self.assertEqual(self.successResultOf(done), [INTERNAL])
        done = self.deliver()
        self.process.tell((self.process.jobs()[-1].number, [Written(99)]))
        self.assertIs(self.successResultOf(done)[0].action, Action.DELAYED)

    def test_wrong_count(self) -> None:
        """A result for another number of mailboxes than were asked for proves nothing."""
        for written in ([], [OK], [OK] * 3):
            done = self.deliver("joe", "ann")
            self.process.tell((self.process.jobs()[-1].number, written))
            self.assertEqual(self.successResultOf(done), [INTERNAL] * 2)
        self.assertEqual(self.usage, [])

    def test_in_pieces(self) -> None:
        """Results come in any order and cut anywhere; those nobody waits for are passed over."""
        done = [self.deliver() for _ in range(3)]
        octets = b"".join(encode_result(number, [OK]) for number in (3, 99, 1, 2, 2))
        for octet in octets:
            self.process.protocol.childDataReceived(1, bytes([octet]))
        for one in done:
            self.assertEqual(self.successResultOf(one), [DONE])

    def test_too_large(self) -> None:
        """A mail that is too large for a frame is delayed, and the process hears nothing of it."""
        self.deliver()
        before = self.process.octets
        self.patch(frames, "FRAME_MAX", len(CONTENT))
        done = self.deliver("joe", "nobody", "ann")
        self.assertEqual(self.successResultOf(done), [INTERNAL] * 3)
        self.assertEqual(self.process.octets, before)
        self.assertIn("Q1 cannot be written", self.logged()[0])
        self.assertEqual(len(self.store._waiting), 1)

    def test_given_up(self) -> None:
        """A caller may give up; what the process tells of it later is passed over."""
        done = self.deliver()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.process.tell((1, [OK]))
        self.assertEqual(self.usage, [])


class ProcessTests(MaildirStoreCase):
    """The process, and what goes wrong with it."""

    def test_start(self) -> None:
        """It may be started before the first mail, and is started once."""
        self.store.start()
        self.deliver()
        self.reactor.advance(2 * RESTART)
        self.store.start()
        self.assertEqual(len(self.reactor.processes), 1)

    def test_deadline(self) -> None:
        """A mail that is not written in time is delayed; the process hangs and is killed, with all it holds."""
        late = self.deliver("joe", "ann")
        self.reactor.advance(DEADLINE / 2)
        in_pipe, held = self.deliver(), self.deliver()
        self.reactor.pump([1.0] * int(DEADLINE / 2 - 1))
        self.assertNoResult(late)
        self.assertEqual(self.process.signals, [])
        self.reactor.advance(1.0)
        self.assertEqual(self.successResultOf(late), [LATE] * 2)
        self.assertEqual(self.process.signals, ["KILL"])
        self.process.tell((1, [OK, OK]), (2, [OK]))
        self.assertEqual(self.successResultOf(in_pipe), [DONE])
        self.assertNoResult(held)
        self.process.end(9)
        self.assertEqual(self.successResultOf(held), [DIED])
        self.assertEqual([name for name, _ in self.usage], ["joe"])
        self.reactor.advance(1.0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cannot_be_killed(self) -> None:
        """While a killed process has not ended there is no other, and what comes is delayed at once; what it held is
        late in its turn."""
        self.deliver()
        self.reactor.advance(DEADLINE - 1.0)
        held = self.deliver()
        self.reactor.advance(1.0)
        self.assertEqual(self.successResultOf(self.deliver()), [DIED])
        self.reactor.pump([1.0] * int(DEADLINE))
        self.assertEqual(self.successResultOf(held), [LATE])
        self.assertEqual(len(self.reactor.processes), 1)
        self.process.end(9)
        self.assertNoResult(self.deliver())
        self.assertEqual(len(self.reactor.processes), 2)

    def test_deadline_gives_up_others(self) -> None:
        """A caller that gives up another delivery when its own is late does no harm."""
        first, second, third = [self.deliver() for _ in range(3)]
        first.addCallback(lambda _: second.cancel())
        self.reactor.advance(DEADLINE)
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.successResultOf(third), [LATE])

    def test_death(self) -> None:
        """When the process dies all it had is delayed, and the next mail starts another."""
        done = [self.deliver("joe", "ann") for _ in range(3)]
        self.process.tell((2, [OK, OK]))
        self.process.end(11)
        self.assertEqual([self.successResultOf(one) for one in done], [[DIED] * 2, [DONE] * 2, [DIED] * 2])
        self.assertIn("has ended", self.logged()[0])
        self.reactor.advance(RESTART)
        again = self.deliver()
        self.assertEqual(len(self.reactor.processes), 2)
        self.process.tell((self.process.jobs()[0].number, [OK]))
        self.assertEqual(self.successResultOf(again), [DONE])

    def test_death_gives_up_others(self) -> None:
        """Callers that give up others, or bring new mail, while they are told of the death do no harm."""
        self.reactor.advance(RESTART)
        first, second, third = [self.deliver() for _ in range(3)]
        again: list[Deferred[Sequence[DeliveryStatus]]] = []
        first.addCallback(lambda _: second.cancel())
        first.addCallback(lambda _: again.append(self.deliver()))
        self.reactor.advance(RESTART)
        self.process.end(9)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.successResultOf(third), [DIED])
        self.assertNoResult(again[0])
        self.process.tell((self.process.jobs()[0].number, [OK]))
        self.assertEqual(self.successResultOf(again[0]), [DONE])

    def test_writing_to_the_dead(self) -> None:
        """What is brought between the death and its notice is delayed with the notice."""
        first = self.deliver()
        self.process.stdin = False
        second = self.deliver()
        self.assertNoResult(second)
        self.process.end(9)
        self.assertEqual([*self.successResultOf(first), *self.successResultOf(second)], [DIED] * 2)

    def test_dies_at_once(self) -> None:
        """A process that always dies at once is started every RESTART seconds at most; meanwhile mail is delayed."""
        for _ in range(10):
            done = self.deliver()
            if not done.called:
                self.process.end(9)
            self.assertEqual(self.successResultOf(done), [DIED])
            self.reactor.advance(RESTART / 4)
        self.assertEqual(self.reactor.started, [1000.0, 1000.0 + RESTART, 1000.0 + 2 * RESTART])

    def test_clock_set_back(self) -> None:
        """A clock that was set back does not keep it from being started."""
        self.deliver()
        self.process.end(9)
        self.reactor.rightNow -= 500.0
        self.deliver()
        self.assertEqual(len(self.reactor.processes), 2)

    def test_cannot_be_started(self) -> None:
        """Mail that comes while no process can be started is delayed, not lost; then it is tried again."""
        self.reactor.refuse = True
        self.store.start()
        self.assertEqual(self.successResultOf(self.deliver("joe", "nobody"))[0], DIED)
        self.reactor.advance(RESTART)
        self.assertEqual(self.successResultOf(self.deliver()), [DIED])
        self.assertEqual(len(self.reactor.started), 2)
        self.assertIn("cannot be started", self.logged()[0])
        self.reactor.refuse = False
        self.reactor.advance(RESTART)
        done = self.deliver()
        self.process.tell((self.process.jobs()[0].number, [OK]))
        self.assertEqual(self.successResultOf(done), [DONE])
        self.reactor.advance(1.0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nonsense(self) -> None:
        """A process that talks nonsense is killed and not listened to any more; all it had is delayed."""
        for nonsense in (b"\xff\xff\xff\xff", b"\0\0\0\1x", b"\0\0\0\0", encode_result(1, [OK])[:-1] + b"\0\0\0\0\0\0"):
            done = self.deliver()
            self.process.protocol.childDataReceived(1, nonsense)
            self.assertFalse(self.process.stdout)
            self.assertEqual(self.process.signals, ["KILL"])
            self.process.end(9)
            self.assertIn(self.successResultOf(done)[0].action, (Action.DELAYED, Action.DELIVERED))
            self.reactor.advance(RESTART)

    def test_nonsense_of_the_dead(self) -> None:
        """It may have ended before it is killed."""
        done = self.deliver()
        self.process.exited = True
        self.process.protocol.childDataReceived(1, b"\xff\xff\xff\xff")
        self.process.end(9)
        self.assertEqual(self.successResultOf(done), [DIED])

    def test_says(self) -> None:
        """What it says for people is logged line by line, the last one also without its end; none is endless."""
        self.store.start()
        for octets in (b"one\ntw", b"o\n", b"x" * 5000, b"x\n", b"\xff {not} a field"):
            self.process.protocol.childDataReceived(2, octets)
        self.process.end(9)
        said = [line.removeprefix("writing mail: ") for line in self.logged() if line.startswith("writing mail: ")]
        self.assertEqual(said, ["one", "two", "x" * maildir.LINE_MAX, "\ufffd {not} a field"])


class CloseTests(MaildirStoreCase):
    """close."""

    def test_close(self) -> None:
        """The process is told goodbye, writes what it has, and is waited for."""
        done = [self.deliver() for _ in range(3)]
        closed = self.store.close()
        self.assertTrue(self.process.said_goodbye())
        self.assertFalse(self.process.stdin)
        self.process.tell(*[(number, [OK]) for number in (1, 2, 3)])
        self.assertEqual([self.successResultOf(one) for one in done], [[DONE]] * 3)
        self.assertNoResult(closed)
        self.process.end()
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual((self.process.signals, self.logged()), ([], []))

    def test_twice(self) -> None:
        """Closing again waits for the same end."""
        self.store.start()
        closed = self.store.close()
        self.assertIs(self.store.close(), closed)
        self.process.end()
        self.successResultOf(self.store.close())
        self.assertTrue(self.process.said_goodbye())

    def test_unused(self) -> None:
        """A store without a process is closed at once, and none is started any more."""
        self.successResultOf(self.store.close())
        self.store.start()
        self.assertEqual(self.reactor.processes, [])

    def test_deliver_afterwards(self) -> None:
        """What comes afterwards is delayed; so is what was being read from the spool."""
        self.store.start()
        reading = self.deliver(content=RowContent(lambda: CONTENT, len(CONTENT), False))
        self.store.close()
        self.reactor.run_all()
        for done in (reading, self.deliver("joe", "ann")):
            for status in self.successResultOf(done):
                self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.SHUTTING_DOWN))
        self.assertEqual(self.process.jobs(), [])

    def test_dies(self) -> None:
        """When the process dies before it has written all, the rest is delayed, and it is closed."""
        done = self.deliver()
        closed = self.store.close()
        self.process.end(9)
        self.assertEqual(self.successResultOf(done), [DIED])
        self.successResultOf(closed)
        self.assertEqual(len(self.logged()), 1)

    def test_hangs(self) -> None:
        """A process that does not end is killed after CLOSE_WAIT seconds."""
        done = self.deliver()
        closed = self.store.close()
        self.reactor.advance(CLOSE_WAIT - 1.0)
        self.assertEqual(self.process.signals, [])
        self.reactor.advance(1.0)
        self.assertEqual(self.process.signals, ["KILL"])
        self.assertNoResult(closed)
        self.process.end(9)
        self.assertEqual(self.successResultOf(done), [DIED])
        self.successResultOf(closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_hangs_for_ever(self) -> None:
        """One that not even a kill ends is left alone after KILL_WAIT more seconds; its end is nobody's wish then."""
        done = self.deliver()
        closed = self.store.close()
        self.reactor.pump([CLOSE_WAIT, KILL_WAIT])
        self.assertEqual(self.successResultOf(done), [DIED])
        self.successResultOf(closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.process.end(9)

    def test_killed_before(self) -> None:
        """One that was killed already has KILL_WAIT seconds."""
        self.deliver()
        self.reactor.advance(DEADLINE)
        closed = self.store.close()
        self.reactor.advance(KILL_WAIT / 2)
        self.assertNoResult(closed)
        self.process.end(9)
        self.successResultOf(closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class RealProcessTests(TestCase):
    """The real process."""

    timeout = PATIENCE

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.root = Path(self.mktemp()).absolute()
        self.store = MaildirStore(
            path_of=lambda address: self.root / address.local_part, reactor=reactor, hostname="mx.test"
        )
        self.addCleanup(self.store.close)

    def deliver(self, content: Any, *names: str, quarantine: str = "") -> Deferred[Sequence[DeliveryStatus]]:
        """Begin a delivery."""
        request = request_for(content, *names)
        request = request._replace(envelope=replace(request.envelope, quarantine=quarantine))
        return Deferred.fromCoroutine(self.store.deliver(request))

    async def test_junk_folder(self) -> None:
        """Mail in quarantine goes to the folder that the settings name, and to the inbox where they name none."""
        await self.deliver(Content(CONTENT), "joe", quarantine="dmarc")
        self.store.junk_folder = "Junk"
        await self.deliver(Content(CONTENT), "joe", "ann", quarantine="dmarc")
        await self.deliver(Content(CONTENT), "joe")
        found = {
            path: len(list((self.root / path).iterdir())) for path in ("joe/new", "joe/.Junk/new", "ann/.Junk/new")
        }
        self.assertEqual(found, {"joe/new": 2, "joe/.Junk/new": 1, "ann/.Junk/new": 1})

    async def test_life(self) -> None:
        """Mails, one in memory and one in a file, lie in real Maildirs; an error comes back with its errno; close ends
        the process, and nothing of it is left."""
        self.root.mkdir()
        (self.root / "bad").symlink_to("/tmp")
        in_file = self.root / "content"
        in_file.write_bytes(CONTENT * 9000)
        first = self.deliver(Content(CONTENT), "joe", "bad")
        second = self.deliver(Content(CONTENT * 9000, in_file), "joe")
        third = self.deliver(Content(CONTENT * 5000), "ann")
        pid = self.store._process.pid
        statuses = [*await first, *await second, *await third]
        self.assertEqual(
            [status.action for status in statuses],
            [Action.DELIVERED, Action.DELAYED, Action.DELIVERED, Action.DELIVERED],
        )
        self.assertEqual(statuses[1].status, "4.2.0")
        found = mailbox.Maildir(self.root / "joe", create=False)
        self.assertEqual([message["Delivered-To"] for message in found], ["joe@local.test"] * 2)
        self.assertEqual([message["Subject"] for message in mailbox.Maildir(self.root / "ann")], ["x"])
        await self.store.close()
        self.assertRaises(ChildProcessError, os.waitpid, pid, os.WNOHANG)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    async def test_goodbye_writes_all(self) -> None:
        """What was brought before close is written, also what filled the pipe."""
        waiting = [self.deliver(Content(CONTENT * 2000), "joe") for _ in range(40)]
        await self.store.close()
        self.assertEqual({status for one in waiting for status in await one}, {DONE})
        self.assertEqual(len(os.listdir(self.root / "joe" / "new")), 40)

    async def test_killed(self) -> None:
        """When the process is killed its mails are delayed; the next one is written by another process."""
        self.patch(maildir, "RESTART", 0.0)
        self.store.start()
        self.store._process.signalProcess("STOP")
        waiting = [self.deliver(Content(CONTENT * 2000), "joe") for _ in range(40)]
        self.store._process.signalProcess("KILL")
        self.assertEqual({status for one in waiting for status in await one}, {DIED})
        self.assertEqual(await self.deliver(Content(CONTENT), "joe"), [DONE])

    async def test_end_of_the_node(self) -> None:
        """When the pipe ends without a goodbye, as when the node is killed, the process ends."""
        self.assertEqual(await self.deliver(Content(CONTENT), "joe"), [DONE])
        ended: Deferred[BaseException] = Deferred()
        self.patch(self.store, "process_ended", lambda reason: ended.callback(reason.value))
        process, self.store._process = self.store._process, None
        process.closeStdin()
        self.assertIsInstance(await ended, ProcessDone)
