"""The way in: certificates, sign-ins, submission, room on the disk, and who really sent a mail. A part of the
composition root: built, reloaded and stopped by ``service``, which gives each listener a factory made of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted_mail_node.delivery.quota import Quota
from twisted_mail_node.directory.authentication import Authentication
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.events import Publisher
from twisted_mail_node.inbound.factory import ESMTPFactory
from twisted_mail_node.inbound.judging import Judge
from twisted_mail_node.inbound.verification import Verifier
from twisted_mail_node.interfaces import IMailQueue, IPolicy, IResolver
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.outcome import Outcome
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.net.certificates import Certificates
from twisted_mail_node.net.limits import Admission
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.policy.checks import Checks, Decision
from twisted_mail_node.policy.guessing import Guessing
from twisted_mail_node.policy.putting_off import PuttingOff
from twisted_mail_node.policy.recipients import Recipients
from twisted_mail_node.policy.submission import Submission
from twisted_mail_node.service_signing import Signing
from twisted_mail_node.settings import Listener, Settings
from twisted_mail_node.spool.room import Room
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.dmarc_results import DmarcResults

#: What was done with a mail, in the words of reports.
_DISPOSITIONS = {"refuse": "reject", "quarantine": "quarantine", "note": "none"}


class WayIn:
    """These parts.

    :ivar dmarc_results: what DMARC came to, by day and domain.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        publish: Publisher,
        *,
        state: StateDatabase,
        directory: Directory,
        resolver: IResolver,
    ) -> None:
        self._reactor = reactor
        self._publish = publish
        self._directory = directory
        self._resolver = resolver
        self.certificates = Certificates(settings, reactor, publish)
        self.authentication = Authentication(settings, directory, reactor, publish)
        self._guessing = Guessing(clock=reactor, publish=publish, longest=settings.authentication.delay_max)
        self._submission = Submission(settings.submission, reactor)
        self._room = Room(settings.state_dir, settings.limits.free_space, reactor.seconds)
        self._admission = Admission(settings.limits.connections, settings.limits.connections_per_address)
        self.dmarc_results = DmarcResults(state, reactor, settings.verification.enabled)
        self._keys = Keys(resolver, reactor.seconds)
        self._putting_off = PuttingOff(reactor.seconds, settings.verification.temperror_time)
        self._judge = self._judge_of(settings)
        if any(listener.tls != "none" for listener in settings.listeners):
            self.certificates.start()

    def factory(
        self,
        listener: Listener,
        settings: Settings,
        queue: IMailQueue,
        signing: Signing,
        policies: Sequence[IPolicy],
        quota: Quota,
    ) -> ESMTPFactory:
        """The protocol factory of a listener.

        :param signing: signs the mail of our own people, and has the keys of seals.
        :param policies: those of the settings.
        """
        return ESMTPFactory(
            queue=queue,
            signed=signing.queue(queue, must=True),
            sealing_key=signing.keys.sealing,
            clock=self._reactor,
            publish=self._publish,
            kind=listener.kind,
            now=self._reactor.seconds,
            has_room=self._room.has,
            proxy_from=listener.proxy_from,
            xclient_from=listener.xclient_from,
            admission=self._admission,
            tls=self.certificates,
            tls_mode=listener.tls,
            authentication=self.authentication,
            guessing=self._guessing,
            **self.changing(listener.kind, settings, policies, quota),
        )

    def changing(self, kind: str, settings: Settings, policies: Sequence[IPolicy], quota: Quota) -> dict[str, Any]:
        """What a factory takes from the settings, now and at every reload."""
        gate: list[IPolicy] = [Recipients(quota.over, settings.delivery.quota_reply)]
        if kind == "submission":
            gate.insert(0, self._submission)
        return {
            "hostname": settings.hostname,
            "directory": self._directory,
            "chain": Chain(policies, self._reactor, settings.limits.policy_time),
            "limits": settings.limits,
            "relay_from": settings.relay_from,
            "gate": gate,
            "submission": settings.submission,
            "handshake_time": settings.tls.handshake_time,
            "answer_time": settings.authentication.answer_time,
            "judge": self._judge,
            "authserv_id": _authserv_id(settings),
        }

    def _judge_of(self, settings: Settings) -> Judge | None:
        asked = settings.verification
        if not asked.enabled:
            return None
        verifier = Verifier(
            resolver=self._resolver,
            keys=self._keys,
            clock=self._reactor,
            now=self._reactor.seconds,
            receiver=settings.hostname,
            signatures=asked.signatures,
            exempt=asked.exempt,
            trusted=frozenset(asked.trusted_sealers),
            sample=random.random,
        )
        return Judge(
            verifier,
            Checks(settings.checks),
            self._putting_off,
            authserv_id=_authserv_id(settings),
            publish=self._publish,
            count=self._count,
        )

    def _count(self, outcome: Outcome, decision: Decision) -> None:
        done = _DISPOSITIONS[decision.action]
        self.dmarc_results.note(outcome, done, _override(outcome, decision, done))

    def reload(self, settings: Settings) -> None:
        """Let other settings be in force; the factories are configured anew by the caller. ``authentication`` is
        reloaded by the caller, too, for that may fail."""
        self._room.floor = settings.limits.free_space
        self._submission.settings = settings.submission
        self._guessing.longest = settings.authentication.delay_max
        self.certificates.reload(settings)
        self._putting_off.time = settings.verification.temperror_time
        self._judge = self._judge_of(settings)
        self.dmarc_results.enabled = settings.verification.enabled

    def stop(self) -> None:
        """End what is under way, and write what was counted."""
        self.certificates.stop()
        self.authentication.stop()
        self.dmarc_results.stop()


def _authserv_id(settings: Settings) -> str:
    return settings.verification.authserv_id or settings.hostname


def _override(outcome: Outcome, decision: Decision, done: str) -> str:
    """Why something else was done than the author's domain asks for (RFC 7489 appendix C), ``""``: it was not."""
    dmarc = outcome.dmarc
    wanted = dmarc.policy if dmarc.result is Result.FAIL else "none"
    if done == (wanted or "none"):
        return ""
    if decision.overridden:
        return "trusted_forwarder"
    return "sampled_out" if done == dmarc.asked else "local_policy"
