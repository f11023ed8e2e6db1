"""A mail queue in memory and a directory in a dict, for tests of receiving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.interfaces import IDirectory, IIncoming, IMailQueue
from twisted_mail_node.message.address import Address, domain_key, folded
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.content import InlineContent
from twisted_mail_node.spool.mail import Entry, Mail, State

#: What the receiver's wall clock shows: 14 November 2023.
EPOCH = 1_700_000_000.0


@dataclass
class Kept:
    """A mail that was accepted."""

    queue_id: str
    envelope: Envelope
    header: bytes
    content: bytes
    held: str

    @property
    def recipients(self) -> list[str]:
        """Where it goes."""
        return [str(recipient.address) for recipient in self.envelope.recipients]


@implementer(IIncoming)
class MemoryIncoming:
    """A mail on its way into the MemoryQueue."""

    def __init__(self, queue: MemoryQueue, queue_id: str) -> None:
        self._queue = queue
        self._pieces: list[bytes] = []
        self._held = ""
        self.queue_id = queue_id
        self.size = 0
        self.state = "open"

    async def write(self, octets: bytes) -> None:
        assert self.state == "open", self.state
        queue = self._queue
        if queue.write_error is not None:
            raise queue.write_error
        self._pieces.append(octets)
        self.size += len(octets)
        if queue.writes_wait:
            await queue.wait()

    def hold(self, why: str) -> None:
        self._held = why

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        assert self.state == "open", self.state
        queue = self._queue
        self.state = "committing"
        if queue.commits_wait:
            await queue.wait()
        if queue.commit_error is not None:
            self.state = "failed"
            raise queue.commit_error
        self.state = "kept"
        content = b"".join(self._pieces)
        queue.mails.append(Kept(self.queue_id, envelope, header, content, self._held))
        state = State.HELD if self._held else State.ACTIVE
        entries = tuple(Entry(number, recipient, state) for number, recipient in enumerate(envelope.recipients))
        return Mail(self.queue_id, envelope, header, InlineContent(content), EPOCH, entries)

    def abort(self) -> None:
        if self.state == "open":
            self.state = "aborted"


@implementer(IMailQueue)
class MemoryQueue:
    """Keeps mails in a list.

    :ivar mails: what was accepted, in order.
    :ivar begun: every incoming mail, with its ``state``: open, committing, kept, failed, aborted.
    :ivar writes_wait: each write waits until ``go_on``.
    :ivar commits_wait: each commit waits until ``go_on``.
    :ivar write_error: each write raises it.
    :ivar commit_error: each commit raises it (when it has waited).
    """

    def __init__(self) -> None:
        self.crowded = False
        self.mails: list[Kept] = []
        self.begun: list[MemoryIncoming] = []
        self.writes_wait = False
        self.commits_wait = False
        self.write_error: Exception | None = None
        self.commit_error: Exception | None = None
        self.waiting: list[Deferred[None]] = []

    def begin(self) -> MemoryIncoming:
        incoming = MemoryIncoming(self, f"Q{len(self.begun) + 1}")
        self.begun.append(incoming)
        return incoming

    def wait(self) -> Deferred[None]:
        """Something that lasts until ``go_on``."""
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def go_on(self) -> None:
        """Let everything that waits now go on."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(None)


#: Addresses of the DictDirectory and where their mail goes; the empty tuple leads in a circle.
PEOPLE: dict[str, tuple[str, ...]] = {
    "joe@example.org": ("joe@example.org",),
    "ann@example.org": ("ann@example.org",),
    "demo@example.org": ("demo@example.org",),
    "joe smith@example.org": ("joe smith@example.org",),
    "jürgen@example.org": ("jürgen@example.org",),
    "postmaster@example.org": ("joe@example.org",),
    "sales@example.org": ("joe@example.org", "ann@example.org"),
    "far@example.org": ("far@elsewhere.example",),
    "circle@example.org": (),
    "joe@[192.0.2.1]": ("joe@example.org",),
    "joe@xn--bcher-kva.example": ("joe@xn--bcher-kva.example",),
}


@implementer(IDirectory)
class DictDirectory:
    """Who lives here, as a dict says it.

    :ivar error: raised for every question.
    :ivar waiting: set a list here, and every question waits for a Deferred that is put into it.
    """

    def __init__(self, people: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._people: dict[tuple[str, str], tuple[Address, ...]] = {}
        for name, targets in (PEOPLE if people is None else people).items():
            local, _, domain = name.rpartition("@")
            to = tuple(Address(*target.rpartition("@")[::2]) for target in targets)
            self._people[folded(local), domain] = to
        self._domains = {domain for _, domain in self._people}
        self.error: Exception | None = None
        self.waiting: list[Deferred[None]] | None = None

    async def resolve(self, address: Address) -> Resolution:
        if self.error is not None:
            raise self.error
        if self.waiting is not None:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        if not self.is_local(address.domain):
            return Resolution(False, (address,))
        key = (folded(address.local_part), domain_key(address.domain) or "example.org")
        if key not in self._people:
            return Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
        targets = self._people[key]
        if not targets:
            return Resolution(True, (), False, Reason.ALIAS_LOOP)
        return Resolution(True, targets, targets != (address,))

    def is_local(self, domain: str) -> bool:
        try:
            return not domain or domain_key(domain) in self._domains
        except ValueError:
            return False
