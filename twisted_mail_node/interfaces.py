"""Every zope interface of the node: the contract between its parts, and with plug-ins.

Who calls what in which order, who may fail and what a failure means stands here; the values that travel
(``Address``, ``Envelope``, ``Reply``, ``DeliveryStatus`` …) are plain immutable values of ``message`` and ``smtp``.
A method written ``async`` here may be a coroutine or return a Deferred: callers ``await`` it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from cryptography.x509 import Certificate
    from twisted.internet.defer import Deferred

    from twisted_mail_node.directory.resolution import Resolution
    from twisted_mail_node.dns.answer import Answer
    from twisted_mail_node.events import Event
    from twisted_mail_node.message.address import Address
    from twisted_mail_node.message.envelope import Envelope
    from twisted_mail_node.message.status import DeliveryStatus
    from twisted_mail_node.policy.verdict import Asked, Verdict
    from twisted_mail_node.queue.request import DeliveryRequest
    from twisted_mail_node.routing import Route
    from twisted_mail_node.smtp.sasl import Login
    from twisted_mail_node.spool.mail import Attempt, Change, Filter, Mail, Tally


class IContent(Interface):
    """The content of a mail as it was received: octets with CRLF line ends, dots removed, no trace fields of ours."""

    size: int = Attribute("octets in all")
    octets: bytes | None = Attribute("the whole content when it lies in memory, else None")
    path: Path | None = Attribute("the file that holds the whole content and nothing else, if there is one, else None")
    eight_bit: bool = Attribute("True when any octet is above 127")

    def blocks(size: int = 262144) -> Iterator[bytes]:
        """The content in pieces of at most ``size`` octets. Blocks on the disk: iterate it in a thread.

        :raises OSError: the content cannot be read (any more).
        """


class IIncoming(Interface):
    """A mail on its way into the spool: nothing is promised until ``commit`` has returned."""

    queue_id: str = Attribute("the queue id the mail will have")
    size: int = Attribute("octets written so far")

    async def write(octets: bytes) -> None:
        """Add a piece of content. Returns when it is safe to bring more (back-pressure).

        :raises SpoolError: the piece could not be kept (disk full, I/O error); call ``abort``.
        """

    def hold(why: str) -> None:
        """Once kept, the mail is to wait until an operator releases it. Call it before ``commit``."""

    async def commit(envelope: Envelope, header: bytes) -> Mail:
        """Make the mail durable. When this returns the mail is accepted, and not before. Its recipients are active
        then, or delayed until ``envelope.release_at`` where that is to come.

        :param header: the trace fields that stand before the content, CRLF line ends.
        :raises SpoolError: nothing was accepted; the incoming mail is gone.
        """

    def abort() -> None:
        """Forget it. May be called at any time, also twice and after a failed ``commit``."""


class ISpool(Interface):
    """Where accepted mails lie until each of their recipients is finished. ``spool/spool.py`` tells the crash story."""

    def begin() -> IIncoming:
        """A new incoming mail. Does no I/O and never fails."""

    def record(changes: Sequence[Change]) -> Deferred[None]:
        """Write what became of recipients, with the next group commit. A mail whose recipients are all finished
        is removed with it. Fires when the commit has returned; the caller need not wait.

        :raises SpoolError: (as failure) not written; the mail will be tried again after the next start, at worst twice.
        """

    def take_due(now: float, limit: int) -> Deferred[list[Mail]]:
        """Up to ``limit`` mails that have a delayed recipient due at ``now``, higher priorities first
        (``message.precedence``); only those recipients are in ``Mail.entries``, and they are marked active, so that
        they are not handed out again until ``record`` speaks of them or the node starts anew."""

    def next_due() -> Deferred[float | None]:
        """When the next delayed recipient is due (seconds since the epoch), ``None`` when there is none."""

    def find(wanted: Filter) -> Deferred[list[Mail]]:
        """Mails for an operator, oldest first, with all their recipients."""

    def select(wanted: Filter, limit: int, after: str = "") -> Deferred[list[str]]:
        """The queue ids of the mails that ``find`` would give, at most ``limit`` (``wanted.limit`` counts for
        nothing), those after the queue id ``after`` only: for work on many mails, page by page."""

    def tally(wanted: Filter) -> Deferred[list[Tally]]:
        """How many unfinished recipients wait where and why, the most first; the filter narrows (``limit`` counts
        for nothing, ``recipient`` means the recipients counted)."""

    def tally_senders(wanted: Filter) -> Deferred[list[Tally]]:
        """The same by reverse-path, for all causes and next hops: it stands in the place of the destination, in lower
        case, ``""`` for the null one; the cause is ``""``."""

    def count() -> Deferred[dict[str, int]]:
        """How many recipients are in each state (by its name, lower case), and how many ``mails`` there are."""

    def attempts(queue_id: str) -> Deferred[list[Attempt]]:
        """Every attempt that put a recipient of the mail off, the oldest first; at most the last hundred of each."""

    def hold(queue_ids: Sequence[str]) -> Deferred[list[str]]:
        """Hold the unfinished recipients that are not in an attempt now; gives the queue ids found."""

    def release(queue_ids: Sequence[str], due: float) -> Deferred[list[str]]:
        """Let held and delayed recipients be due at ``due``; gives the queue ids found."""

    def reroute(queue_ids: Sequence[str], next_hop: str, due: float) -> Deferred[list[str]]:
        """Let unfinished recipients go to ``next_hop`` (``""``: by their routes again), due at ``due`` where they are
        delayed, unless their sender holds them back; gives the queue ids found. An attempt under way goes on."""

    def give_up(queue_ids: Sequence[str], status: DeliveryStatus, cause: str, due: float) -> Deferred[list[str]]:
        """Note a final status for held and delayed recipients and let them be due at ``due``, to be reported; gives the
        queue ids found. Those with a final status keep theirs.

        :param cause: its code.
        """

    def hasten(destination: str, now: float, until: float, limit: int, since: float) -> Deferred[int]:
        """Let up to ``limit`` recipients be due now that are delayed, were last bound for ``destination``, are due
        after now and until ``until``, and were not tried after ``since``; the first due first. Gives how many."""

    def remove(queue_ids: Sequence[str]) -> Deferred[list[str]]:
        """Forget mails, whatever their state, without a DSN; gives the queue ids found."""


class IMailQueue(Interface):
    """What ``inbound`` and ``report`` know of the queue: the door through which every mail enters."""

    crowded: bool = Attribute("True while mail comes in faster than it goes out: whoever brings more, pause a moment")

    def begin() -> IIncoming:
        """A new incoming mail, see IIncoming. Its ``commit`` ends with the queue knowing the mail: attempts
        begin without a further call."""


class IDeliveryAgent(Interface):
    """Carries a mail to its next hop: into a mailbox, to another host."""

    async def deliver(request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        """Try once. Gives one status for each recipient of the request, in their order.

        Must end within ``request.deadline`` seconds. An exception counts as a delay of all recipients
        (reason ``internal``); it must not be raised after any recipient was delivered.
        """


class IDirectory(Interface):
    """Who lives here."""

    async def resolve(address: Address) -> Resolution:
        """What the address means here: not local, unknown, or the addresses its mail goes to."""

    def is_local(domain: str) -> bool:
        """True for a domain of ours (any case, any spelling)."""


class ITlsSession(Interface):
    """One TLS connection (RFC 8446), server's or client's side. What it says counts once the handshake is completed."""

    version: str = Attribute("``TLSv1.3``, ``TLSv1.2``; ``''`` before the handshake is completed")
    cipher: str = Attribute("as OpenSSL names it, ``TLS_AES_256_GCM_SHA384``")
    server_name: str = Attribute("the name the client asked for (SNI, RFC 6066 section 3), ``''`` without one")
    resumed: bool = Attribute("True when the handshake resumed an earlier session")
    verified: bool = Attribute("True when the peer showed a certificate, its chain is trusted, and its name fits")
    why: str = Attribute("why it is not verified, for a person; ``''`` when it is")
    peer: Certificate | None = Attribute("the certificate the peer showed, if any")
    chain: tuple[Certificate, ...] = Attribute(
        "a server's certificate and those that came with it, unverified; empty where they cannot be read, and where a "
        "resumed session does not have them"
    )
    fault: str = Attribute("what is wrong: ``expired``, ``mismatch`` (the name) or ``untrusted``; ``''``: verified")

    def __str__() -> str:
        """One line for Received, events and the history: ``TLSv1.3 with TLS_AES_256_GCM_SHA384``."""

    def channel_binding() -> bytes | None:
        """The ``tls-exporter`` binding (RFC 9266), 32 octets; ``None`` where the protocol version has none."""


class ITlsServer(Interface):
    """Gives connections of clients their TLS."""

    def secure(transport: Any, first: bytes = b"") -> ITlsSession:
        """Begin a handshake on ``transport``, whose protocol is told of its end by ``handshakeCompleted()``
        (``IHandshakeListener``), or by ``connectionLost``; a deadline is the caller's. Octets arrive in clear after it.

        :param first: octets of the handshake that were read already.
        """


class ISubmitter(Interface):
    """Someone who signed in: the avatar that the portal gives (``twisted.cred``)."""

    account: Address = Attribute("the account, as it is written in the settings")
    recipients: int = Attribute("recipients a mail may have")
    mails_per_hour: int = Attribute("mails the account may send in an hour; 0: no bound")

    def may_use(address: Address) -> bool:
        """Whether the address is one of the account's own: its own, its aliases', or one it was given."""


class IAuthentication(Interface):
    """Finds out who a client is (RFC 4954). Stands on a portal of ``twisted.cred``."""

    def mechanisms(tls: ITlsSession) -> tuple[str, ...]:
        """The SASL mechanisms for a client with this TLS session, the best first. Without TLS there are none."""

    def scram(name: str, hash_name: str) -> tuple[bytes, int]:
        """Salt and iteration count for a name (RFC 5802 section 5.1), steady made-up ones for a name nobody has.

        :param hash_name: ``SHA-256`` or ``SHA-1``.
        """

    async def login(login: Login) -> ISubmitter:
        """Who this is.

        :raises LoginRefused: nobody, or somebody who may not; the reason tells which.
        :raises Exception: it cannot be found out now.
        """


class IRouter(Interface):
    """Where a mail goes next."""

    async def route(address: Address, envelope: Envelope | None = None) -> Route:
        """The agent and the next hop for a recipient: ordered rules, first match.

        :param envelope: of the mail: rules may look at its reverse-path and its account.
        """


class IResolver(Interface):
    """Asks the DNS."""

    async def query(name: str, rdtype: str) -> Answer:
        """Typed records of ``name`` (``rdtype`` is ``MX``, ``A``, ``AAAA``, ``CNAME``, ``TXT``, ``PTR``, ``TLSA``,
        ``NS``, ``SRV``).

        Follows CNAMEs. An empty answer and a missing name are answers (``records == ()``, ``exists``).

        :raises DNSError: no usable answer in time (time-out, SERVFAIL, malformed): try again later.
        """


class IPolicy(Interface):
    """Decides what we accept. Every method may be left as it is in ``policy.verdict.Policy``.

    Asked in the settings' order at each stage; the first verdict that is not ``None`` ends the stage. An
    exception or a time-out is ``451 4.3.0``, with the traceback in the log. Nothing is relayed unless
    ``policy.relaying`` accepted it.
    """

    name: str = Attribute("as the settings name it")

    def connect(asked: Asked) -> Awaitable[Verdict | None]:
        """Before the greeting; ``asked.client`` is known."""

    def helo(asked: Asked) -> Awaitable[Verdict | None]:
        """After EHLO or HELO; ``asked.helo`` is known."""

    def mail(asked: Asked) -> Awaitable[Verdict | None]:
        """After MAIL; ``asked.reverse_path`` is known."""

    def rcpt(asked: Asked) -> Awaitable[Verdict | None]:
        """After each RCPT; ``asked.forward_path`` and ``asked.resolution`` are known."""

    def content(asked: Asked) -> Awaitable[Verdict | None]:
        """After the whole content came; ``asked.recipients``, ``asked.header`` and ``asked.size`` are known."""


class IPolicyMaker(Interface):
    """A plug-in (``twisted.plugin``) that makes a policy named in the settings."""

    name: str = Attribute("as the settings name it")

    def make(options: dict[str, object]) -> IPolicy:
        """A policy from the settings' options. :raises ValueError: an option is wrong; the sentence is shown."""


class IMailObserver(Interface):
    """Sees every event. Can delay nothing and change nothing; an exception is logged and forgotten."""

    def observe(event: Event) -> None:
        """One event, in the order they happened."""
