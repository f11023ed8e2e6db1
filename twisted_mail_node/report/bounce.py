"""Tells senders what became of their mail: delivery status notifications (RFC 3461 section 6, RFC 5321 section 6.1).

The queue calls a ``Notifier`` with recipients that just became final, and records them as finished only when it
returns: whatever goes wrong here leaves the mail in the spool, and the queue calls again later (at worst the sender
is told twice, never not at all). A DSN enters the queue by the same door as every mail. It has priority 0, whatever
it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorThreads, IReactorTime

from twisted_mail_node.events import NotificationDropped, NotificationSent, Publish
from twisted_mail_node.interfaces import IContent, IDirectory, IMailQueue
from twisted_mail_node.message import dsn, trace
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.header import HeaderReader
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.report.double_bounce import MARK, DoubleBounces
from twisted_mail_node.report.wishes import tells_delay, tells_failure, tells_relay, tells_success
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
    :param double_bounces: says who is told of mail that cannot be returned; ``None``: nobody.
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
        double_bounces: DoubleBounces | None = None,
    ) -> None:
        self._hostname = hostname
        self._queue = queue
        self._directory = directory
        self._reactor = reactor
        self._clock = clock
        self._publish = publish
        self._double_bounces = double_bounces

    async def __call__(self, mail: Mail, told: Told, until: float | None = None) -> None:
        """Send the DSNs that are asked for: about those who failed, those who were reached, and those who are delayed.

        :param until: when those who are delayed will be given up (seconds since the epoch).
        :raises SpoolError: a DSN could not be kept; nothing is to be recorded, call again later. The same goes for
            every other exception.
        """
        envelope = mail.envelope
        reverse_path = envelope.reverse_path
        outcome = self._outcomes(mail, until)
        if reverse_path is None:
            lost = [outcome(entry, status) for entry, status in told if status.action is Action.FAILED]
            if lost or any(tells_success(entry, status) for entry, status in told):
                await self._not_returned(mail, lost, "the reverse-path is null")
            return
        failed = [outcome(entry, status) for entry, status in told if tells_failure(entry, status)]
        reached = [
            outcome(entry, status)
            for entry, status in told
            if tells_success(entry, status) or tells_relay(envelope, entry, status)
        ]
        delayed = [outcome(entry, status) for entry, status in told if tells_delay(envelope, entry, status)]
        if not failed and not reached and not delayed:
            if any(status.action is Action.FAILED for _, status in told):
                self._publish(NotificationDropped(mail.queue_id, "NOTIFY asks for no report of failure"))
            return
        targets, why = await self._targets(reverse_path)
        if not targets:
            await self._not_returned(mail, failed, f"the reverse-path {reverse_path} leads nowhere: {why}")
            return
        full = bool(failed) and envelope.ret == "FULL" and not envelope.require_tls
        header, original = await self._original(mail, full=full)
        for outcomes in (failed, reached, delayed):
            if outcomes:
                await self._send(mail, reverse_path, targets, outcomes, header, original)

    def _outcomes(self, mail: Mail, until: float | None) -> Callable[[Entry, DeliveryStatus], dsn.Outcome]:
        """How recipients are spoken of. Of one for which no attempt was made now nobody knows when the last was."""
        before = {entry.number: entry.attempts for entry in mail.entries}
        now = self._clock.seconds()

        def outcome(entry: Entry, status: DeliveryStatus) -> dsn.Outcome:
            tried = status.action is not Action.EXPANDED and entry.attempts > before.get(entry.number, -1)
            return dsn.Outcome(entry.recipient, status, until, now if tried else None)

        return outcome

    async def _targets(self, address: Address) -> tuple[tuple[Recipient, ...], str]:
        """Where a DSN for an address goes; nowhere, and why."""
        resolution = await within(self._clock, RESOLVE_TIME, self._directory.resolve(address))
        why = resolution.problem.meaning if resolution.problem else "nobody has this address"
        return tuple(Recipient(target, address) for target in resolution.targets), why

    async def _not_returned(self, mail: Mail, failed: list[dsn.Outcome], why: str) -> None:
        """There is nobody to tell of these. Where they failed, postmaster may want to know."""
        postmaster = None
        if failed and self._double_bounces is not None:
            postmaster, reason = self._double_bounces.whom(mail)
            why = f"{why}; {reason}" if reason else why
        if postmaster is not None:
            targets, nobody = await self._targets(postmaster)
            if targets:
                header, _ = await self._original(mail, full=False)
                await self._send(mail, postmaster, targets, failed, header, None, double=True)
                return
            why = f"{why}; {postmaster} leads nowhere: {nobody}"
        self._publish(NotificationDropped(mail.queue_id, why))

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
        to: Address,
        targets: tuple[Recipient, ...],
        outcomes: list[dsn.Outcome],
        header: bytes,
        original: bytes | None,
        double: bool = False,
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
                postmaster=to if double else None,
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
                session=MARK if double else "",
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
        self._publish(NotificationSent(mail.queue_id, incoming.queue_id, str(to), action))


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
