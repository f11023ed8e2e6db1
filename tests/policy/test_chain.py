"""Tests of twisted_mail_node.policy.chain."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.inbound.receiving import TestReceiver
from twisted_mail_node.interfaces import IPolicy
from twisted_mail_node.policy.chain import FAILED, STAGES, Chain, Stage
from twisted_mail_node.policy.verdict import Accept, Asked, Hold, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason

ASKED = Asked("1", "mx", "192.0.2.9")


class Rcpt(Policy):
    """Says at RCPT what it was made with.

    :ivar asked: how often it was asked.
    """

    name = "rcpt"

    def __init__(self, verdict: Verdict | None = None, error: Exception | None = None) -> None:
        self._verdict = verdict
        self._error = error
        self.asked = 0

    async def rcpt(self, asked: Asked) -> Verdict | None:
        self.asked += 1
        if self._error is not None:
            raise self._error
        return self._verdict


class Silent(Policy):
    """Never answers."""

    name = "silent"

    def __init__(self) -> None:
        self.cancelled = 0

    def _cancelled(self, _: object) -> None:
        self.cancelled += 1

    async def rcpt(self, asked: Asked) -> Verdict | None:
        return await Deferred[Verdict | None](self._cancelled)


@implementer(IPolicy)
class Plain:
    """A policy that is no subclass of ``Policy`` and answers with Deferreds."""

    name = "plain"

    def __init__(self) -> None:
        self.stages: list[str] = []

    def _at(self, stage: str) -> Deferred[Verdict | None]:
        self.stages.append(stage)
        return succeed(Hold() if stage == "content" else None)

    def connect(self, asked: Asked) -> Awaitable[Verdict | None]:
        return self._at("connect")

    def helo(self, asked: Asked) -> Awaitable[Verdict | None]:
        return self._at("helo")

    def mail(self, asked: Asked) -> Awaitable[Verdict | None]:
        return self._at("mail")

    def rcpt(self, asked: Asked) -> Awaitable[Verdict | None]:
        return self._at("rcpt")

    def content(self, asked: Asked) -> Awaitable[Verdict | None]:
        return self._at("content")


class ChainTests(SynchronousTestCase):
    """Asking."""

    def setUp(self) -> None:
        self.clock = Clock()

    def ask(self, *policies: IPolicy, stage: Stage = "rcpt") -> Deferred[Verdict | None]:
        """Ask a chain of these."""
        return Deferred.fromCoroutine(Chain(policies, self.clock, 30).ask(stage, ASKED))

    def test_first_verdict(self) -> None:
        """The first verdict ends the stage; those behind it are not asked."""
        silent, accepting, refusing = Rcpt(), Rcpt(Accept()), Rcpt(Refuse(FAILED))
        self.assertEqual(self.successResultOf(self.ask(silent, accepting, refusing)), Accept())
        self.assertEqual((silent.asked, accepting.asked, refusing.asked), (1, 1, 0))

    def test_no_opinion(self) -> None:
        """Without an opinion, or without policies, there is no verdict and no timer."""
        self.assertIsNone(self.successResultOf(self.ask(Rcpt(), Rcpt())))
        self.assertIsNone(self.successResultOf(self.ask()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_raises(self) -> None:
        """A policy that breaks is 451 4.3.0 with a traceback in the log; nobody behind it lets the mail through."""
        behind = Rcpt(Accept())
        verdict = self.successResultOf(self.ask(Rcpt(error=ZeroDivisionError()), behind))
        self.assertEqual(verdict, Refuse(FAILED, Reason.POLICY_FAILED))
        self.assertEqual((FAILED.code, FAILED.enhanced, behind.asked), (451, "4.3.0", 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_never_answers(self) -> None:
        """One that never answers is 451 4.3.0 when its time is over, and what it waits for is cancelled."""
        policy = Silent()
        asking = self.ask(policy)
        self.clock.advance(29.9)
        self.assertNoResult(asking)
        self.clock.advance(0.2)
        self.assertEqual(self.successResultOf(asking), Refuse(FAILED, Reason.POLICY_FAILED))
        self.assertEqual(policy.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flushLoggedErrors()

    def test_time_is_shared(self) -> None:
        """The time is that of the stage, not of each policy."""
        waiting: list[Deferred[None]] = []

        class Slow(Policy):
            name = "slow"

            async def rcpt(self, asked: Asked) -> Verdict | None:
                waiting.append(Deferred())
                await waiting[-1]
                return None

        asking = self.ask(Slow(), Slow())
        self.clock.advance(20)
        waiting[0].callback(None)
        self.clock.advance(9)
        self.assertNoResult(asking)
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(asking), Refuse(FAILED, Reason.POLICY_FAILED))
        self.flushLoggedErrors()

    def test_no_verdict(self) -> None:
        """What is no verdict is a broken policy: 451, never a way through."""
        for nonsense in (True, False, "250", 250, FAILED):
            verdict = self.successResultOf(self.ask(Rcpt(cast("Verdict", nonsense))))
            self.assertEqual(verdict, Refuse(FAILED, Reason.POLICY_FAILED), nonsense)
            self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_cares(self) -> None:
        """A stage that no policy overrides is never asked."""
        chain = Chain([Rcpt(), Policy()], self.clock, 30)
        self.assertEqual([stage for stage in STAGES if chain.cares(stage)], ["rcpt"])
        self.assertEqual([stage for stage in STAGES if Chain([], self.clock, 30).cares(stage)], [])

    def test_any_object(self) -> None:
        """Whatever provides IPolicy is asked at each stage, and may answer with Deferreds."""
        policy = Plain()
        self.assertTrue(verifyObject(IPolicy, policy))
        self.assertTrue(verifyObject(IPolicy, Policy()))
        for stage in STAGES:
            verdict = self.successResultOf(self.ask(policy, stage=stage))
            self.assertEqual(verdict, Hold() if stage == "content" else None)
        self.assertEqual(policy.stages, list(STAGES))


class SessionTests(SynchronousTestCase):
    """The same, seen by a client."""

    def test_raises(self) -> None:
        """451 4.3.0 at RCPT, for each recipient; the session goes on."""
        peer = TestReceiver(policies=[Rcpt(error=ZeroDivisionError())]).session("MAIL FROM:<>")
        for _ in range(2):
            self.assertTrue(peer.say("RCPT TO:<joe@example.org>").startswith("451 4.3.0"))
        self.assertTrue(peer.say("NOOP").startswith("250"))
        self.flushLoggedErrors()

    def test_never_answers(self) -> None:
        """451 4.3.0 after policy_time, in the place of the command's reply."""
        receiver = TestReceiver(policies=[Silent()], policy_time=30)
        peer = receiver.session("MAIL FROM:<>")
        self.assertEqual(peer.say("RCPT TO:<joe@example.org>", "NOOP"), "")
        receiver.wait(29)
        self.assertEqual(peer.said(), "")
        receiver.wait(2)
        self.assertEqual(peer.codes(), [451, 250])
        self.flushLoggedErrors()

    def test_relaying_is_not_asked(self) -> None:
        """A broken policy cannot open a relay: the gate decides first."""
        peer = TestReceiver(policies=[Silent()]).session("MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<x@elsewhere.example>").startswith("550 5.7.1"))
