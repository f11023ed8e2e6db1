"""The closed list of mail events: every decision the node takes is one of these, with its reason.

The log, the history and the metrics are made from them and from nothing else. ``session`` and ``queue_id`` tie
them together. Publishing is cheap: an event is a tuple, and observers (``IMailObserver``) get it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from twisted.logger import Logger

from twisted_mail_node.events_checked import MailChecked
from twisted_mail_node.events_outbound import (
    AddressAllowed,
    AddressSuppressed,
    PolicyFetched,
    PolicyNotFetched,
    RecipientExpanded,
    TlsReportFailed,
    TlsReportSent,
    WorkStuck,
)
from twisted_mail_node.events_signing import SigningEvent
from twisted_mail_node.interfaces import IMailObserver

_log = Logger()


class NodeStarted(NamedTuple):
    """The node listens. ``recovered`` mails were found in the spool."""

    hostname: str
    listeners: tuple[str, ...]
    recovered: int


class NodeStopped(NamedTuple):
    """The node has ended in order; ``seconds`` it waited for mail in transfer."""

    seconds: float


class SettingsLoaded(NamedTuple):
    """SIGHUP: the settings were read again and are in force."""

    path: str


class SettingsRefused(NamedTuple):
    """SIGHUP: the settings are wrong; the old ones stay in force."""

    path: str
    words: str


class SessionOpened(NamedTuple):
    """A client connected and will be greeted."""

    session: str
    listener: str
    client: str


class SessionRefused(NamedTuple):
    """A client connected and was sent away with ``reply``."""

    session: str
    listener: str
    client: str
    reason: str
    reply: str


class ClientPresented(NamedTuple):
    """A named peer said who the client behind it is: from here on the session is that client's."""

    session: str
    client: str
    peer: str
    by: str
    tls: str = ""


class PresentingFailed(NamedTuple):
    """A named peer did not say who the client behind it is, or not so that it can be understood; it was cut off."""

    session: str
    client: str
    reason: str
    words: str


class SessionSecured(NamedTuple):
    """A client finished a TLS handshake; ``tls`` says what it came to."""

    session: str
    client: str
    tls: str
    server_name: str


class SecuringFailed(NamedTuple):
    """A TLS handshake with a client came to nothing."""

    session: str
    client: str
    reason: str
    words: str


class SignedIn(NamedTuple):
    """A client signed in as ``account``."""

    session: str
    client: str
    account: str
    mechanism: str


class SignInFailed(NamedTuple):
    """A client did not sign in. ``name`` is what it called itself; it was made to wait ``seconds`` for the answer."""

    session: str
    client: str
    name: str
    mechanism: str
    reason: str
    seconds: float


class GuessingSlowed(NamedTuple):
    """Wrong passwords keep coming: ``what`` is the address, network or account whose attempts now wait ``seconds``."""

    what: str
    failures: int
    seconds: float


class PasswordUpgraded(NamedTuple):
    """A password's hash was made anew at a sign-in, for the old one was weaker; ``words`` say what was made."""

    account: str
    words: str


class CertificatesLoaded(NamedTuple):
    """Certificates were read, at the start or because they changed; ``names`` are those they are for, ``expires`` is
    when the first of them does (seconds since the epoch), ``words`` say what to do about them."""

    names: tuple[str, ...]
    expires: float
    words: str = ""


class CertificatesRefused(NamedTuple):
    """Certificates could not be read; those of before stay in use."""

    words: str


class SessionClosed(NamedTuple):
    """A session ended; ``reason`` says how, ``mails`` how many it brought, ``seconds`` how long it lasted."""

    session: str
    client: str
    reason: str
    mails: int
    seconds: float


class CommandRefused(NamedTuple):
    """A command was answered with 4yz or 5yz."""

    session: str
    client: str
    command: str
    reason: str
    reply: str


class RecipientRefused(NamedTuple):
    """RCPT was answered with 4yz or 5yz."""

    session: str
    client: str
    reverse_path: str
    recipient: str
    reason: str
    reply: str


class MailRefused(NamedTuple):
    """A mail was refused after its content came, or could not be kept."""

    session: str
    client: str
    reverse_path: str
    recipients: tuple[str, ...]
    size: int
    reason: str
    reply: str


class MailAccepted(NamedTuple):
    """A mail is in the spool: the commit that holds it has returned."""

    session: str
    queue_id: str
    client: str
    helo: str
    protocol: str
    reverse_path: str
    recipients: tuple[str, ...]
    size: int
    reason: str
    account: str = ""
    tls: str = ""


class MailDiscarded(NamedTuple):
    """A mail was answered with 250 and thrown away, because a policy said so."""

    session: str
    client: str
    reverse_path: str
    recipients: tuple[str, ...]
    size: int
    reason: str
    words: str


class MailHeld(NamedTuple):
    """A mail waits for an operator."""

    queue_id: str
    reason: str
    words: str


class MailChanged(NamedTuple):
    """An operator released, retried or removed a mail."""

    queue_id: str
    reason: str


class AttemptFailed(NamedTuple):
    """A host of a destination could not be used; other hosts may be tried in the same attempt."""

    destination: str
    host: str
    address: str
    reason: str
    words: str


class RecipientDelivered(NamedTuple):
    """The mail lies in a mailbox here."""

    queue_id: str
    recipient: str
    destination: str
    seconds: float
    reason: str


class RecipientRelayed(NamedTuple):
    """The next hop took the mail over."""

    queue_id: str
    recipient: str
    destination: str
    host: str
    address: str
    reply: str
    seconds: float
    reason: str
    tls: str = ""
    source: str = ""


class RecipientDelayed(NamedTuple):
    """An attempt failed for now; the next comes at ``due`` (seconds since the epoch)."""

    queue_id: str
    recipient: str
    destination: str
    host: str
    status: str
    reason: str
    words: str
    attempts: int
    due: float
    cause: str = ""
    source: str = ""


class RecipientFailed(NamedTuple):
    """Given up; a DSN goes to the reverse-path unless it is null or said NOTIFY without FAILURE."""

    queue_id: str
    recipient: str
    destination: str
    host: str
    status: str
    reason: str
    words: str
    attempts: int
    cause: str = ""
    source: str = ""


class NotificationSent(NamedTuple):
    """A DSN about ``queue_id`` entered the queue as ``dsn_queue_id``."""

    queue_id: str
    dsn_queue_id: str
    recipient: str
    action: str


class NotificationDropped(NamedTuple):
    """No DSN was sent about ``queue_id``; ``words`` say why (null reverse-path, NOTIFY=NEVER …)."""

    queue_id: str
    words: str


class MailFinished(NamedTuple):
    """Every recipient of the mail is finished and the mail has left the spool; ``seconds`` since it was accepted."""

    queue_id: str
    seconds: float


class DestinationChanged(NamedTuple):
    """A destination's window closed or opened, or an operator closed or opened it."""

    destination: str
    state: str
    window: int
    words: str


class SpoolDamaged(NamedTuple):
    """Something in the spool could not be read and was set aside at ``path``; the node goes on."""

    path: str
    words: str


class StateDamaged(NamedTuple):
    """What the node had learned (``state.sqlite``: suppressed addresses, freezes, levels and results of TLS) could not
    be read and was set aside at ``path``; the node goes on without."""

    path: str
    words: str


Event = (
    NodeStarted
    | NodeStopped
    | SettingsLoaded
    | SettingsRefused
    | SessionOpened
    | SessionRefused
    | ClientPresented
    | PresentingFailed
    | SessionSecured
    | SecuringFailed
    | SignedIn
    | SignInFailed
    | GuessingSlowed
    | PasswordUpgraded
    | CertificatesLoaded
    | CertificatesRefused
    | SessionClosed
    | CommandRefused
    | RecipientRefused
    | MailRefused
    | MailChecked
    | MailAccepted
    | MailDiscarded
    | MailHeld
    | MailChanged
    | AttemptFailed
    | RecipientDelivered
    | RecipientRelayed
    | RecipientExpanded
    | RecipientDelayed
    | RecipientFailed
    | NotificationSent
    | NotificationDropped
    | MailFinished
    | DestinationChanged
    | WorkStuck
    | AddressSuppressed
    | AddressAllowed
    | PolicyFetched
    | PolicyNotFetched
    | TlsReportSent
    | TlsReportFailed
    | SigningEvent
    | SpoolDamaged
    | StateDamaged
)

Publish = Callable[[Event], None]


class Publisher:
    """Hands each event to every observer; an observer that breaks is logged and does no harm."""

    def __init__(self, observers: Iterable[IMailObserver] = ()) -> None:
        self.observers = list(observers)

    def __call__(self, event: Event) -> None:
        for observer in self.observers:
            try:
                observer.observe(event)
            except Exception:
                _log.failure("an observer of mail events broke")
