"""Which MTA-STS policy is in force for a domain (RFC 8461 section 5.1): asked, fetched, kept, fetched again in time.

A policy once fetched is in force until its max_age is over, whatever the DNS or the web server say meanwhile; only a
newer policy takes its place. It survives restarts in the state database. At that instant when a fetch has succeeded the
policy counts in memory; its row is written behind, so a crash in the next second costs another fetch.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.dns.wire import name_key
from twisted_mail_node.events import Publish
from twisted_mail_node.events_outbound import PolicyFetched, PolicyNotFetched
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.outbound.mtasts import PolicyError, StsPolicy, id_of, read_policy
from twisted_mail_node.outbound.mtasts_fetch import FetchError
from twisted_mail_node.outbound.tls_outcome import Notes, TlsOutcome
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.waiting import DeadlineError, within

_log = Logger()

#: Domains with a policy that are remembered, and as many that have none; those asked for longest ago are forgotten.
DOMAINS_MAX = 10_000
#: mx lines of all their policies together: some 20 MB of names, and 80 of the longest there are.
LINES_MAX = 250_000
#: Seconds for which the TXT record is not asked for again.
ASK_AGAIN = 300.0
#: Seconds after a failed fetch until the next (RFC 8461 section 3.3: five minutes or longer).
FETCH_AGAIN = 300.0
#: Seconds after which a policy in use is fetched again, whatever its id (RFC 8461 section 3.3: once a day).
REFRESH_AFTER = 86_400.0
#: Seconds until that is tried again when it failed.
REFRESH_AGAIN = 3_600.0
#: Seconds between two looks for such policies, and how many are begun at one look.
LOOK_EVERY = 600.0
REFRESHED_AT_ONCE = 200
#: Fetches at a time: a fetch may take a minute, and a few web servers that never answer must not hold up the others.
FETCHES_MAX = 20
#: Fetches that may wait for their place; with more, a domain goes without for five minutes.
WAITING_MAX = 1_000
#: Seconds a mail waits for a policy. Slow web servers must not hold up the mail of others for longer.
FIND_TIME = 60.0

TABLE = """CREATE TABLE IF NOT EXISTS mta_sts(
    domain TEXT PRIMARY KEY, id TEXT NOT NULL, mode TEXT NOT NULL, exchangers TEXT NOT NULL,
    max_age INTEGER NOT NULL, fetched REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID"""


class Problem(NamedTuple):
    """Why the last fetch of a domain's policy failed.

    :ivar result: what reports call it (RFC 8460 section 4.3): ``sts-policy-fetch-error``, ``sts-policy-invalid``,
        ``sts-webpki-invalid``.
    :ivar words: a sentence for a person.
    """

    result: str
    words: str


class _Known:
    """What is known of a domain."""

    __slots__ = ("asked", "failed", "fetching", "policy", "used")

    def __init__(self, policy: StsPolicy | None = None, used: float = 0.0) -> None:
        self.policy = policy
        self.used = used
        self.asked = 0.0  # when the TXT record was asked for
        self.failed = 0.0  # when a fetch failed
        self.fetching: list[Deferred[None]] | None = None  # who waits for the fetch under way

    def in_force(self, now: float) -> StsPolicy | None:
        return self.policy if self.policy is not None and now < self.policy.expires else None

    def is_open(self, now: float) -> bool:
        """Whether to ask for the TXT record."""
        if now < self.failed + FETCH_AGAIN:
            return False
        expired = self.policy is not None and now >= self.policy.expires
        return expired or now >= self.asked + ASK_AGAIN


class StsPolicies:
    """Knows the policies.

    :param fetch: gives a domain's policy file, or raises ``FetchError``: ``mtasts_fetch.PolicyFetch``.
    :param clock: whose seconds are since the epoch.
    :param notes: told of fetches that failed, for the reports to the domain; ``None``: nobody is.
    :ivar enabled: whether policies are obeyed at all; ``outbound.mta_sts`` of the settings.
    """

    def __init__(
        self,
        *,
        resolver: IResolver,
        fetch: Callable[[str], Awaitable[bytes]],
        state: StateDatabase,
        clock: IReactorTime,
        publish: Publish,
        notes: Notes | None = None,
        enabled: bool = True,
    ) -> None:
        self._resolver = resolver
        self._fetch = fetch
        self._state = state
        self._clock = clock
        self._publish = publish
        self._notes = notes
        self.enabled = enabled
        self._known: OrderedDict[str, _Known] = OrderedDict()  # with a policy
        self._lines = 0
        self._others: OrderedDict[str, _Known] = OrderedDict()
        self._places = DeferredSemaphore(FETCHES_MAX)
        self._under_way: set[Deferred[None]] = set()
        self._timer: IDelayedCall | None = None
        self._stopped = False
        state.tables(TABLE)
        self._read()

    def start(self) -> None:
        """From now on policies in use are fetched anew before they expire."""
        self._stopped = False
        self._timer = self._clock.callLater(LOOK_EVERY, self._look)

    def stop(self) -> None:
        """End what is under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        for fetch in list(self._under_way):
            fetch.cancel()

    async def find(self, domain: str) -> StsPolicy | None:
        """The policy in force; ``None`` where there is none, or its mode is ``none``. Takes ``FIND_TIME`` at most."""
        key = name_key(domain)
        if not self.enabled or key is None:
            return None
        if self._stopped:
            # nothing is asked any more; what is in force is so for the mail that is still under way
            last = self._known.get(key)
            policy = None if last is None else last.in_force(self._clock.seconds())
            return None if policy is None or policy.mode == "none" else policy
        known = self._known.get(key) or self._others.get(key) or _Known()
        self._keep(key, known)
        self._use(key, known)
        if known.fetching is not None or known.is_open(self._clock.seconds()):
            try:
                await within(self._clock, FIND_TIME, Deferred.fromCoroutine(self._discover(key, known)))
            except DeadlineError:
                pass  # the fetch goes on; what is known so far counts
        policy = known.in_force(self._clock.seconds())
        return None if policy is None or policy.mode == "none" else policy

    async def _discover(self, key: str, known: _Known) -> None:
        """Find out whether there is a newer policy, and fetch it; whoever comes meanwhile waits for the same fetch."""
        if known.fetching is None:
            try:
                answer = await self._resolver.query(f"_mta-sts.{key}", "TXT")
            except DNSError:
                return  # asked again with the next mail: the resolver remembers failures for a few seconds
            now = self._clock.seconds()
            policy_id = id_of(answer.records)
            if known.fetching is None:
                known.asked = now
                policy = known.in_force(now)
                if policy_id is None or (policy is not None and policy.id == policy_id):
                    return
                if now < known.failed + FETCH_AGAIN:
                    return  # another's fetch failed while we asked
                self._begin(key, known, policy_id)
        if known.fetching is not None:
            await _wait(known.fetching)

    # ---- fetching --------------------------------------------------------------------------------------------

    def _begin(self, key: str, known: _Known, policy_id: str) -> None:
        if len(self._under_way) >= WAITING_MAX:
            known.failed = self._clock.seconds()
            return
        known.fetching = []
        fetch = Deferred.fromCoroutine(self._fetch_one(key, known, policy_id))
        self._under_way.add(fetch)
        fetch.addBoth(lambda _: self._under_way.discard(fetch))

    async def _fetch_one(self, key: str, known: _Known, policy_id: str) -> None:
        try:
            await self._places.acquire()
            try:
                began = self._clock.seconds()
                policy = read_policy(await self._fetch(key), policy_id, began)
            finally:
                self._places.release()
        except CancelledError:
            return
        except FetchError as error:
            self._not_fetched(key, known, Problem(error.result, error.words))
        except PolicyError as error:
            words = f"the policy of mta-sts.{key} is not valid: {error}"
            self._not_fetched(key, known, Problem("sts-policy-invalid", words))
        except Exception:
            _log.failure("fetching a policy broke")
            self._not_fetched(key, known, Problem("sts-policy-fetch-error", f"fetching the policy of {key} broke"))
        else:
            before = self._known.get(key)
            if before is not None and before.policy is not None:
                self._lines -= len(before.policy.exchangers)
                del self._known[key]
            known.policy, known.failed = policy, 0.0
            self._keep(key, known)
            self._write(key, known)
            seconds = round(self._clock.seconds() - began, 3)
            self._publish(PolicyFetched(key, policy.mode, policy.exchangers, seconds))
        finally:
            waiting, known.fetching = known.fetching or [], None
            for waiter in waiting:
                waiter.callback(None)

    def _not_fetched(self, key: str, known: _Known, problem: Problem) -> None:
        known.failed = self._clock.seconds()
        policy = known.in_force(known.failed)
        # RFC 8461 section 3.3: told to operators, and reported; section 6: but for a domain that takes its policy back
        if policy is not None and policy.mode == "none":
            return
        self._publish(PolicyNotFetched(key, problem.words))
        if self._notes is not None:
            lines, exchangers = (policy.lines, policy.exchangers) if policy is not None else ((), ())
            self._notes.note(TlsOutcome(key, "sts", lines, exchangers, "", "", "", *problem))

    def _look(self) -> None:
        """Fetch again what is in use and old (RFC 8461 sections 3.3 and 10.2): whoever keeps us from the newer policy
        must do so for all of max_age. Forget what has expired."""
        self._timer = self._clock.callLater(LOOK_EVERY, self._look)
        now = self._clock.seconds()
        begun = 0
        for key, known in list(self._known.items()):
            policy = known.policy
            if policy is None or known.fetching is not None:
                continue
            if now >= policy.expires:
                self._forget(key)
                continue
            due = policy.fetched + min(REFRESH_AFTER, policy.max_age / 2)
            in_use = self.enabled and known.used > now - REFRESH_AFTER - LOOK_EVERY
            if in_use and now >= due and now >= known.failed + REFRESH_AGAIN and begun < REFRESHED_AT_ONCE:
                begun += 1
                self._begin(key, known, policy.id)

    # ---- remembering -----------------------------------------------------------------------------------------

    def _keep(self, key: str, known: _Known) -> None:
        """Remember a domain as the one that was asked for last."""
        if known.policy is not None:
            self._others.pop(key, None)
            if key not in self._known:
                self._lines += len(known.policy.exchangers)
                self._known[key] = known
            self._known.move_to_end(key)
            while len(self._known) > DOMAINS_MAX or self._lines > LINES_MAX:
                self._forget(next(iter(self._known)))
        else:
            self._others[key] = known
            self._others.move_to_end(key)
            while len(self._others) > DOMAINS_MAX:
                self._others.popitem(last=False)

    def _use(self, key: str, known: _Known) -> None:
        """Note that mail goes there; written twice a day at most."""
        now = self._clock.seconds()
        if known.policy is not None and now >= known.used + REFRESH_AFTER / 2:
            self._state.write("UPDATE mta_sts SET used = ? WHERE domain = ?", (now, key))
            known.used = now
        elif known.policy is None:
            known.used = now

    def _write(self, key: str, known: _Known) -> None:
        policy = known.policy
        assert policy is not None
        self._state.write(
            "INSERT OR REPLACE INTO mta_sts VALUES(?, ?, ?, ?, ?, ?, ?)",
            (key, policy.id, policy.mode, json.dumps(policy.exchangers), policy.max_age, policy.fetched, known.used),
        )

    def _forget(self, key: str) -> None:
        policy = self._known.pop(key).policy
        self._lines -= 0 if policy is None else len(policy.exchangers)
        self._state.write("DELETE FROM mta_sts WHERE domain = ?", (key,))

    def _read(self) -> None:
        """What was known before the restart."""
        now = self._clock.seconds()
        self._state.write("DELETE FROM mta_sts WHERE fetched + max_age <= ?", (now,))
        rows = self._state.read(
            "SELECT domain, id, mode, exchangers, max_age, fetched, used FROM mta_sts "
            "WHERE fetched + max_age > ? ORDER BY used DESC LIMIT ?",
            (now, DOMAINS_MAX),
        )
        for domain, policy_id, mode, exchangers, max_age, fetched, used in reversed(rows):
            try:
                policy = StsPolicy(policy_id, mode, tuple(json.loads(exchangers)), max_age, min(fetched, now))
            except (ValueError, TypeError):
                _log.warn("the kept policy of {domain} cannot be read", domain=domain)
                continue
            self._keep(domain, _Known(policy, used))


async def _wait(waiting: list[Deferred[None]]) -> None:
    """Until the fetch is over. Whoever gives up leaves the others and the fetch alone."""
    waiter: Deferred[None] = Deferred(lambda cancelled: waiting.remove(cancelled) if cancelled in waiting else None)
    waiting.append(waiter)
    await waiter
