"""The suppression list: addresses that mail is not sent to any more, because it only ever bounced.

An address is suppressed after several failures in a row that say that it does not exist, over some time; or because an
operator wants it. Only what a host told us in an SMTP session of ours counts. Delivery reports that others send are not
looked at, so nobody can have an address suppressed by writing to us. Local addresses and ``postmaster`` are never
suppressed.

All is answered from memory. The table is read at the start and written behind: a crash may lose the failures of the
last second, which then count a little later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mail_node.events import Publish
from twisted_mail_node.events_outbound import AddressAllowed, AddressSuppressed
from twisted_mail_node.message.address import Address, domain_key, folded
from twisted_mail_node.message.cause import Kind, understand
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.state.database import StateDatabase

#: Addresses that are suppressed by themselves, and as many by operators; some 300 octets each.
SUPPRESSED_MAX = 200_000
#: Addresses whose failures are counted; the one that failed longest ago is forgotten first.
COUNTED_MAX = 200_000
#: Characters of a host's or an operator's words that are kept.
WORDS_MAX = 200
#: Seconds between two looks at what is over.
SWEEP_TIME = 600.0

#: RFC 3463 X.1.1: nobody has the address.
STATUS = "5.1.1"

TABLE = """
CREATE TABLE IF NOT EXISTS suppression(
    address TEXT PRIMARY KEY,           -- in the spelling of ``key_of``
    failures INTEGER NOT NULL,          -- in a row; 0: an operator wants it
    first REAL NOT NULL,                -- the first of them
    last REAL NOT NULL,
    since REAL NOT NULL,                -- when it was suppressed; 0: it is not, its failures are counted
    until REAL NOT NULL,                -- 0: for ever
    words TEXT NOT NULL
) WITHOUT ROWID
"""


class Limits(Protocol):
    """``[suppression]`` of the settings."""

    @property
    def enabled(self) -> bool: ...
    @property
    def failures(self) -> int: ...
    @property
    def over(self) -> float: ...
    @property
    def keep(self) -> float: ...


class SuppressionError(ValueError):
    """An address cannot be suppressed; the sentence says why."""


class Suppressed(NamedTuple):
    """What is known about an address. Times are seconds since the epoch.

    :ivar address: with its local-part in small letters and its domain in look-up spelling.
    :ivar failures: in a row; 0: an operator put it on the list.
    :ivar first: when the first of them was.
    :ivar last: when the last of them was.
    :ivar since: when it was suppressed, 0: it is not, its failures are counted.
    :ivar until: when it is allowed again, 0: never by itself.
    :ivar words: what the host said last, or what the operator said.
    """

    address: str
    failures: int
    first: float
    last: float
    since: float
    until: float
    words: str

    def is_over(self, now: float) -> bool:
        """Its time has passed."""
        return 0 < self.until <= now


class Suppressions:
    """The list.

    :param database: where it is kept.
    :param settings: ``[suppression]``.
    :param now: gives seconds since the epoch.
    :param is_local: whether a domain is ours.
    """

    def __init__(
        self,
        database: StateDatabase,
        settings: Limits,
        now: Callable[[], float],
        publish: Publish,
        is_local: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._settings = settings
        self._now = now
        self._publish = publish
        self._is_local = is_local
        self._timer: IDelayedCall | None = None
        #: By whom an address was suppressed: by an operator, or by itself. Oldest first, as is what is counted.
        self._ordered: dict[str, Suppressed] = {}
        self._found: dict[str, Suppressed] = {}
        self._counted: dict[str, Suppressed] = {}
        self._read()

    def start(self, clock: IReactorTime) -> None:
        """Look now and then at what is over."""
        self._timer = clock.callLater(SWEEP_TIME, self._sweep, clock)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def reload(self, settings: Limits) -> None:
        """Let other settings be in force. What is suppressed keeps its time."""
        self._settings = settings

    # -- what the queue asks and tells

    def find(self, address: Address) -> Suppressed | None:
        """Why mail to this address is not to be tried; ``None``: it is.

        While the settings say that nothing is suppressed by itself, only what an operator wants counts.
        """
        if not self._ordered and not self._found:
            return None
        key = key_of(address)
        one = self._ordered.get(key)
        if one is None and self._settings.enabled:
            one = self._found.get(key)
        if one is None or self._is_local(address.domain):
            return None
        if one.is_over(self._now()):
            self._allow(one, "its time is over")
            return None
        return one

    def note(self, address: Address, status: DeliveryStatus) -> None:
        """A recipient became final. A failure counts when the host said that nobody has the address; when the mail
        was taken, all failures before are forgotten; anything else changes nothing."""
        if status.action is Action.RELAYED:
            if self._counted and (one := self._counted.pop(key_of(address), None)) is not None:
                self._forget(one.address)
            return
        if not self._settings.enabled or status.action is not Action.FAILED or not status.from_remote:
            return
        cause = understand(status)
        if cause.kind is Kind.ADDRESS and cause.permanent and self._why_never(address) is None:
            self._failed(key_of(address), status.words)

    def _failed(self, key: str, words: str) -> None:
        if key in self._ordered or key in self._found:
            return  # what was on its way when it was suppressed
        now = self._now()
        words = shortened(words)
        before = self._counted.pop(key, None)
        one = Suppressed(key, 1, now, now, 0.0, 0.0, words)
        if before is not None:
            one = one._replace(failures=before.failures + 1, first=min(before.first, now))
        settings = self._settings
        if one.failures < settings.failures or now - one.first < settings.over:
            if len(self._counted) >= COUNTED_MAX:
                self._forget(self._counted.pop(next(iter(self._counted))).address)
            self._counted[key] = one
            self._keep(one)
            return
        if len(self._found) >= SUPPRESSED_MAX:
            self._allow(next(iter(self._found.values())), "the list is full")
        self._suppress(one._replace(since=now, until=now + settings.keep))

    # -- what an operator does

    def add(self, address: Address, words: str = "", until: float | None = None) -> Suppressed:
        """Suppress an address, or change until when and why.

        :param until: seconds since the epoch, 0: for ever, ``None``: as long as the settings say.
        :raises SuppressionError: it is local or a postmaster's, the time is past, or the list is full.
        """
        why = self._why_never(address)
        if why is not None:
            raise SuppressionError(f"{address} is not suppressed: {why}")
        now = self._now()
        if until is None:
            until = now + self._settings.keep
        elif 0 < until <= now or until < 0:
            raise SuppressionError(f"{address} is not suppressed: that time is past")
        key = key_of(address)
        if key not in self._ordered and len(self._ordered) >= SUPPRESSED_MAX:
            raise SuppressionError(f"the list is full: it has {SUPPRESSED_MAX} addresses of operators")
        for known in (self._counted, self._found, self._ordered):
            known.pop(key, None)
        one = Suppressed(key, 0, 0.0, 0.0, now, until, shortened(words))
        self._suppress(one)
        return one

    def remove(self, address: Address) -> Suppressed | None:
        """Allow an address again, and forget its failures; gives what was known, if it was suppressed."""
        key = key_of(address)
        if self._counted.pop(key, None) is not None:
            self._forget(key)
        one = self._ordered.get(key) or self._found.get(key)
        if one is not None:
            self._allow(one, "an operator allows it")
        return one

    def suppressed(self) -> list[Suppressed]:
        """Every address on the list, the oldest first."""
        now = self._now()
        every = [one for known in (self._ordered, self._found) for one in known.values() if not one.is_over(now)]
        return sorted(every, key=lambda one: one.since)

    def status(self) -> dict[str, int]:
        """How many addresses are on the list, and of how many failures are counted."""
        return {"addresses": len(self._ordered) + len(self._found), "counted": len(self._counted)}

    # -- memory and table

    def _why_never(self, address: Address) -> str | None:
        if not address.domain or self._is_local(address.domain):
            return "it is local"
        if folded(address.local_part) == "postmaster":
            return "every domain has a postmaster (RFC 5321 section 4.5.1)"
        return None

    def _suppress(self, one: Suppressed) -> None:
        (self._found if one.failures else self._ordered)[one.address] = one
        self._keep(one)
        self._publish(AddressSuppressed(one.address, one.failures, one.until, one.words))

    def _allow(self, one: Suppressed, why: str) -> None:
        self._ordered.pop(one.address, None)
        self._found.pop(one.address, None)
        self._forget(one.address)
        self._publish(AddressAllowed(one.address, why))

    def _sweep(self, clock: IReactorTime) -> None:
        self._timer = clock.callLater(SWEEP_TIME, self._sweep, clock)
        now = self._now()
        for known in (self._ordered, self._found):
            for one in [one for one in known.values() if one.is_over(now)]:
                self._allow(one, "its time is over")

    def _keep(self, one: Suppressed) -> None:
        self._database.write("INSERT OR REPLACE INTO suppression VALUES(?, ?, ?, ?, ?, ?, ?)", one)

    def _forget(self, key: str) -> None:
        self._database.write("DELETE FROM suppression WHERE address = ?", (key,))

    def _read(self) -> None:
        self._database.tables(TABLE)
        for row in self._database.read("SELECT * FROM suppression ORDER BY max(since, last)"):
            one = Suppressed(*row)
            known, most = self._counted, COUNTED_MAX
            if one.since:
                known, most = (self._found if one.failures else self._ordered), SUPPRESSED_MAX
            if len(known) >= most:
                self._forget(known.pop(next(iter(known))).address)
            known[one.address] = one


def key_of(address: Address) -> str:
    """The one spelling of an address in the list. Hosts tell local-parts apart by case as good as never, and one that
    does would bounce both. A domain that is none stays as it is: nothing is sent there."""
    local_part, domain = address
    try:
        domain = domain_key(domain)
    except ValueError:
        domain = domain.lower()
    return str(Address(folded(local_part), domain))


def shortened(words: str) -> str:
    """One line of at most ``WORDS_MAX`` characters."""
    words = " ".join(words[: 2 * WORDS_MAX].split())
    return words if len(words) <= WORDS_MAX else words[: WORDS_MAX - 3] + "..."


def status_of(one: Suppressed) -> DeliveryStatus:
    """What a recipient gets who is not tried: since when, why, and what to do."""
    said = f' ("{one.words}")' if one.words else ""
    end = f"until {_day(one.until)}" if one.until else "until the postmaster takes it off"
    if one.failures:
        why = f"mail to it failed {one.failures} times from {_day(one.first)} to {_day(one.last)}{said}"
    else:
        why = f"the postmaster put it there on {_day(one.since)}{said}"
    words = (
        f"Not tried: the address is on our suppression list {end}, for {why}. "
        "If it is right after all, tell the postmaster."
    )
    return DeliveryStatus(Action.FAILED, STATUS, Reason.SUPPRESSED, words)


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(when))
