"""The composition root: settings in, one service out. This file alone knows every part of the node.

Starting: the lock on the state directory, the event log, the spool (with its recovery), the directory, the agents,
the queue, the control socket, and last the listeners. Stopping goes the other way: first no more mail comes in.
"""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from twisted_mail_node.admin.control import ControlService
from twisted_mail_node.admin.route_told import RouteInquiry
from twisted_mail_node.admin.traffic import Traffic
from twisted_mail_node.delivery.maildir import MaildirStore
from twisted_mail_node.delivery.quota import Quota
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.srs_keys import srs_keys
from twisted_mail_node.eventlog import EventLog, open_event_log
from twisted_mail_node.events import (
    NodeStarted,
    NodeStopped,
    Publisher,
    SettingsLoaded,
    SettingsRefused,
    SpoolDamaged,
    StateDamaged,
)
from twisted_mail_node.inbound.factory import ESMTPFactory
from twisted_mail_node.interfaces import IMailObserver
from twisted_mail_node.message.address import Address
from twisted_mail_node.net.listening import bind, first_failure, listen, place_of
from twisted_mail_node.net.tls_client import TlsClient
from twisted_mail_node.policy.plugins import policies
from twisted_mail_node.queue.queue import OutgoingQueue
from twisted_mail_node.report.bounce import Notifier
from twisted_mail_node.report.double_bounce import DoubleBounces
from twisted_mail_node.routing import Router
from twisted_mail_node.service_inbound import WayIn
from twisted_mail_node.service_outbound import WayOut
from twisted_mail_node.settings import Settings, load
from twisted_mail_node.settings_checks_security import notes
from twisted_mail_node.signing.rotation import Rotation
from twisted_mail_node.spool.spool import Spool
from twisted_mail_node.state.database import STATE_NAME, StateDatabase
from twisted_mail_node.state.dmarc_results import DmarcResults
from twisted_mail_node.state.freezes import Freezes
from twisted_mail_node.state.lock import lock
from twisted_mail_node.state.suppressions import Suppressions
from twisted_mail_node.state.tls_levels import TlsLevels
from twisted_mail_node.state.tls_results import TlsResults

#: Seconds that mail in transfer has to finish when the node stops; then the connections are cut.
STOP_INBOUND = 30.0
#: Seconds that attempts under way have to finish after that; what they leave is tried at the next start.
STOP_QUEUE = 15.0
#: Settings that are read at the start only.
AT_START = ("hostname", "state_dir", "workers", "listeners", "resolver", "queue", "log")
#: Objects made before the collector looks for cycles among the young. A mail makes hundreds and hardly a cycle.
COLLECT_AFTER = 50_000

_log = Logger()


class _Node:
    """What exists while the node runs."""

    directory: Directory
    tls_client: TlsClient
    router: Router
    spool: Spool
    state: StateDatabase
    queue: OutgoingQueue
    maildir: MaildirStore
    way_out: WayOut
    way_in: WayIn
    quota: Quota
    log: EventLog
    traffic: Traffic


class MailNode(MultiService):
    """A mail node as a Twisted service.

    :param settings: what it is to be.
    :param reactor: Twisted's reactor.
    :param path: the settings file, read again by ``reload``; ``None`` when there is none.
    :param observers: see every event, beside the event log.
    """

    def __init__(
        self, settings: Settings, reactor: Any, path: Path | None = None, observers: tuple[IMailObserver, ...] = ()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings = settings
        self.publish = Publisher(observers)
        self._reactor = reactor
        self._path = path
        self._policies = policies(settings.policies)
        self._parts = _Node()
        self._factories: list[ESMTPFactory] = []
        self._ports: list[IListeningPort] = []
        self._bound: list[socket.socket | None] = []
        self._lock = -1
        self._keys: tuple[bytes, ...] = ()
        self._began = 0.0

    @property
    def queue(self) -> OutgoingQueue:
        """The queue of the running node."""
        return self._parts.queue

    @property
    def spool(self) -> Spool:
        """The spool of the running node."""
        return self._parts.spool

    @property
    def suppressions(self) -> Suppressions:
        """The suppression list of the running node."""
        return self._parts.way_out.suppressions

    @property
    def dkim(self) -> Rotation:
        """Looks after the keys that sign mail."""
        return self._parts.way_out.signing.rotation

    @property
    def inquiry(self) -> RouteInquiry:
        """Answers what would become of a mail."""
        parts, out = self._parts, self._parts.way_out
        return RouteInquiry(
            parts.directory, parts.router, out.relay, self._reactor, parts.queue.status, out.suppressions.find
        )

    @property
    def tls_levels(self) -> TlsLevels:
        """The protection that was reached with domains."""
        return self._parts.way_out.domain_tls.levels

    @property
    def dmarc_results(self) -> DmarcResults:
        """What came of DMARC."""
        return self._parts.way_in.dmarc_results

    @property
    def tls_results(self) -> TlsResults:
        """What came of TLS with other hosts."""
        return self._parts.way_out.domain_tls.results

    # ---- start -----------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Take the places of the listeners while the process may: before it gives up root. Nothing else is done.

        :raises CannotListenError: one is taken, or not ours to take.
        """
        try:
            for listener in self.settings.listeners:
                self._bound.append(bind(listener.endpoint))
        except BaseException:
            self._unbind()
            raise

    def _unbind(self) -> None:
        """Give back what nobody listens on."""
        while self._bound:
            place = self._bound.pop()
            if place is not None:
                place.close()

    def startService(self) -> Deferred[None]:
        """Start every part; fires when the node listens.

        :raises OSError: (as failure) the state directory, the log, a port … cannot be used.
        :raises ValueError: (as failure) what the settings name does not exist, or the spool cannot be opened.
        """
        started = maybeDeferred(self._build)
        started.addCallback(lambda _: self._listen())
        started.addErrback(self._take_down)
        return started

    def _build(self) -> None:
        settings, reactor, parts = self.settings, self._reactor, self._parts
        self._began = reactor.seconds()
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(settings.state_dir)
        parts.log = open_event_log(settings.log.path, settings.state_dir, reactor)
        parts.traffic = Traffic(reactor.seconds)
        self.publish.observers += (parts.log, parts.traffic)
        parts.spool = Spool(settings.state_dir / "spool", reactor, reactor.seconds)
        parts.state = StateDatabase(settings.state_dir / STATE_NAME, reactor)
        if parts.spool.store.damaged is not None:
            self.publish(SpoolDamaged(str(parts.spool.store.damaged.path), parts.spool.store.damaged.words))
        if parts.state.damaged is not None:
            self.publish(StateDamaged(str(parts.state.damaged), parts.state.words))
        self._keys = srs_keys(settings)
        parts.directory = Directory(settings, self._keys, reactor.seconds)
        parts.router = Router(settings.routes, parts.directory, settings.domains)
        parts.quota = Quota(parts.directory.quota, self._maildir_of, reactor)
        parts.maildir = MaildirStore(
            path_of=self._maildir_of,
            reactor=reactor,
            hostname=settings.hostname,
            sync=settings.delivery.sync,
            delivered=parts.quota.delivered,
            junk_folder=settings.delivery.junk_folder or "",
        )
        parts.maildir.start()
        parts.tls_client = TlsClient(_trusted(settings))
        parts.way_out = way_out = WayOut(
            settings, reactor, self.publish, state=parts.state, directory=parts.directory, tls=parts.tls_client
        )
        parts.way_in = WayIn(
            settings, reactor, self.publish, state=parts.state, directory=parts.directory, resolver=way_out.resolver
        )
        notifier: Notifier
        parts.queue = OutgoingQueue(
            spool=parts.spool,
            router=parts.router,
            agents={"maildir": parts.maildir, "relay": way_out.relay},
            notify=lambda mail, told, until=None: notifier(mail, told, until),
            clock=reactor,
            publish=self.publish,
            settings=settings.queue,
            hostname=settings.hostname,
            suppressions=way_out.suppressions,
            rewrite=parts.directory.forwarding.reverse_path,
            limits=way_out.limits,
            exchangers_of=way_out.relay.exchanger_names,
            freezes=Freezes(parts.state),
        )
        notifier = Notifier(
            hostname=settings.hostname,
            queue=way_out.signing.queue(parts.queue, must=False),
            directory=parts.directory,
            reactor=reactor,
            clock=reactor,
            publish=self.publish,
            double_bounces=DoubleBounces(self._postmaster, reactor) if settings.queue.double_bounces else None,
        )
        self.addService(ControlService(self, settings.state_dir / "control.sock", reactor))  # type: ignore[no-untyped-call]
        super().startService()  # type: ignore[no-untyped-call]
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 20, 20)

    def _listen(self) -> Deferred[None]:
        settings, reactor, parts = self.settings, self._reactor, self._parts
        waiting = []
        places, self._bound = self._bound or [None] * len(settings.listeners), []
        for listener, place in zip(settings.listeners, places, strict=True):
            signing = parts.way_out.signing
            factory = parts.way_in.factory(listener, settings, parts.queue, signing, self._policies, parts.quota)
            self._factories.append(factory)
            waiting.append(listen(reactor, listener.endpoint, factory, place).addCallback(self._ports.append))
        return gatherResults(waiting, consumeErrors=True).addCallbacks(self._begin, first_failure)

    def _begin(self, _: object) -> None:
        parts, settings = self._parts, self.settings
        listeners = tuple(f"{listener.kind} {listener.endpoint}" for listener in settings.listeners)
        self.publish(NodeStarted(settings.hostname, listeners, parts.spool.recovered))
        for words in (*notes(settings), *parts.directory.problems()):
            _log.warn("{words}", words=words)
        parts.queue.start()
        parts.way_out.start(parts.queue, parts.directory)

    def _postmaster(self) -> Address:
        return Address("postmaster", self._parts.directory.first_domain())

    def _maildir_of(self, address: Address) -> Path | None:
        directory = self._parts.directory
        return directory.maildir_path(address) if directory.mailbox_exists(address) else None

    # ---- reload ----------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the settings, the accounts and the aliases again (SIGHUP); open the event log anew.

        :raises ValueError: they are wrong; the old ones stay in force.
        """
        parts, path = self._parts, self._path
        parts.log.reopen()
        try:
            read = load(path) if path is not None else self.settings
            settings = read.model_copy(update={key: getattr(self.settings, key) for key in AT_START})
            made = policies(settings.policies)
            keys = srs_keys(settings)
            way_out = parts.way_out.read(settings)
            parts.directory.reload(settings, keys)
            try:
                parts.tls_client.reload(_trusted(settings))
                parts.way_in.authentication.reload(settings)
            except ValueError:
                parts.directory.reload(self.settings, self._keys)
                raise
        except (ValueError, OSError) as error:
            self.publish(SettingsRefused(str(path or ""), str(error)))
            raise ValueError(str(error)) from error
        changed = [key for key in AT_START if getattr(read, key) != getattr(self.settings, key)]
        if settings.delivery.sync != self.settings.delivery.sync:
            changed.append("delivery.sync")
        if changed:
            _log.warn("these settings count from the next start only: {keys}", keys=", ".join(changed))
        self.settings = settings
        self._keys = keys
        self._policies = made
        parts.router.reload(settings.routes, settings.domains)
        parts.way_out.reload(settings, way_out)
        parts.queue.limits_changed()
        parts.maildir.junk_folder = settings.delivery.junk_folder or ""
        parts.way_in.reload(settings)
        for factory in self._factories:
            factory.configure(**parts.way_in.changing(factory.kind, settings, made, parts.quota))
        self.publish(SettingsLoaded(str(path or "")))

    # ---- stop ------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Stop in order: no new connections; 421 to idle sessions; mail in transfer finishes; all is committed."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if not self.running:
            return
        began = self._reactor.seconds()
        ports, self._ports = self._ports, []
        await gatherResults([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)
        await gatherResults([factory.stop(STOP_INBOUND) for factory in self._factories])
        self._parts.way_out.domain_tls.stop_reports()
        await self._parts.queue.stop(STOP_QUEUE)
        await Deferred.fromCoroutine(self._parts.way_out.relay.close(STOP_QUEUE))
        await self._parts.maildir.close()
        await maybeDeferred(super().stopService)
        self.publish(NodeStopped(round(self._reactor.seconds() - began, 3)))
        self._close()

    def _close(self) -> None:
        parts = self._parts
        for name in ("way_in", "way_out"):
            part = getattr(parts, name, None)
            if part is not None:
                part.stop()
        for name in ("spool", "state", "log"):
            part = getattr(parts, name, None)
            if part is not None:
                part.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _unwind(self) -> None:
        self._unbind()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self._ports.clear()
        if self.running:
            await maybeDeferred(super().stopService)
        maildir = getattr(self._parts, "maildir", None)
        if maildir is not None:
            await maildir.close()
        self._close()

    def _take_down(self, failure: Any) -> Deferred[Any]:
        """The start failed: give back what was taken, and tell why."""
        return Deferred.fromCoroutine(self._unwind()).addBoth(lambda _: failure)

    # ---- for operators ---------------------------------------------------------------------------------------

    def rates(self) -> tuple[float, float]:
        """Mails accepted and finished a second, lately."""
        return self._parts.traffic.rates()

    def status(self) -> dict[str, Any]:
        """What ``mailnode status`` shows."""
        settings = self.settings
        return {
            "hostname": settings.hostname,
            "state_dir": str(settings.state_dir),
            "settings": str(self._path or ""),
            "seconds": round(self._reactor.seconds() - self._began, 1),
            "listeners": [
                {"kind": factory.kind, "address": place_of(port.getHost()), "sessions": len(factory.connections)}
                for factory, port in zip(self._factories, self._ports, strict=False)
            ],
            "queue": self._parts.queue.status(),
            "relay": self._parts.way_out.relay.status(),
            "suppressions": self._parts.way_out.suppressions.status(),
        }


def _trusted(settings: Settings) -> Path | None:
    """Where the certificates lie that sign those of other hosts; ``None``: the system knows."""
    return None if settings.tls.trusted is None else settings.state_dir / settings.tls.trusted
