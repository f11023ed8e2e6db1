"""Reverse-paths that the next hop is told instead of the mail's own (SRS)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import REFUSED, RELAYED, World
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient

ANN = Address("ann", "example.com")
OURS = Address("SRS0=x", "here.example")
SALES = Address("sales", "here.example")


def rewrite(envelope: Envelope, recipient: Recipient) -> Address | None:
    """Rewrites what goes to ``far.example`` only."""
    return OURS if recipient.address.domain == "far.example" else None


class RewriteTests(SynchronousTestCase):
    """``OutgoingQueue(rewrite=…)``."""

    def sent(self, world: World, *recipients: Recipient) -> dict[tuple[Address | None, str], list[str]]:
        """The recipients of each request, by the reverse-path that is told and the next hop."""
        incoming = world.queue.begin()
        Deferred.fromCoroutine(incoming.commit(Envelope(ANN, recipients), b""))
        world.clock.advance(0)
        return {
            (request.envelope.reverse_path, request.next_hop): [str(one.address) for one in request.recipients]
            for request in world.agent.requests
        }

    def test_groups(self) -> None:
        """Recipients at one next hop are told two reverse-paths in two requests; those without an alias the mail's."""
        world = World(lambda request: RELAYED, rewrite=rewrite)
        far, near = Address("a", "far.example"), Address("b", "near.example")
        direct = Address("c", "far.example")
        self.assertEqual(
            self.sent(world, Recipient(far, SALES), Recipient(near, SALES), Recipient(direct, direct)),
            {
                (OURS, "far.example"): ["a@far.example"],
                (ANN, "near.example"): ["b@near.example"],
                (ANN, "far.example"): ["c@far.example"],
            },
        )
        self.assertEqual(world.spool.mails, {})

    def test_dsn_goes_to_the_sender(self) -> None:
        """Who is told of a failure is asked with the mail's own envelope."""
        mails = []
        world = World(lambda request: REFUSED, rewrite=rewrite)
        notify = world.queue._attempts._notify

        async def note(mail: object, told: object, until: float | None = None) -> None:
            mails.append(mail)
            await notify(mail, told, until)  # type: ignore[arg-type]

        world.queue._attempts._notify = note
        self.sent(world, Recipient(Address("a", "far.example"), SALES))
        self.assertEqual([mail.envelope.reverse_path for mail in mails], [ANN])  # type: ignore[attr-defined]
