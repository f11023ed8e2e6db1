"""The spool as the queue and the receiver use it: kept across restarts, full disks and damaged files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.defer import gatherResults
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.inbound.receiving import Peer, TestReceiver
from tests.spool.material import (
    HEADER,
    LARGE,
    LATER,
    NOW,
    SpoolCase,
    envelope,
    keep,
    reactor,
    started,
    until,
    whole,
)
from twisted_mail_node.events import Event, RecipientDelayed
from twisted_mail_node.interfaces import IDeliveryAgent, IIncoming, IMailQueue, IRouter, ISpool
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.queue import OutgoingQueue
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import Route
from twisted_mail_node.settings import QueueSettings
from twisted_mail_node.spool.mail import Change, Mail, SpoolError, State
from twisted_mail_node.spool.spool import Spool
from twisted_mail_node.threads import in_thread


def change(mail: Mail, state: State, place: int = 0, due: float = 0.0) -> list[Change]:
    """What became of one recipient."""
    return [Change(mail.queue_id, place, state, due, 1, "example.net", LATER)]


class SpoolTests(SpoolCase):
    def test_interfaces(self) -> None:
        """It is an ISpool, and what it begins an IIncoming."""
        verifyObject(ISpool, self.spool)
        verifyObject(IIncoming, self.spool.begin())

    async def test_held_back(self) -> None:
        """A mail that its sender holds back is kept as delayed until then, also across restarts (RFC 4865)."""
        until = NOW + 3600
        incoming = self.spool.begin()
        await incoming.write(b"x")
        mail = await incoming.commit(replace(envelope(2), release_at=until), HEADER)
        self.assertEqual([(entry.state, entry.due) for entry in mail.entries], [(State.DELAYED, until)] * 2)
        for _ in range(2):
            self.assertEqual(await self.spool.next_due(), until)
            self.assertEqual(await self.spool.take_due(until - 0.1, 10), [])
            self.reopen()
        (due,) = await self.spool.take_due(until, 10)
        self.assertEqual(len(due.entries), 2)
        self.assertEqual(due.envelope, mail.envelope)

    async def test_held_back_and_held(self) -> None:
        """What a policy holds waits for the operator first; a time that has passed holds nothing back."""
        for release_at, hold, state in ((NOW + 9, True, State.HELD), (NOW - 9, False, State.ACTIVE)):
            incoming = self.spool.begin()
            if hold:
                incoming.hold("odd")
            mail = await incoming.commit(replace(envelope(), release_at=release_at), HEADER)
            self.assertEqual(mail.entries[0].state, state)
        self.assertEqual(await self.states(), [[State.HELD], [State.ACTIVE]])

    async def test_priority(self) -> None:
        """Mails of higher priority are handed out first, also after a crash left them all active."""
        ids: dict[int, str] = {}
        for priority in (-5, 0, 5):
            mail = await self.spool.begin().commit(replace(envelope(), priority=priority), HEADER)
            ids[priority] = mail.queue_id
        self.reopen()
        due = await self.spool.take_due(NOW, 10)
        self.assertEqual([mail.queue_id for mail in due], [ids[5], ids[0], ids[-5]])
        self.assertEqual([mail.envelope.priority for mail in due], [5, 0, -5])

    async def test_life(self) -> None:
        """A mail is kept, waits, is due, is finished for one recipient after the other, and leaves."""
        mail = await keep(self.spool, b"x", 2)
        self.assertIsNone(await self.spool.next_due())
        await self.spool.record(change(mail, State.DELAYED, 0, NOW + 60))
        await self.spool.record(change(mail, State.FINISHED, 1))
        self.assertEqual(await self.spool.next_due(), NOW + 60)
        self.assertEqual(await self.spool.take_due(NOW + 59, 10), [])
        (due,) = await self.spool.take_due(NOW + 60, 10)
        self.assertEqual((due.queue_id, [entry.number for entry in due.entries]), (mail.queue_id, [0]))
        self.assertEqual(await self.states(), [[State.ACTIVE, State.FINISHED]])
        await self.spool.record(change(mail, State.FINISHED, 0))
        self.assertEqual(await self.all(), [])

    async def test_operator(self) -> None:
        """Holding, releasing, removing and counting are answered with what was found."""
        one, two = await keep(self.spool), await keep(self.spool, b"x" * LARGE)
        for mail in (one, two):
            await self.spool.record(change(mail, State.DELAYED, 0, NOW + 60))
        self.assertEqual(await self.spool.hold([one.queue_id, "ffff"]), [one.queue_id])
        self.assertEqual((await self.spool.count())["held"], 1)
        self.assertEqual(await self.spool.release([one.queue_id], NOW), [one.queue_id])
        self.assertEqual(len(await self.spool.take_due(NOW, 10)), 1)
        self.assertEqual(await self.spool.remove([two.queue_id]), [two.queue_id])
        self.assertEqual(self.files, [])
        self.assertEqual((await self.spool.count())["mails"], 1)

    async def test_many_at_once(self) -> None:
        """A thousand mails that come at once share commits, and all are kept."""
        self.steps.clear()
        mails = await gatherResults([started(keep(self.spool, b"%d" % number)) for number in range(1000)])
        self.assertLess(self.steps.count("committed"), 200)
        found = await self.all(limit=2000)
        self.assertEqual({mail.queue_id: whole(mail) for mail in found}, {mail.queue_id: whole(mail) for mail in mails})

    async def test_closing(self) -> None:
        """Closing writes what waits; afterwards a mail is refused, not promised, and readers are told."""
        waiting = [started(keep(self.spool)) for _ in range(50)]
        self.close(self.spool)
        await gatherResults(waiting)
        await self.assertFailure(started(keep(self.spool)), SpoolError)
        for awaited in (self.all(), self.spool.next_due(), self.spool.count(), self.spool.hold(["1"])):
            await self.assertFailure(defer.ensureDeferred(_waited(awaited)), SpoolError)
        self.reopen()
        self.assertEqual(self.spool.recovered, 50)


class StartTests(SpoolCase):
    async def test_due_at_once(self) -> None:
        """What was active when the process ended is due at the start; what was delayed keeps its time."""
        active, delayed, held = [await keep(self.spool) for _ in range(3)]
        await self.spool.record(change(delayed, State.DELAYED, 0, NOW + 60) + change(held, State.HELD))
        self.time = NOW + 10
        self.reopen()
        self.assertEqual(self.spool.recovered, 3)
        self.assertEqual([mail.queue_id for mail in await self.spool.take_due(NOW + 10, 10)], [active.queue_id])
        self.assertEqual(await self.spool.next_due(), NOW + 60)

    async def test_ids(self) -> None:
        """After a restart no queue id of a kept mail is given again, though the clock was set back."""
        mail = await keep(self.spool, b"x" * LARGE)
        self.time = NOW - 86400
        self.reopen()
        again = await keep(self.spool, b"y" * LARGE)
        self.assertGreater(again.queue_id, mail.queue_id)
        self.assertEqual([whole(found)[:1] for found in await self.all()], [b"x", b"y"])

    async def test_damaged(self) -> None:
        """A damaged database is set aside with the content files; the node goes on with a new one (T18)."""
        mail = await keep(self.spool, b"x" * LARGE)
        self.close(self.spool)
        (self.directory / "spool.sqlite").write_bytes(b"\0" * 8192)
        self.open()
        damaged = self.spool.store.damaged
        assert damaged is not None
        self.assertEqual((damaged.path / "content" / mail.queue_id).read_bytes(), b"x" * LARGE)
        self.assertEqual((self.spool.recovered, self.files), (0, []))
        self.assertEqual(whole(await keep(self.spool, b"y" * LARGE)), b"y" * LARGE)
        self.reopen()
        self.assertIsNone(self.spool.store.damaged)
        self.assertEqual(len(await self.all()), 1)

    def test_cannot_be_opened(self) -> None:
        """A spool that cannot be opened is a SpoolError."""
        place = Path(self.mktemp())
        place.write_bytes(b"a file")
        self.assertRaises(SpoolError, Spool, place, reactor, lambda: NOW)


async def _waited(awaited: Any) -> Any:
    return await awaited


@implementer(IRouter)
class OneWay:
    """Everything goes to the one agent."""

    async def route(self, address: Address, envelope: object = None) -> Route:
        return Route("agent", "example.net")


@implementer(IDeliveryAgent)
class ReadingAgent:
    """Reads the content in a thread, as agents do."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        self.read.append(await in_thread(reactor, lambda: b"".join(request.content.blocks())))
        return [DeliveryStatus(Action.DELIVERED, "2.0.0", Reason.DELIVERED, "done")] * len(request.recipients)


class TruncatedTests(SpoolCase):
    async def test_delayed(self) -> None:
        """A mail whose content file was cut short, or is gone, is delayed and stays; when it is whole it leaves."""
        mails = [await keep(self.spool, b"x" * LARGE) for _ in range(2)]
        files = [self.directory / "content" / mail.queue_id for mail in mails]
        os.truncate(files[0], LARGE - 1)
        os.rename(files[1], self.directory / "elsewhere")
        for mail in await self.all():
            self.assertRaises(OSError, whole, mail)
        self.reopen()
        agent, events = ReadingAgent(), list[Event]()

        async def notify(mail: Mail, told: object, until: float | None = None) -> None:
            return None

        queue = OutgoingQueue(
            spool=self.spool,
            router=OneWay(),
            agents={"agent": agent},
            notify=notify,
            clock=cast("Any", _Clock(lambda: self.time)),
            publish=events.append,
            settings=QueueSettings(),
            hostname="mx.example.org",
        )
        await queue.start()
        try:
            await until(lambda: len([event for event in events if isinstance(event, RecipientDelayed)]) == 2)
            await until(lambda: queue.status()["mails"] == 0)
            self.flushLoggedErrors(OSError)
            self.assertEqual(await self.states(), [[State.DELAYED]] * 2)
            self.assertEqual(agent.read, [])
            files[0].write_bytes(b"x" * LARGE)
            os.rename(self.directory / "elsewhere", files[1])
            await queue.retry([mail.queue_id for mail in mails])
            await until(lambda: len(agent.read) == 2)
            await until(lambda: not self.files)
            self.assertEqual(await self.all(), [])
        finally:
            await queue.stop(1.0)


class _Clock:
    """The reactor's timers under a wall clock of ours."""

    def __init__(self, now: Any) -> None:
        self.seconds = now
        self.callLater = reactor.callLater


class ReplyTests(SpoolCase):
    """A full or failing disk, as a client sees it."""

    def setUp(self) -> None:
        super().setUp()
        self.receiver = TestReceiver(queue=cast("IMailQueue", self.spool))
        self.peer: Peer = self.receiver.connect()
        self.peer.say("EHLO client.example")

    async def send(self, size: int) -> str:
        """Send a mail; gives the reply to its content."""
        peer = self.peer
        self.assertIn("354", peer.say("MAIL FROM:<ann@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA"))
        for _ in range(size // 1000):
            peer.send(b"x" * 998 + b"\r\n")
        peer.send(b".\r\n")
        await until(lambda: peer.wire.value())
        return peer.said()

    async def test_taken(self) -> None:
        """With a disk that is well both kinds of content are answered 250 with the id under which they are kept."""
        for size in (1000, LARGE):
            reply = await self.send(size)
            self.assertTrue(reply.startswith("250 2.0.0 "), reply)
            (mail,) = await self.all(queue_ids=(reply.split()[-1],))
            self.assertEqual(mail.content.size, size // 1000 * 1000)

    async def test_database_full(self) -> None:
        """No room for the rows is 452 4.3.1; the session goes on, and with room again the mail is taken."""
        connection = self.spool.store.connection
        await self.send(1000)
        pages = connection.pragma("page_count")
        connection.pragma("max_page_count", pages)
        for _ in range(2):
            self.assertTrue((await self.send(100_000)).startswith("452 4.3.1 "))
        connection.pragma("max_page_count", 1_000_000)
        self.assertTrue((await self.send(100_000)).startswith("250 "))
        self.assertEqual(len(await self.all()), 2)
        self.reopen()
        self.assertEqual(len(await self.all()), 2)

    async def test_content_file(self) -> None:
        """No room for the content file is 452; a disk that fails is 451; nothing of the mail is left."""
        real = os.write
        place = str((self.directory / "content").resolve())
        for number, reply in ((28, "452 4.3.1 "), (5, "451 4.3.0 ")):

            def fails(fd: int, data: Any, number: int = number) -> int:
                if os.readlink(f"/proc/self/fd/{fd}").startswith(place):
                    raise OSError(number, os.strerror(number))
                return real(fd, data)

            self.patch(os, "write", fails)
            said = await self.send(LARGE)
            self.assertTrue(said.startswith(reply), said)
            await until(lambda: not self.files)
        self.patch(os, "write", real)
        self.assertEqual(await self.all(), [])
        self.assertTrue((await self.send(LARGE)).startswith("250 "))
        self.assertEqual(self.spool.held_in_memory, 0)

    async def test_sync(self) -> None:
        """A content file that cannot be synced is 451."""
        real = os.fsync

        def fails(fd: int) -> None:
            if "/content" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(5, os.strerror(5))
            real(fd)

        self.patch(os, "fsync", fails)
        self.assertTrue((await self.send(LARGE)).startswith("451 4.3.0 "))
        self.assertTrue((await self.send(1000)).startswith("250 "))
        self.assertEqual(len(await self.all()), 1)

    async def test_lost_connection(self) -> None:
        """A client that vanishes in the middle of a large mail leaves nothing."""
        self.peer.say("MAIL FROM:<ann@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
        for _ in range(LARGE // 1000):
            self.peer.send(b"x" * 998 + b"\r\n")
        self.peer.vanish()
        await until(lambda: not self.spool.held_in_memory)
        await until(lambda: not self.files)
        self.assertEqual(await self.all(), [])
