"""``mailnode sink``: a receiving node that takes every mail for everybody, counts it and keeps nothing.

It speaks SMTP through the same code as the node itself; only the queue behind it forgets what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from twisted_mail_node.admin.looks import count
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.interfaces import IContent, IDirectory, IIncoming, IMailQueue
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.spool.mail import Entry, Mail

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from twisted_mail_node.inbound.factory import ESMTPFactory

#: Seconds between two lines about what came.
REPORT_EVERY = 1.0
#: Connections a sink takes: a load test opens many, from one address.
CONNECTIONS = 20_000


@implementer(IContent)
class Forgotten:
    """The content of a mail that was thrown away: only its size is left."""

    octets = b""
    path = None
    eight_bit = False

    def __init__(self, size: int) -> None:
        self.size = size

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        """Nothing."""
        return iter(())


@implementer(IIncoming)
class Vanishing:
    """A mail on its way to nowhere."""

    def __init__(self, queue: SinkQueue, queue_id: str) -> None:
        self._queue = queue
        self.queue_id = queue_id
        self.size = 0

    async def write(self, octets: bytes) -> None:
        """Count the octets."""
        self.size += len(octets)

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        """Count the mail."""
        queue = self._queue
        queue.mails += 1
        queue.recipients += len(envelope.recipients)
        queue.octets += self.size
        entries = tuple(Entry(number, recipient) for number, recipient in enumerate(envelope.recipients))
        return Mail(self.queue_id, envelope, header, Forgotten(self.size), queue.clock.seconds(), entries)

    def hold(self, words: str) -> None:
        """There is nothing to hold."""

    def abort(self) -> None:
        """Forget it a little earlier."""


@implementer(IMailQueue)
class SinkQueue:
    """Takes mails and keeps nothing but counts.

    :ivar mails: mails taken.
    :ivar recipients: their recipients in all.
    :ivar octets: their contents in all.
    """

    crowded = False

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.mails = 0
        self.recipients = 0
        self.octets = 0
        self._begun = 0

    def begin(self) -> IIncoming:
        """A mail to forget."""
        self._begun += 1
        return Vanishing(self, f"sink{self._begun:010x}")


@implementer(IDirectory)
class Everybody:
    """A directory in which every address has a mailbox."""

    async def resolve(self, address: Address) -> Resolution:
        """The address itself."""
        return Resolution(True, (address,))

    def is_local(self, domain: str) -> bool:
        """Always."""
        return True


class Counter:
    """Says once a second what came, when anything came.

    :param say: prints one line.
    """

    def __init__(self, queue: SinkQueue, say: Callable[[str], object]) -> None:
        self._queue = queue
        self._say = say
        self._mails = 0
        self._at = self._first = self._last = queue.clock.seconds()

    def report(self) -> None:
        """One line if the counts changed."""
        queue, now = self._queue, self._queue.clock.seconds()
        new, passed = queue.mails - self._mails, max(now - self._at, 1e-9)
        if new:
            self._say(f"{self._counts()} ({new / passed:.0f} mails/s)")
            if not self._mails:
                self._first = self._at
            self._last = now
        self._mails, self._at = queue.mails, now

    def total(self) -> None:
        """The last line."""
        self.report()
        rate = self._queue.mails / max(self._last - self._first, 1e-9)
        self._say(f"In all: {self._counts()}" + (f", {rate:.0f} mails/s while they came." if rate else "."))

    def _counts(self) -> str:
        queue = self._queue
        return f"{count(queue.mails, 'mail')}, {count(queue.recipients, 'recipient')}, {queue.octets} octets"


def sink_factory(queue: SinkQueue, reactor: Any) -> ESMTPFactory:
    """The protocol factory of the sink's listener."""
    from twisted_mail_node.inbound.factory import ESMTPFactory
    from twisted_mail_node.policy.chain import Chain
    from twisted_mail_node.settings import Limits

    limits = Limits(connections=CONNECTIONS, connections_per_address=CONNECTIONS)
    return ESMTPFactory(
        hostname="sink.test",
        queue=queue,
        directory=Everybody(),
        chain=Chain([], reactor, limits.policy_time),
        limits=limits,
        clock=reactor,
        publish=lambda event: None,
    )


def run_sink(host: str, port: int, say: Callable[[str], object]) -> int:
    """Listen until SIGINT or SIGTERM; gives the exit code."""
    from twisted.internet import reactor as installed
    from twisted.internet.error import CannotListenError
    from twisted.internet.task import LoopingCall

    from twisted_mail_node.admin.running import log_to_stderr

    reactor: Any = installed
    log_to_stderr()
    queue = SinkQueue(reactor)
    try:
        listening = reactor.listenTCP(port, sink_factory(queue, reactor), backlog=4096, interface=host)
    except CannotListenError as error:
        say(f"mailnode: cannot listen on {host}:{port}: {error.socketError}")
        return 1
    address = listening.getHost()
    say(f"The sink takes every mail on {address.host}:{address.port} and keeps none. Ctrl-C ends it.")
    counter = Counter(queue, say)
    LoopingCall(counter.report).start(REPORT_EVERY, now=False)
    reactor.run()
    counter.total()
    return 0
