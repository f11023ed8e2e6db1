"""What the node asks of other domains' TLS, knows of it, and tells them: decisions, levels, MTA-STS policies, counts,
reports. A part of the composition root: built, started, reloaded and stopped by ``service``.
"""

from __future__ import annotations

from typing import Any

from twisted_mail_node.events import Publisher
from twisted_mail_node.interfaces import IDirectory, IMailQueue, IResolver
from twisted_mail_node.net.https import Https
from twisted_mail_node.net.tls_client import TlsClient
from twisted_mail_node.outbound.mtasts_fetch import PolicyFetch
from twisted_mail_node.outbound.mtasts_policies import StsPolicies
from twisted_mail_node.outbound.security import Security
from twisted_mail_node.report.tls_reports import TlsReports
from twisted_mail_node.settings import Settings
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.tls_levels import TlsLevels
from twisted_mail_node.state.tls_results import TlsResults


class DomainTls:
    """These parts, and what they share.

    :ivar results: what TLS comes to.
    :ivar policies: MTA-STS policies.
    :ivar levels: what was reached with domains (``outbound.pin``).
    :ivar security: decides how the relay's connections are protected.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        publish: Publisher,
        *,
        state: StateDatabase,
        resolver: IResolver,
        tls: TlsClient,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._publish = publish
        self._state = state
        self._resolver = resolver
        self._https = Https(tls=tls, resolver=resolver, reactor=reactor, allow_local=settings.queue.loopback_exchangers)
        self.results = TlsResults(state, reactor, settings.tls_reports.enabled)
        publish.observers.append(self.results)
        self.policies = StsPolicies(
            resolver=resolver,
            fetch=PolicyFetch(self._https),
            state=state,
            clock=reactor,
            publish=publish,
            notes=self.results,
            enabled=settings.outbound.mta_sts,
        )
        self.levels = TlsLevels(state, reactor.seconds)
        self.security = Security(
            reactor.seconds,
            resolver,
            settings=settings.outbound,
            policies=self.policies,
            notes=self.results,
            levels=self.levels,
        )
        self._reports: TlsReports | None = None

    def start(self, queue: IMailQueue, directory: IDirectory) -> None:
        """Policies are fetched anew and reports are sent from now on.

        :param queue: the door for mails that carry reports.
        """
        self._reports = TlsReports(
            hostname=self._settings.hostname,
            settings=self._settings.tls_reports,
            results=self.results,
            state=self._state,
            resolver=self._resolver,
            https=self._https,
            queue=queue,
            directory=directory,
            reactor=self._reactor,
            publish=self._publish,
        )
        self.policies.start()
        self._reports.start()

    def reload(self, settings: Settings) -> None:
        """Let other settings be in force."""
        self.policies.enabled = settings.outbound.mta_sts
        self.security.reload(settings.outbound)
        self.results.enabled = settings.tls_reports.enabled
        if self._reports is not None:
            self._reports.configure(settings.tls_reports)

    def stop_reports(self) -> None:
        """No further mail comes from here."""
        if self._reports is not None:
            self._reports.stop()

    def stop(self) -> None:
        """End what is under way, and write what was counted."""
        self.stop_reports()
        self.policies.stop()
        self.results.stop()
