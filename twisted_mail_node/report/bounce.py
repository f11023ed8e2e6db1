"""Tells senders what became of their mail: delivery status notifications (RFC 3461 section 6, RFC 5321 section 6.1).

The queue calls a ``Notifier`` with recipients that just became final, and records them as finished only when it
returns: whatever goes wrong here leaves the mail in the spool, and the queue calls again later (at worst the sender
is told twice, never not at all). A DSN enters the queue by the same door as every mail. It has priority 0, whatever
it is about.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorThreads, IReactorTime

from twisted_mail_node.events import NotificationDropped, NotificationSent, Publish
from twisted_mail_node.interfaces import IContent, IDirectory, IMailQueue
from twisted_mail_node.message import dsn, trace
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.header import HeaderReader
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.spool.mail import Entry, Mail
from twisted_mail_node.threads import in_thread
from twisted_mail_node.waiting import within

#: Seconds the directory may take to say where the sender's mail goes; it answers from memory or one file.
RESOLVE_TIME = 30.0
#: Seconds for reading the original's beginning from the disk; a disk that takes longer is out of order.
READ_TIME = 60.0
#: Seconds for keeping a piece of the DSN, or for its commit, which waits for the group's fsync.
KEEP_TIME = 60.0
#: Octets written to the queue at once.
PIECE = 262_144
#: Octets of the content that are looked at for its header section; a little more than a DSN returns of it.
READ_MAX = dsn.HEADERS_MAX + 4096
#: DSNs about more recipients are built in a thread: 40 µs each would be felt by other sessions.
BUILD_INLINE = 50

Told = Sequence[tuple[Entry, DeliveryStatus]]


class Notifier:
    """Decides who is told, and sends it.

    :param hostname: ours, the Reporting-MTA.
    :param reactor: for the thread pool in which the original is read from the disk.
    """

    def __init__(
        self,
        *,
        hostname: str,
        queue: IMailQueue,
        directory: IDirectory,
        reactor: IReactorThreads,
        clock: IReactorTime,
        publish: Publish,
    ) -> None:
        self._hostname = hostname
        self._queue = queue
        self._directory = directory
        self._reactor = reactor
        self._clock = clock
        self._publish = publish

    async def __call__(self, mail: Mail, told: Told, until: float | None = None) -> None:
        """Send the DSNs that are asked for: about those who failed, those who were reached, and those who are delayed.

        :param until: when those who are delayed will be given up (seconds since the epoch).
        :raises SpoolError: a DSN could not be kept; nothing is to be recorded, call again later. The same goes for
            every other exception.
        """
        envelope = mail.envelope
        failed = [dsn.Outcome(entry.recipient, status) for entry, status in told if _tells_failure(entry, status)]
        reached = [
            dsn.Outcome(entry.recipient, status)
            for entry, status in told
            if _tells_success(entry, status) or _tells_relay(envelope, entry, status)
        ]
        delayed = [
            dsn.Outcome(entry.recipient, status, until)
            for entry, status in told
            if _tells_delay(envelope, entry, status)
        ]
        if not failed and not reached and not delayed:
            if any(status.action is Action.FAILED for _, status in told):
                self._publish(NotificationDropped(mail.queue_id, "NOTIFY asks for no report of failure"))
            return
        reverse_path = envelope.reverse_path
        if reverse_path is None:
            self._publish(NotificationDropped(mail.queue_id, "the reverse-path is null"))
            return
        targets = await self._targets(mail, reverse_path)
        if not targets:
            return
        full = bool(failed) and envelope.ret == "FULL" and not envelope.require_tls
        header, original = await self._original(mail, full=full)
        for outcomes in (failed, reached, delayed):
            if outcomes:
                await self._send(mail, reverse_path, targets, outcomes, header, original)

    async def _targets(self, mail: Mail, reverse_path: Address) -> tuple[Recipient, ...]:
        resolution = await within(self._clock, RESOLVE_TIME, self._directory.resolve(reverse_path))
        if not resolution.targets:
            why = resolution.problem.meaning if resolution.problem else "nobody has this address"
            self._publish(NotificationDropped(mail.queue_id, f"the reverse-path {reverse_path} leads nowhere: {why}"))
        return tuple(Recipient(target, reverse_path) for target in resolution.targets)

    async def _original(self, mail: Mail, *, full: bool) -> tuple[bytes, bytes | None]:
        """Header section and, where RET=FULL can be obeyed, all of the mail; both with our trace fields."""
        content = mail.content
        full = full and len(mail.header) + content.size <= dsn.FULL_MAX
        octets = content.octets
        if octets is None:
            try:
                octets = await within(
                    self._clock, READ_TIME, in_thread(self._reactor, _beginning, content, None if full else READ_MAX)
                )
            except OSError:
                # Without its content the mail can still be reported, and only so does it leave the spool.
                return mail.header, None
        reader = HeaderReader(READ_MAX)
        reader.feed(octets)
        return mail.header + reader.finish(), mail.header + octets if full else None

    async def _send(
        self,
        mail: Mail,
        reverse_path: Address,
        targets: tuple[Recipient, ...],
        outcomes: list[dsn.Outcome],
        header: bytes,
        original: bytes | None,
    ) -> None:
        incoming = self._queue.begin()
        now = self._clock.seconds()

        def build() -> dsn.Notification:
            return dsn.build(
                hostname=self._hostname,
                queue_id=incoming.queue_id,
                when=now,
                envelope=mail.envelope,
                arrived=mail.received,
                outcomes=outcomes,
                header=header,
                original=original,
                original_queue_id=mail.queue_id,
            )

        try:
            if len(outcomes) > BUILD_INLINE:
                report = await within(self._clock, READ_TIME, in_thread(self._reactor, build))
            else:
                report = build()
            for start in range(0, len(report.content), PIECE):
                await within(self._clock, KEEP_TIME, incoming.write(report.content[start : start + PIECE]))
            envelope = Envelope(
                reverse_path=None,
                recipients=targets,
                body=report.body,
                smtputf8=report.smtputf8,
                listener="local",
                require_tls=mail.envelope.require_tls,  # RFC 8689 section 5
            )
            stamp = trace.received(
                hostname=self._hostname,
                helo="",
                client="",
                protocol="",
                queue_id=incoming.queue_id,
                recipient=None,
                when=now,
            )
            await within(self._clock, KEEP_TIME, incoming.commit(envelope, stamp))
        except BaseException:
            incoming.abort()
            raise
        action = str(outcomes[0].status.action)
        self._publish(NotificationSent(mail.queue_id, incoming.queue_id, str(reverse_path), action))


def _tells_failure(entry: Entry, status: DeliveryStatus) -> bool:
    """RFC 3461 section 4.1: without NOTIFY failures are told."""
    notify = entry.recipient.notify
    return status.action is Action.FAILED and (not notify or "FAILURE" in notify)


def _tells_success(entry: Entry, status: DeliveryStatus) -> bool:
    """Only where NOTIFY=SUCCESS asked for it. A mail that was relayed to a host with the DSN extension is reported by
    that host or those behind it (RFC 3461 section 5.2.2), by us only where NOTIFY ended with us."""
    if "SUCCESS" not in entry.recipient.notify:
        return False
    if status.action is Action.RELAYED:
        return not status.dsn_passed_on
    return status.action in (Action.DELIVERED, Action.EXPANDED)


def _tells_relay(envelope: Envelope, entry: Entry, status: DeliveryStatus) -> bool:
    """RFC 2852 section 4.1.4: each relay is told of where the sender traces it, and without that, in mode ``N``, the
    relay to a host without Deliver By, which will not see to the time. NOTIFY=NEVER is obeyed."""
    if status.action is not Action.RELAYED or not envelope.by_mode or "NEVER" in entry.recipient.notify:
        return False
    return envelope.by_trace or (envelope.by_mode == "N" and not status.by_passed_on)


def _tells_delay(envelope: Envelope, entry: Entry, status: DeliveryStatus) -> bool:
    """The queue says when. RFC 3461 section 4.1: without NOTIFY delays are told; where the sender set a time in mode
    ``N`` (RFC 2852 section 4.1) NOTIFY need not name DELAY."""
    notify = entry.recipient.notify
    if status.action is not Action.DELAYED or "NEVER" in notify:
        return False
    return not notify or "DELAY" in notify or envelope.by_mode == "N"


def _beginning(content: IContent, size: int | None) -> bytes:
    """The first ``size`` octets of the content, or all. Blocks on the disk.

    :raises OSError: it cannot be read.
    """
    pieces: list[bytes] = []
    have = 0
    for block in content.blocks() if size is None else content.blocks(size):
        pieces.append(block)
        have += len(block)
        if size is not None and have >= size:
            break
    return b"".join(pieces)
