"""The way out to other hosts: resolver, limits, sources, sign-ins, protection, signatures, the relay, and whom nothing
is sent to.
A part of the composition root: built, reloaded and stopped by ``service``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.dns.resolver import StubResolver
from twisted_mail_node.events import Publisher
from twisted_mail_node.interfaces import IMailQueue
from twisted_mail_node.net.own import own_addresses
from twisted_mail_node.net.tls_client import TlsClient
from twisted_mail_node.net.transport import connect
from twisted_mail_node.outbound.relay import RelayManager
from twisted_mail_node.outbound.sign_ins import SignIns
from twisted_mail_node.outbound.sources import Sources
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.service_signing import KeysRead, Signing
from twisted_mail_node.service_tls import DomainTls
from twisted_mail_node.settings import Settings
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.suppressions import Suppressions


def resolver_of(settings: Settings, reactor: Any) -> StubResolver:
    """The resolver of these settings."""
    asked = settings.resolver
    return StubResolver(
        servers=asked.servers,
        reactor=reactor,
        timeout=asked.timeout,
        attempts=asked.attempts,
        trusted=asked.trusted,
    )


class FilesRead(NamedTuple):
    """What a reload needs of the disk, read before anything is changed."""

    sign_ins: SignIns
    keys: KeysRead


class WayOut:
    """These parts.

    :ivar domain_tls: what is asked and known of other domains' TLS.
    :ivar signing: what our own mail is signed with.
    :ivar resolver: asks the DNS.
    :ivar limits: what holds for destinations.
    :ivar suppressions: addresses that are not tried any more.
    :raises ValueError: a file that the settings name cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        publish: Publisher,
        *,
        state: StateDatabase,
        directory: Directory,
        tls: TlsClient,
    ) -> None:
        self.resolver = resolver = resolver_of(settings, reactor)
        self.domain_tls = DomainTls(settings, reactor, publish, state=state, resolver=resolver, tls=tls)
        self.signing = Signing(settings, reactor, publish, resolver)
        self.limits = Limits(settings.destinations, settings.queue)
        self.sources = Sources(settings.sources)
        self.sign_ins = SignIns(settings.routes, settings.state_dir, reactor)
        self.relay = RelayManager(
            hostname=settings.hostname,
            resolver=resolver,
            reactor=reactor,
            publish=publish,
            settings=settings.queue,
            own_addresses=own_addresses(),
            allow_loopback=settings.queue.loopback_exchangers,
            tls=tls,
            handshake_time=settings.tls.handshake_time,
            security=self.domain_tls.security,
            connect=connect,
            limits=self.limits,
            sources=self.sources,
            sign_ins=self.sign_ins,
        )
        self.suppressions = Suppressions(state, settings.suppression, reactor.seconds, publish, directory.is_local)
        self.suppressions.start(reactor)
        self._reactor = reactor

    def start(self, queue: IMailQueue, directory: Directory) -> None:
        """Look after policies, reports and keys from now on.

        :param queue: the door for mails that carry reports.
        """
        self.domain_tls.start(self.signing.queue(queue, must=False), directory)
        self.signing.start()

    def read(self, settings: Settings) -> FilesRead:
        """What ``reload`` needs.

        :raises ValueError: a file that the settings name cannot be used.
        """
        sign_ins = SignIns(settings.routes, settings.state_dir, self._reactor)
        return FilesRead(sign_ins, self.signing.read(settings))

    def reload(self, settings: Settings, read: FilesRead) -> None:
        """Let other settings be in force.

        :param read: of their files.
        """
        self.suppressions.reload(settings.suppression)
        self.limits.reload(settings.destinations)
        self.sources.reload(settings.sources)
        self.sign_ins.reload(read.sign_ins)
        self.signing.reload(settings, read.keys)
        self.relay.renew()
        self.domain_tls.reload(settings)

    def stop(self) -> None:
        """Write what was learned, and end what is under way."""
        self.signing.stop()
        self.suppressions.stop()
        self.domain_tls.stop()
