"""The queue's door for mail of our own people: what comes in through it is signed (RFC 6376 section 5) and then kept.

Who gives a mail to this door decides that it may be signed: submission, the notifier, the reports. A mail is signed
when its author's domain (From) is ours and has keys; every other one, and every one while nobody has keys, goes through
as it is. The content is hashed as it comes, and never held back; the signatures stand above the trace fields.

Where signing fails, for whatever reason, a mail that somebody brings is refused for now (``SpoolError``, 451): they try
again, and nothing leaves unsigned. What the node makes itself is kept without a signature, with an event: a DSN must
not be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.events import Publish
from twisted_mail_node.events_signing import MailNotSigned
from twisted_mail_node.interfaces import IIncoming, IMailQueue
from twisted_mail_node.mailauth.author import author
from twisted_mail_node.mailauth.body import BodyHash, BodyHashes
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.dkim_sign import sign
from twisted_mail_node.message import header as fields
from twisted_mail_node.message.header import HeaderReader
from twisted_mail_node.signing.keys import Loaded, SigningKeys
from twisted_mail_node.spool.mail import SpoolError
from twisted_mail_node.threads import in_thread
from twisted_mail_node.waiting import within

if TYPE_CHECKING:
    from twisted_mail_node.message.envelope import Envelope
    from twisted_mail_node.spool.mail import Mail

_log = Logger()

#: Octets of a header section that is looked at for its author; one that is longer is not signed. Receiving has its own
#: bound (``limits.header_size``), which is this by default.
HEADER_MAX = 1 << 20
#: Seconds signing may take, in a thread that others use too.
SIGN_TIME = 30.0


@implementer(IMailQueue)
class SignedQueue:
    """A queue whose mail is signed.

    :param queue: where mail goes.
    :param keys: what is signed with.
    :param reactor: the time, and threads.
    :param expires: how long a signature counts, in seconds; ``None``: for ever.
    :param must: a mail that cannot be signed is refused, not kept without.
    """

    def __init__(
        self,
        queue: IMailQueue,
        keys: SigningKeys,
        *,
        reactor: Any,
        publish: Publish,
        expires: Callable[[], float | None] = lambda: None,
        must: bool,
    ) -> None:
        self._queue = queue
        self._keys = keys
        self._reactor = reactor
        self._expires = expires
        self.publish = publish
        self.must = must

    @property
    def crowded(self) -> bool:
        """See IMailQueue."""
        return self._queue.crowded

    def begin(self) -> IIncoming:
        """See IMailQueue. While nobody has keys this is the queue's own."""
        incoming = self._queue.begin()
        return SignedIncoming(self, incoming) if self._keys else incoming

    def keys_for(self, header: bytes) -> tuple[str, Loaded]:
        """The author's domain, and what its mail is signed with; none where nobody can be sure who that is."""
        domain = author(header).domain
        return domain, self._keys.of(domain) if domain else ()

    async def sign(self, header: bytes, body_hash: bytes, keys: Sequence[SigningKey]) -> bytes:
        """The fields that are to stand before ``header``."""
        now, span = self._reactor.seconds(), self._expires()
        expires = None if span is None else now + span
        work = partial(sign, header, body_hash, keys, now=now, expires=expires)
        if any(key.slow for key in keys):
            return await within(self._reactor, SIGN_TIME, in_thread(self._reactor, work))
        return work()


@implementer(IIncoming)
class SignedIncoming:
    """A mail on its way into the queue: header and body are looked at as they go by.

    :ivar _held: content until the header section is known, as far as it was looked at.
    :ivar _hashes: of the body; ``None`` once it is known that the mail is not signed.
    """

    __slots__ = ("_door", "_hash", "_hashes", "_held", "_incoming", "_reader", "abort", "hold", "write")

    def __init__(self, door: SignedQueue, incoming: IIncoming) -> None:
        self._door = door
        self._incoming = incoming
        self._reader = HeaderReader(HEADER_MAX)
        self._held = bytearray()
        self._hashes: BodyHashes | None = BodyHashes()
        self._hash: BodyHash = self._hashes.want("relaxed")
        self.write: Callable[[bytes], Coroutine[Any, Any, None]] = self._write
        self.abort: Callable[[], None] = incoming.abort
        self.hold: Callable[[str], None] = incoming.hold

    @property
    def queue_id(self) -> str:
        """See IIncoming."""
        return self._incoming.queue_id

    @property
    def size(self) -> int:
        """See IIncoming."""
        return self._incoming.size

    async def _write(self, octets: bytes) -> None:
        """See IIncoming."""
        if self._reader.done:
            if self._hashes is not None:
                self._hashes.feed(octets)
        else:
            self._held += octets
            if self._reader.feed(octets):
                self._decide()
        await self._incoming.write(octets)

    def _decide(self) -> None:
        """The header section is known. Without an author it may still get one (``submission.add_from``)."""
        header = self._reader.header
        if self._reader.too_large or (fields.has(header, b"From") and not self._door.keys_for(header)[1]):
            self._hashes = None
            self.write = self._incoming.write  # nothing more to look at
        else:
            self._body()

    def _body(self) -> None:
        if self._hashes is not None:
            self._hashes.feed(bytes(memoryview(self._held)[len(self._reader.header) :]))
        self._held = bytearray()

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        """See IIncoming."""
        own = self._reader.header
        if not self._reader.done:
            own = self._reader.finish()
            if not self._reader.rest and own.endswith(b"\r\n") and not own.endswith(b"\r\n\r\n"):
                own += b"\r\n"  # content ends with its last field (RFC 5322 section 3.5)
            self._body()
        if self._hashes is not None:
            self._hashes.finish()
            header = await self._signed(header + own) + header
        return await self._incoming.commit(envelope, header)

    async def _signed(self, header: bytes) -> bytes:
        """The fields that sign a mail, none where it is not signed.

        :raises SpoolError: it must be, and could not.
        """
        domain, keys = self._door.keys_for(header)
        if not keys:
            return b""
        try:
            return await self._door.sign(header, self._hash.digest, keys)
        except CancelledError:
            raise
        except Exception as error:
            _log.failure("signing a mail of {domain} failed", domain=domain)
            if self._door.must:
                self.abort()
                raise SpoolError(f"the mail could not be signed: {error}") from error
            self._door.publish(MailNotSigned(self.queue_id, domain, str(error) or type(error).__name__))
            return b""
