"""The connections to one next hop: kept while there is mail, opened as the backlog grows, closed when they idle.

Jobs that find no idle connection wait in line, and a busy connection takes the next of them by itself: so a few
connections carry many mails, each without a wait of its own. Opening follows the backlog, and the clock when a host
is slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.logger import Logger

from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.dns.exchangers import NoExchanger
from twisted_mail_node.events import AttemptFailed
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.connection import RelayConnection
from twisted_mail_node.outbound.job import Broken, Job
from twisted_mail_node.outbound.judgement import Judgement
from twisted_mail_node.outbound.means import Means, Target
from twisted_mail_node.outbound.need import FELL_BACK, Demand
from twisted_mail_node.outbound.signing_in import secured
from twisted_mail_node.outbound.slots import NoSlot, Slot
from twisted_mail_node.outbound.sources import Chosen, cannot_bind, no_source
from twisted_mail_node.reasons import Reason

#: Waiting mails for which one connection is thought enough, when the host is quick: opening costs several round trips.
JOBS_PER_CONNECTION = 10
#: Seconds a mail waits until we think the host slow and open one more connection.
SLOW_AFTER = 0.2
#: Seconds between two looks at the line while mails wait.
LOOK_EVERY = 0.25
#: Seconds without new connections after a host refused one while others stand: it has its own idea of how many.
OPEN_AGAIN = 10.0
#: Connections that may break with a mail in hand before the mail is put off.
TRIES_MAX = 3

SHUTTING_DOWN = DeliveryStatus(Action.DELAYED, "4.3.2", Reason.SHUTTING_DOWN, "the node is stopping")
_EXPIRED = DeliveryStatus(
    Action.DELAYED, "4.4.1", Reason.REMOTE_TIMEOUT, "no connection had room for the mail within the attempt's time"
)

_log = Logger()


class Pool:
    """All connections to one next hop on which the same is asked, and the jobs that wait for one.

    :param targets: finds the hosts in the order to try them; raises ``NoExchanger`` or ``DNSError``.
    :param emptied: called when nothing is left: no job, no connection.
    """

    def __init__(
        self,
        demand: Demand,
        means: Means,
        targets: Callable[[], Awaitable[Sequence[Target]]],
        emptied: Callable[[Pool], None],
    ) -> None:
        self.demand = demand
        self.next_hop = demand.next_hop
        self._means = means
        self._targets = targets
        self._emptied = emptied
        self._limit = means.limits.of(demand.next_hop)  # by its exchangers, once they are known
        self._waiting: deque[Job] = deque()
        self._ready: list[RelayConnection] = []  # introduced and not leaving
        self._idle: list[RelayConnection] = []  # of these, without a job; the last one was busy last
        self._all: set[RelayConnection] = set()  # connected, until they are gone
        self._connecting: set[Deferred[IProtocol]] = set()
        self._opening = 0
        self._open_again = 0.0
        self._timer: IDelayedCall | None = None
        self._closing = False
        self._renewals = 0

    def submit(self, job: Job) -> None:
        """Send it as soon as may be."""
        if self._closing:
            job.settle_todo(SHUTTING_DOWN)
        elif self._idle:
            self._idle.pop().run(job)
        else:
            self._waiting.append(job)
            self._consider()

    def close(self) -> None:
        """Send back who waits, let transfers end, QUIT. ``emptied`` tells when that is done."""
        self._closing = True
        while self._waiting:
            self._waiting.popleft().settle_todo(SHUTTING_DOWN)
        self._means.slots.withdraw(self, self._limit.key)
        for connecting in list(self._connecting):
            connecting.cancel()
        for connection in list(self._all):
            if connection.introduced.called:
                connection.leave()
            else:
                connection.abort()
        self._look_whether_empty()

    def abort(self) -> None:
        """End every connection now; mails whose content was sent become ``uncertain``."""
        self.close()
        for connection in list(self._all):
            connection.abort()

    def renew(self) -> None:
        """The settings have changed: let every connection end after the mail it carries. One that is being opened by
        what they said before carries none."""
        self._renewals += 1
        self._renew()

    def _renew(self) -> None:
        for connection in list(self._ready):
            connection.leave()

    # what the slots ask (outbound.slots.Owner)

    @property
    def in_need(self) -> bool:
        """Mail waits for a connection."""
        return bool(self._waiting) and not self._closing

    def give_way(self) -> bool:
        """Close the connection that has idled longest."""
        if not self._idle:
            return False
        self._idle[0].leave()
        return True

    def status(self) -> dict[str, object]:
        """Connections, how they are protected, and waiting mails, for the control socket."""
        sessions = [connection.tls for connection in self._ready if connection.tls is not None]
        return {
            "next_hop": self.next_hop,
            "tls": self.demand.protection,
            "connections": len(self._ready),
            "secured": len(sessions),
            "verified": sum(connection.verified for connection in self._ready),
            "idle": len(self._idle),
            "opening": self._opening,
            "waiting": len(self._waiting),
        }

    # what connections call (outbound.connection.Owner)

    def take(self, connection: RelayConnection) -> Job | None:
        """The job that has waited longest and may go to this host; none when another pool has waited for the slot."""
        waiting = self._waiting
        if connection.mails >= JOBS_PER_CONNECTION and self._means.slots.is_wanted(self._limit.key, self):
            return None
        while waiting:
            job = waiting[0]
            if job.is_over:
                waiting.popleft()
            elif connection.address not in job.avoid:
                return waiting.popleft()
            else:
                break
        for job in waiting:
            if not job.is_over and connection.address not in job.avoid:
                waiting.remove(job)
                return job
        return None

    def parked(self, connection: RelayConnection) -> None:
        """It waits for a job; not when others wait for its slot."""
        self._idle.append(connection)
        if not self._waiting:
            self._means.slots.withdraw(self, self._limit.key)
        if self._means.slots.is_wanted(self._limit.key):
            connection.leave()

    def put_back(self, job: Job, connection: RelayConnection, broken: Broken | None) -> None:
        """A connection ended before it had sent ``job``.

        A kept connection may always end (hosts close those that idle): the job goes to another. When a new one
        breaks with its first mail, its host is not asked again about this job in this attempt.
        """
        if broken is not None:
            job.tries += 1
            job.failure = broken.delivery_status(connection.peer)
            if connection.finished == 0:
                job.avoid += (connection.address,)
                self._failed(connection.host, connection.address, job.failure)
            if job.tries >= TRIES_MAX or job.expires <= self._means.reactor.seconds():
                job.settle_todo(job.failure)
                return
        if self._closing:
            job.settle_todo(SHUTTING_DOWN)
            return
        for idle in self._idle:
            if idle.address not in job.avoid:
                self._idle.remove(idle)
                idle.run(job)
                return
        self._waiting.appendleft(job)
        self._consider()

    def leaving(self, connection: RelayConnection) -> None:
        """It takes no more jobs."""
        for group in (self._ready, self._idle):
            if connection in group:
                group.remove(connection)

    def quitting(self, connection: RelayConnection) -> None:
        """It has left in order: another may be opened in its place."""
        self._consider()

    def gone(self, connection: RelayConnection) -> None:
        """It has ended."""
        self._all.discard(connection)
        self._consider()
        self._look_whether_empty()

    # opening

    def _consider(self) -> None:
        """Open as many connections as the backlog is worth."""
        waiting = len(self._waiting)
        if not waiting:
            return
        if self._timer is None:
            self._timer = self._means.reactor.callLater(LOOK_EVERY, self._look)
        have = len(self._ready) + self._opening
        wanted = min(self._limit.connections, -(-waiting // JOBS_PER_CONNECTION))
        if have < wanted and (not have or self._open_again <= self._means.reactor.seconds()):
            for _ in range(wanted - have):
                self._open(())
        elif not self._opening and (avoid := self._unserved()):
            self._open(avoid)

    def _unserved(self) -> tuple[str, ...]:
        """What to avoid for a job that no connection can take; empty when there is no such job."""
        for job in self._waiting:
            if job.avoid and not self._is_served(job):
                return job.avoid
        return ()

    def _is_served(self, job: Job) -> bool:
        return any(connection.address not in job.avoid for connection in self._ready)

    def _look(self) -> None:
        """While jobs wait: send back who waited too long, and open one more connection to a slow host."""
        self._timer = None
        now = self._means.reactor.seconds()
        for job in [job for job in self._waiting if job.is_over or job.expires <= now]:
            self._waiting.remove(job)
            job.settle_todo(job.failure or _EXPIRED)
        waiting = self._waiting
        if not waiting:
            self._means.slots.withdraw(self, self._limit.key)
            self._look_whether_empty()
            return
        slow = waiting[0].queued + SLOW_AFTER <= now
        have = len(self._ready) + self._opening
        if slow and not self._opening and have < self._limit.connections and self._open_again <= now:
            self._open(self._unserved())
        self._consider()

    def _open(self, avoid: tuple[str, ...]) -> None:
        if not avoid and self._waiting:
            avoid = self._waiting[0].avoid
        self._opening += 1
        opening = Deferred.fromCoroutine(self._try_hosts(avoid))
        opening.addErrback(lambda failure: _log.failure("opening a connection broke", failure))

    async def _try_hosts(self, avoid: tuple[str, ...]) -> None:
        """Connect to the first host that is ready for mail; when there is none, say so to the jobs that wait."""
        failures: list[DeliveryStatus] = []
        skipped = False
        renewals = self._renewals
        try:
            targets = await self._targets()
            if targets:
                self._limit = targets[0].limit
            for target in targets:
                if target.address in avoid:
                    skipped = True
                    continue
                if self._closing:
                    break
                failure = await self._try(target)
                if failure is None:
                    self._opening -= 1
                    if renewals != self._renewals:
                        self._renew()
                    return
                failures.append(failure)
                if failure.reason not in (Reason.NO_SOURCE, Reason.SHUTTING_DOWN):
                    self._failed(target.host, target.address, failure)
        except NoSlot as error:
            if error.needless:
                self._opening -= 1
                self._look_whether_empty()
                return
            failures = [DeliveryStatus(Action.DELAYED, "4.4.5", Reason.DESTINATION_BUSY, str(error))]
        except NoExchanger as error:
            action = Action.FAILED if error.permanent else Action.DELAYED
            failures = [DeliveryStatus(action, error.status, error.reason, error.words)]
        except DNSError as error:
            failures = [DeliveryStatus(Action.DELAYED, "4.4.3", Reason.DNS_FAILED, str(error))]
        except Exception:
            _log.failure("no connection to {next_hop} could be opened", next_hop=self.next_hop)
            failures = [DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, "something broke in the node")]
        self._opening -= 1
        self._open_again = self._means.reactor.seconds() + OPEN_AGAIN
        if not self._opening:
            self._give_up(_verdict(failures, skipped) if failures else None)

    async def _try(self, target: Target) -> DeliveryStatus | None:
        """One host: ``None`` when it is ready for mail. Where TLS is opportunistic and breaks, again in the clear."""
        if target.found is not None:
            target = target._replace(need=await self._means.security.need(self.demand, target.found, target.address))
        need = target.need
        if need.refusal:
            self._judged(target, Judgement("", need.refusal, result=need.result) if need.result else None)
            words = f"{need.refusal}; {need.why}" if need.why else need.refusal
            return DeliveryStatus(Action.DELAYED, need.status, need.reason, words, target.host, target.address)
        if target.plan.sign_in is not None and not target.plan.is_local:
            need = secured(need, target.plan.sign_in, target.host)
            target = target._replace(need=need)
        if self._closing:  # meanwhile the DNS was asked
            return SHUTTING_DOWN
        failure = await self._connect(target)
        if failure is None or failure.reason is not Reason.TLS_FAILED or need.must or self._closing:
            return failure
        # RFC 7435 section 3: whoever would have taken the clear gets the clear, not nothing.
        words = f"{failure.words}; it is tried again in the clear"
        self._failed(target.host, target.address, failure._replace(words=words))
        self._means.security.broke(target.address)
        return await self._connect(target._replace(need=FELL_BACK))

    async def _connect(self, target: Target) -> DeliveryStatus | None:
        """One connection, from an address of ours that can be used: ``None`` when its host is ready for mail."""
        slot = await self._means.slots.take(self, target.limit.key, target.limit.connections)
        unusable: tuple[str, ...] = ()
        while (source := self._means.sources.choose(target.pool, target.ip, unusable)) is not None:
            failure = await self._connect_from(source, target, slot)
            if failure is None or failure.reason is not Reason.NO_SOURCE:
                return failure
            self._failed(target.host, target.address, failure)
            unusable += (source.address,)
        slot.give_back()
        return no_source(target.pool, target.host, target.address, unusable)

    async def _connect_from(self, source: Chosen, target: Target, slot: Slot) -> DeliveryStatus | None:
        """The same from one address; ``NO_SOURCE`` when it cannot be used. The connection has the slot otherwise."""
        host, address = target.host, target.address
        means = self._means
        connection = RelayConnection(
            self,
            hostname=source.hostname or means.hostname,
            reactor=means.reactor,
            host=host,
            address=address,
            mails_max=target.limit.mails_per_connection,
            times=means.times,
            need=target.need,
            tls=means.tls,
            plan=target.plan._replace(source=source.address),
            lost=slot.give_back,
        )
        # Introduced is who is ready for mail: from then on it takes jobs by itself, so it must be known before it does.
        connection.introduced.addCallback(lambda _: self._ready.append(connection))
        self._all.add(connection)
        connecting: Deferred[IProtocol] | None = None
        try:
            connecting = means.connect(target, connection, source.address)
            self._connecting.add(connecting)
            await connecting
        except ConnectBindError as error:
            self._all.discard(connection)
            return cannot_bind(source.address, host, address, error)
        except Exception as error:
            self._all.discard(connection)
            slot.give_back()
            words = f"no connection to {host} ({address}): {error}"
            return DeliveryStatus(
                Action.DELAYED, "4.4.1", Reason.CONNECT_FAILED, words, host, address, source=source.address
            )
        finally:
            if connecting is not None:
                self._connecting.discard(connecting)
        try:
            await connection.introduced
        except Broken as broken:
            self._judged(target, connection.judgement, connection)
            status = broken.delivery_status(connection.peer)
            if broken.reason in (Reason.CONNECTION_LOST, Reason.REMOTE_DELAYED):
                status = status._replace(reason=Reason.HOST_NOT_READY)
            return status._replace(status=f"4{status.status[1:]}")
        self._judged(target, connection.judgement, connection)
        if self._closing:
            connection.leave()
        return None

    def _judged(self, target: Target, judgement: Judgement | None, connection: RelayConnection | None = None) -> None:
        if target.found is None:
            return
        ours = "" if connection is None else connection.own_ip
        self._means.security.came_to(self.demand, target.found, target.need, judgement, (ours, target.ip))

    def _failed(self, host: str, address: str, status: DeliveryStatus) -> None:
        self._means.publish(AttemptFailed(self.next_hop, host, address, str(status.reason), status.words))

    def _give_up(self, failure: DeliveryStatus | None) -> None:
        """Nobody new will take what waits: it is over for every job that no standing connection can take.

        :param failure: ``None`` when there was no host that had not broken off before; only those it had are over.
        """
        for job in [job for job in self._waiting if not self._is_served(job)]:
            status = SHUTTING_DOWN if self._closing else failure or job.failure
            if status is not None:
                self._waiting.remove(job)
                job.settle_todo(status)
        self._consider()
        self._look_whether_empty()

    def _look_whether_empty(self) -> None:
        if not self._waiting and not self._all and not self._opening:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._emptied(self)


def _verdict(failures: list[DeliveryStatus], skipped: bool) -> DeliveryStatus:
    """What it means that no host took us: a delay, unless each of them said what no waiting will change.

    That is a greeting of 5yz, which speaks for one host only: RFC 7504 section 4 wants the others asked, and the mail
    returned when all say so. And it is that a host cannot have a mail with REQUIRETLS (RFC 8689 section 4.2.1).

    :param skipped: a host was left out, so nothing is final.
    """
    last = next((failure for failure in reversed(failures) if failure.reason is not Reason.NO_SOURCE), failures[-1])
    if skipped or not all(failure.reason in (Reason.HOST_REFUSED, Reason.REQUIRETLS) for failure in failures):
        return last
    return last._replace(action=Action.FAILED, status=f"5{last.status[1:]}")
