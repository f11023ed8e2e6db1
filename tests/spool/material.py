"""What the spool's tests are made of: addresses, envelopes, mails, and a case with a spool on the real disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.precedence import ORDINARY
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.mail import Change, Filter, Mail, State
from twisted_mail_node.spool.spool import Spool
from twisted_mail_node.spool.sqlite import NewMail, Store

if TYPE_CHECKING:
    from twisted_mail_node.spool.incoming import Incoming

reactor: Any = _reactor

JOE = Address("joe", "example.org")
NOW = 1_700_000_000.0
HEADER = b"Received: from client.example\r\n\tby mx.example.org; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
LATER = DeliveryStatus(Action.DELAYED, "4.2.1", Reason.REMOTE_DELAYED, "450 4.2.1 later", "mx.example.net", "", True)
#: Octets of a content that has a file of its own.
LARGE = 300_000


def recipients(count: int = 1) -> tuple[Recipient, ...]:
    """``u0@example.net``, ``u1@example.net`` …"""
    addresses = [Address(f"u{number}", "example.net") for number in range(count)]
    return tuple(Recipient(address, address) for address in addresses)


def envelope(count: int = 1, sender: Address | None = JOE) -> Envelope:
    """An envelope with ``count`` recipients."""
    return Envelope(sender, recipients(count), client="192.0.2.9", helo="client.example", protocol="ESMTP")


def new_mail(
    number: int, count: int = 1, content: bytes | None = b"x\r\n", state: State = State.ACTIVE,
    priority_class: int = ORDINARY, **fields: Any,
) -> NewMail:  # fmt: skip
    """A mail as the statements take it; ``content=None`` lies in a file."""
    meant = envelope(count, **fields)
    row = (number, NOW, encode_envelope(meant), HEADER, len(content or b""), 0, content)
    return NewMail(row, tuple(map(encode_recipient, meant.recipients)), state, 0.0, priority_class)


def put(store: Store, *mails: NewMail) -> None:
    """Keep mails."""
    store.transaction(lambda: store.insert(mails))


def changed(store: Store, *changes: Change) -> None:
    """Commit changes."""
    store.transaction(lambda: store.change(changes))


def finished(number: int, *places: int) -> list[Change]:
    """Recipients of the mail with this number are finished."""
    return [Change(queueid.to_text(number), place, State.FINISHED) for place in places]


def numbers(mails: Sequence[Mail]) -> list[int | None]:
    """The mails' numbers."""
    return [queueid.to_number(mail.queue_id) for mail in mails]


def whole(mail: Mail) -> bytes:
    """The content of a mail."""
    octets = mail.content.octets
    return b"".join(mail.content.blocks()) if octets is None else octets


async def sleep(seconds: float) -> None:
    """Let the reactor turn."""
    await deferLater(reactor, seconds, lambda: None)


async def until(true: Callable[[], Any]) -> None:
    """Wait for another thread; ten seconds at most."""
    for _ in range(2000):
        if true():
            return
        await sleep(0.005)
    raise AssertionError("it did not happen within ten seconds")


async def incoming(spool: Spool, octets: bytes, piece: int = 65536) -> Incoming:
    """A mail whose content has come."""
    mail = spool.begin()
    for at in range(0, len(octets), piece):
        await mail.write(octets[at : at + piece])
    return mail


async def keep(spool: Spool, octets: bytes = b"x\r\n", count: int = 1) -> Mail:
    """Have a mail accepted."""
    return await (await incoming(spool, octets)).commit(envelope(count), HEADER)


def started(awaited: Any) -> Deferred[Any]:
    """Let a coroutine begin."""
    return Deferred.fromCoroutine(awaited)


class SpoolCase(TestCase):
    """A test with ``self.spool`` under ``self.directory``, on the real disk."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.time = NOW
        self.steps: list[str] = []
        #: Called at each step of the story, in whatever thread takes it.
        self.reached: Callable[[str], None] = self.steps.append
        self._closed: list[Spool] = []
        self.open()

    def open(self, **fields: Any) -> Spool:
        """Open the spool (anew)."""
        self.spool = Spool(
            self.directory, reactor, lambda: self.time, reached=lambda step: self.reached(step), **fields
        )
        self.addCleanup(self.close, self.spool)
        return self.spool

    def close(self, spool: Spool) -> None:
        """Close the spool if it is open."""
        if spool not in self._closed:
            self._closed.append(spool)
            spool.close()

    def reopen(self, **fields: Any) -> Spool:
        """As a restart does."""
        self.close(self.spool)
        return self.open(**fields)

    @property
    def files(self) -> list[str]:
        """Names of the content files."""
        return sorted(path.name for path in (self.directory / "content").iterdir())

    async def all(self, **fields: Any) -> list[Mail]:
        """What the spool holds."""
        return await self.spool.find(Filter(**fields))

    async def states(self) -> list[list[State]]:
        """The states of the recipients of all mails."""
        return [[entry.state for entry in mail.entries] for mail in await self.all()]


class StoreCase(SynchronousTestCase):
    """A test with ``self.store``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.steps: list[str] = []
        self.store = Store(self.directory, reached=self.steps.append)
        self.addCleanup(lambda: self.store.close())

    def reopen(self) -> Store:
        """As a restart does, without the recovery."""
        self.store.close()
        self.store = Store(self.directory, reached=self.steps.append)
        return self.store

    def all(self, **fields: Any) -> list[Mail]:
        """What the store finds."""
        return self.store.find(Filter(**fields))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Look into the tables."""
        return list(self.store.connection.execute(sql).fetchall())

    def take(self, now: float = NOW, limit: int = 100) -> list[Mail]:
        """What is due."""
        return self.store.transaction(lambda: self.store.take_due(now, limit))

    def delay(self, number: int, due: float, place: int = 0, **fields: Any) -> None:
        """Let a recipient wait."""
        changed(self.store, Change(queueid.to_text(number), place, State.DELAYED, due, **fields))
