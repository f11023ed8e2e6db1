"""Keys come and go while the node runs: made, published, waited for, used, retired; by order, by age, by themselves.

A look, once a minute, does what is to be done: it publishes the records of new keys where the node may (RFC 2136), asks
the name servers for those of keys that wait, lets a key sign once all of them show it, retires what was replaced, and
takes its record out. What it does is written down before it counts (``signing.files`` tells the crash story), and every
step can be repeated: a node that is stopped in the middle goes on where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.events import Publish
from twisted_mail_node.events_signing import (
    DkimKeyActivated,
    DkimKeyCreated,
    DkimKeyRetired,
    DkimKeyWaiting,
    SigningEvent,
)
from twisted_mail_node.settings import Settings
from twisted_mail_node.signing.custody import Changed, Custody
from twisted_mail_node.signing.files import KeyFileError
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.life import Key, Keys, KeyState, Kind, aged, find, in_state, publishing
from twisted_mail_node.signing.making import BITS
from twisted_mail_node.signing.publishing import NotPublishedError, Updates
from twisted_mail_node.signing.record import owner, zone_line
from twisted_mail_node.signing.shown import NameServers, Shown
from twisted_mail_node.threads import in_thread

_log = Logger()

T = TypeVar("T")

#: Seconds from the start, or from an order, to the first look, and from one look to the next.
FIRST_LOOK, LOOK_EVERY = 2.0, 60.0
#: A key that waits is looked for at every look for the first quarter of an hour, then less and less, at last so often.
EAGER = 15
PATIENT = 900.0
#: Seconds after which a key that waits is an event, and again each time.
LATE = 86400.0
#: Domains whose name servers are asked at once.
AT_ONCE = 8


@dataclass
class _Waiting:
    """What is known of a key that is not finished with the DNS.

    :ivar shown: what the name servers said last, and when that was.
    :ivar due: when they are asked again.
    :ivar sent: its record was published, or taken out, by this process.
    :ivar told: when it was said last that it is late.
    """

    shown: Shown | None = None
    looked: float = 0.0
    looks: int = 0
    due: float = 0.0
    sent: bool = False
    trouble: str = ""
    told: float = 0.0


class Rotation:
    """Looks after the keys of a node.

    :param keys: what signs; gets what changes.
    :param servers: asks the name servers.
    :param updates: publishes; ``None``: operators do.
    :param reactor: clock, whose seconds are since the epoch, and threads.
    """

    def __init__(
        self,
        settings: Settings,
        keys: SigningKeys,
        *,
        servers: NameServers,
        updates: Updates | None,
        reactor: Any,
        publish: Publish,
    ) -> None:
        self._keys = keys
        self._servers = servers
        self._reactor = reactor
        self._publish = publish
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._lock = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self._running = False
        self._again = False
        self.configure(settings, updates)

    def configure(self, settings: Settings, updates: Updates | None) -> None:
        """Let other settings be in force."""
        self._settings = settings.dkim
        self._updates = updates
        self._custody = Custody(settings, self._keys.files, self._reactor.seconds)

    def start(self) -> None:
        """Look from now on."""
        self._running = True
        self.hasten()

    def stop(self) -> None:
        """End what is under way."""
        self._running = False
        self._unset()
        if self._looking is not None:
            self._looking.cancel()

    def hasten(self) -> None:
        """Look soon; while a look is under way, soon after it: what it was begun for may not be all any more."""
        if self._looking is not None:
            self._again = True
        elif self._running:
            self._set(FIRST_LOOK)

    def _set(self, seconds: float) -> None:
        """Look after so long, or sooner where it is to be sooner already: who orders often puts nothing off."""
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = self._reactor.callLater(seconds, self._begin)
        elif timer.getTime() > self._reactor.seconds() + seconds:
            timer.reset(seconds)

    def _unset(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _begin(self) -> None:
        self._timer = None
        looking = self._looking = Deferred.fromCoroutine(self.look())

        def ended(outcome: Any) -> None:
            self._looking = None
            if isinstance(outcome, Failure) and (self._running or not outcome.check(CancelledError, FirstError)):
                _log.failure("looking after DKIM keys broke", outcome)
            if self._running:
                self._set(FIRST_LOOK if self._again else LOOK_EVERY)
            self._again = False

        looking.addBoth(ended)

    # ---- orders ------------------------------------------------------------------------------------------------

    async def create(
        self, domain: str, kinds: Sequence[Kind], *, selector: str = "", bits: int = BITS, at_once: bool = False
    ) -> Changed:
        """See ``Custody.create``."""
        return await self._order(
            partial(self._custody.create, domain, kinds, selector=selector, bits=bits, at_once=at_once)
        )

    async def rotate(self, domain: str, *, bits: int = BITS, at_once: bool = False) -> Changed:
        """See ``Custody.rotate``."""
        return await self._order(partial(self._custody.rotate, domain, bits=bits, at_once=at_once))

    async def retire(self, domain: str, selector: str, *, at_once: bool = False) -> Changed:
        """See ``Custody.retire``."""
        return await self._order(partial(self._custody.retire, domain, selector, at_once=at_once))

    async def listed(self, domain: str = "", *, check: bool = False) -> list[dict[str, Any]]:
        """Every key, as JSON shows it, with the name servers that do not show it, as far as they were asked.

        :param check: ask them now; what follows from that is done soon.
        :raises ValueError: the domain is not local.
        """
        found = await self._in_thread(self._custody.keys, domain)
        if check:
            asked = [(name, key) for name, key in found if key.state is not KeyState.RETIRED]
            await self._at_once(partial(self._ask, name, key) for name, key in asked)
            for known in self._waiting.values():
                known.due = 0.0 if known.shown is not None and known.shown.everywhere else known.due
            self.hasten()
        return [self.shape(name, key) for name, key in found]

    def shape(self, domain: str, key: Key) -> dict[str, Any]:
        """A key as JSON shows it."""
        shape = self._custody.shape(domain, key)
        known = self._waiting.get((domain, key.selector))
        if known is not None:
            shape["trouble"] = known.trouble
            if known.shown is not None and key.state is not KeyState.RETIRED:
                shape |= {"missing": [str(one) for one in known.shown.missing], "looked": known.looked}
        return shape

    async def _order(self, order: Callable[[], Changed]) -> Changed:
        """Have it done in a thread; it counts when this returns.

        :raises ValueError: it is not possible.
        """
        changed = await self._change(order)
        self.hasten()
        return changed

    async def _change(self, work: Callable[[], Changed]) -> Changed:
        """Change what is written down, sign with what is active then, and tell of it."""
        await self._lock.acquire()
        try:
            changed = await self._in_thread(work)
            await self._take_up()
        finally:
            self._lock.release()
        for event in events_of(changed, self.where):
            self._publish(event)
        return changed

    async def _alter(self, domain: str, change: Callable[[Keys], Keys]) -> Changed:
        return await self._change(partial(self._custody.change, domain, change))

    async def _take_up(self) -> None:
        """Sign with what is on the disk; again where the settings were read anew meanwhile."""
        domains = None
        while domains != self._keys.domains:
            domains = self._keys.domains
            ring = await self._in_thread(self._keys.load, domains)
        self._keys.use(ring)

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return in_thread(self._reactor, function, *arguments)

    @property
    def where(self) -> str:
        """Who publishes records, in words; ``""`` where it is the operator."""
        return "" if self._updates is None else f"the node publishes its record at {self._updates.server}"

    # ---- looking -----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Do what is to be done now. What breaks for one domain ends no other."""
        if self._keys.stale():
            await self._lock.run(lambda: Deferred.fromCoroutine(self._take_up()))
        found: dict[str, list[Key]] = {}
        for domain, key in await self._in_thread(self._custody.keys):
            found.setdefault(domain, []).append(key)
        known = {(domain, key.selector) for domain, keys in found.items() for key in keys}
        self._waiting = {name: one for name, one in self._waiting.items() if name in known}
        await self._at_once(partial(self._look_at, domain, tuple(keys)) for domain, keys in found.items())

    async def _at_once(self, stories: Iterable[Callable[[], Awaitable[object]]]) -> None:
        places = DeferredSemaphore(AT_ONCE)

        async def carry_out(story: Callable[[], Awaitable[object]]) -> None:
            await places.acquire()
            try:
                await story()
            except CancelledError:
                raise
            except Exception:
                _log.failure("looking after the DKIM keys of a domain broke")
            finally:
                places.release()

        await gatherResults([Deferred.fromCoroutine(carry_out(story)) for story in stories], consumeErrors=True)

    async def _look_at(self, domain: str, keys: Keys) -> None:
        """One domain."""
        now = self._reactor.seconds()
        after = self._settings.retire_after
        if aged(keys, now, after) != keys:
            keys = (await self._alter(domain, lambda there: aged(there, now, after))).after
        for key in keys:
            if key.state is KeyState.NEW:
                await self._bring_in(domain, key)
            elif key.state is KeyState.RETIRED and key.published:
                await self._take_out(domain, key)
        every = self._settings.rotate_every
        active = in_state(keys, KeyState.ACTIVE)
        replaced = any(key.replaces for key in in_state(keys, KeyState.NEW))
        if every is not None and active and not replaced and now - min(key.since for key in active) >= every:
            await self._change(partial(self._custody.rotate, domain))

    async def _bring_in(self, domain: str, key: Key) -> None:
        """Publish the record of a new key, and let it sign once it is seen everywhere."""
        waiting = self._waiting.setdefault((domain, key.selector), _Waiting())
        now = self._reactor.seconds()
        if self._updates is not None and not waiting.sent:
            await self._publish_record(self._updates, domain, key, waiting)
        if waiting.due > now:
            return
        shown = await self._ask(domain, key)
        if shown.everywhere:
            try:
                changed = await self._change(partial(self._custody.activate, domain, key.selector))
            except KeyFileError as error:
                waiting.trouble = str(error)
                return
            if find(changed.after, key.selector) is not None:
                self._waiting.pop((domain, key.selector), None)
            return
        waiting.looks += 1
        pause = 0.0 if waiting.looks < EAGER else min(PATIENT, LOOK_EVERY * 2 ** min(waiting.looks - EAGER, 10))
        waiting.due = self._reactor.seconds() + pause
        if now - max(key.created, waiting.told) >= LATE:
            self._late(domain, key, waiting)

    async def _ask(self, domain: str, key: Key) -> Shown:
        """Where the record of a key is missing now; it is noted, too."""
        waiting = self._waiting.setdefault((domain, key.selector), _Waiting())
        waiting.shown = await self._servers.shown(key.selector, domain, key.record)
        waiting.looked = self._reactor.seconds()
        return waiting.shown

    def _late(self, domain: str, key: Key, waiting: _Waiting) -> None:
        now = waiting.told = self._reactor.seconds()
        waiting.sent = False  # the name server may have lost it: once a day is not too often
        words = [waiting.trouble, waiting.shown.words if waiting.shown else ""]
        if self._updates is None:
            words.append(f"publish this record in the zone of {domain}: {one_line(domain, key)}")
        told = ". ".join(filter(None, words))
        self._publish(DkimKeyWaiting(domain, key.selector, round(now - key.created, 3), told))

    async def _publish_record(self, updates: Updates, domain: str, key: Key, waiting: _Waiting) -> None:
        if not key.published:
            await self._note_published(domain, key, True)
        try:
            zone, _ = await self._servers.zone_of(domain)
            await updates.publish(zone, key.selector, domain, key.record)
        except (NotPublishedError, DNSError) as error:
            trouble = f"the record was not published: {error}"
            if waiting.trouble != trouble:
                waiting.trouble = trouble
                self._late(domain, key, waiting)
            return
        waiting.sent = True
        waiting.trouble = ""
        waiting.due = 0.0

    async def _take_out(self, domain: str, key: Key) -> None:
        """Take the record of a retired key out of the DNS, where the node put it in; if it still may."""
        if self._updates is None:
            await self._note_published(domain, key, False)
            return
        waiting = self._waiting.setdefault((domain, key.selector), _Waiting())
        now = self._reactor.seconds()
        if waiting.due > now:
            return
        try:
            zone, _ = await self._servers.zone_of(domain)
            await self._updates.withdraw(zone, key.selector, domain, key.record)
        except (NotPublishedError, DNSError) as error:
            waiting.due = now + PATIENT
            if now - waiting.told >= LATE:
                waiting.told = now
                words = f"the record of this retired key was not taken out: {error}"
                self._publish(DkimKeyWaiting(domain, key.selector, round(now - key.since, 3), words))
            return
        await self._note_published(domain, key, False)

    async def _note_published(self, domain: str, key: Key, published: bool) -> None:
        await self._alter(domain, lambda keys: publishing(keys, key.selector, published))


def events_of(changed: Changed, published: str) -> list[SigningEvent]:
    """What is to be told of a change.

    :param published: who publishes records, in words; ``""``: the operator.
    """
    domain, before, events = changed.domain, changed.before, list[SigningEvent]()
    for key in changed.made:
        words = published or f"publish this record in the zone of {domain}: {one_line(domain, key)}"
        events.append(DkimKeyCreated(domain, key.selector, key.algorithm, words))
    for key in changed.after:
        was = find(before, key.selector)
        state = KeyState.NEW if was is None else was.state
        if state is KeyState.NEW and key.state is KeyState.ACTIVE:
            words = f"it replaces {' and '.join(key.replaces)}" if key.replaces else ""
            events.append(DkimKeyActivated(domain, key.selector, key.algorithm, words))
        elif state is not KeyState.RETIRED and key.state is KeyState.RETIRED:
            words = (
                "its record is taken out of the DNS"
                if key.published
                else f"its record, TXT of {owner(key.selector, domain)}, can be taken out of the DNS"
            )
            events.append(DkimKeyRetired(domain, key.selector, words))
    return events


def one_line(domain: str, key: Key) -> str:
    """The record of a key for a sentence."""
    return zone_line(key.selector, domain, key.record).replace("\n    ", " ")
