"""Asks the policies of one listener, in the settings' order; the first verdict ends the stage.

What is not decided in time, or breaks, is a temporary refusal: a broken policy never lets mail through, and never
refuses it for good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mail_node.interfaces import IPolicy
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.waiting import within

Ask = Callable[[Asked], Awaitable[Verdict | None]]
Stage = Literal["connect", "helo", "mail", "rcpt", "content"]
STAGES: tuple[Stage, ...] = ("connect", "helo", "mail", "rcpt", "content")

FAILED = Reply.make(451, "4.3.0", "A check failed here; please try again later", Reason.POLICY_FAILED)

_log = Logger()


class Chain:
    """The policies of one listener.

    :param seconds: what all policies of one stage may take together.
    """

    def __init__(self, policies: Sequence[IPolicy], clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._at: dict[Stage, tuple[IPolicy, ...]] = {
            stage: tuple(policy for policy in policies if _cares(policy, stage)) for stage in STAGES
        }

    def cares(self, stage: Stage) -> bool:
        """False when no policy has anything to say at this stage."""
        return bool(self._at[stage])

    async def ask(self, stage: Stage, asked: Asked) -> Verdict | None:
        """The first verdict, or ``None`` when no policy has an opinion."""
        policies = self._at[stage]
        if not policies:
            return None
        try:
            return await within(self._clock, self._seconds, _first(policies, stage, asked))
        except Exception:
            _log.failure("a policy failed at stage {stage}; the client was told to try again later", stage=stage)
            return Refuse(FAILED, Reason.POLICY_FAILED)


def by_stage(policies: Sequence[IPolicy]) -> dict[Stage, tuple[Ask, ...]]:
    """For each stage what is asked there, in order, leaving out who has nothing to say at it."""
    return {stage: tuple(getattr(one, stage) for one in policies if _cares(one, stage)) for stage in STAGES}


async def _first(policies: Sequence[IPolicy], stage: Stage, asked: Asked) -> Verdict | None:
    for policy in policies:
        verdict: Verdict | None = await getattr(policy, stage)(asked)
        if verdict is not None:
            if not isinstance(verdict, Verdict):
                raise TypeError(f"the policy {policy.name!r} gave {verdict!r}, which is no verdict")
            return verdict
    return None


def _cares(policy: IPolicy, stage: Stage) -> bool:
    """A stage that a subclass of ``Policy`` left as it was is never asked."""
    return not isinstance(policy, Policy) or getattr(type(policy), stage) is not getattr(Policy, stage)
