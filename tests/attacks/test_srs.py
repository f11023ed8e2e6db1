"""Forwarding as a way for strangers (T28, T35): forged and old SRS addresses, loops, huge and odd ones.

Sessions, directory, queue and notifier are the real ones; the spool lies in memory, and the agent is scripted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet.interfaces import IReactorThreads
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import TestReceiver
from tests.queue.fakes import DELIVERED, REFUSED, RELAYED, World
from tests.report.test_bounce import Threads
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.events import NotificationDropped, RecipientRefused
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.srs import DAY, Srs
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.report.bounce import Notifier
from twisted_mail_node.report.double_bounce import DoubleBounces
from twisted_mail_node.settings import Account, Alias, Domain, Settings

KEY = b"0123456789abcdef"
JOE = Address("joe", "here.example")
SALES = Address("sales", "here.example")
FAR = Address("far", "elsewhere.example")
ANN = Address("ann", "example.net")
CONTENT = ("Message-ID: <1@example.net>", "Subject: hello", "", "x", ".")


class Node:
    """A node without a network. What goes to ``elsewhere.example`` comes to ``self.answer``.

    :param aliases: beside that of ``sales@here.example``.
    """

    def __init__(self, state: Path, aliases: tuple[Alias, ...] = ()) -> None:
        settings = Settings(
            hostname="mx.here.example",
            state_dir=state,
            domains=(Domain(name="here.example", catch_all=JOE),),
            accounts=(Account(address=JOE),),
            aliases=(Alias(address=SALES, to=(FAR,)), *aliases),
        )
        self.answer = RELAYED
        self.directory = Directory(settings, (KEY,), lambda: self.world.clock.seconds())
        self.world = World(self._deliver, rewrite=self.directory.forwarding.reverse_path)
        self.world.queue._attempts._notify = Notifier(
            hostname="mx.here.example",
            queue=self.world.queue,
            directory=self.directory,
            reactor=cast(IReactorThreads, Threads()),
            clock=self.world.clock,
            publish=self.world.events.append,
            double_bounces=DoubleBounces(lambda: Address("postmaster", "here.example"), self.world.clock),
        )
        self.receiver = TestReceiver(hostname="mx.here.example", directory=self.directory, queue=self.world.queue)

    def _deliver(self, request: DeliveryRequest) -> Any:
        if request.next_hop == "here.example":
            return DELIVERED
        return self.answer if request.next_hop == "elsewhere.example" else RELAYED

    def say(self, *lines: str) -> str:
        """A session; gives the answer."""
        peer = self.receiver.session()
        answer = peer.say(*lines)
        peer.vanish()
        self.world.clock.advance(0)
        self.world.clock.advance(0)
        return answer

    def bring(self, sender: str, recipient: str, *parameters: str) -> str:
        """A mail from a stranger; gives the answer."""
        rcpt = " ".join((f"RCPT TO:<{recipient}>", *parameters))
        return self.say(f"MAIL FROM:<{sender}>", rcpt, "DATA", *CONTENT)

    def went(self) -> list[tuple[str, str]]:
        """Reverse-path and recipient of all that was carried, in order."""
        return [
            (str(request.envelope.reverse_path or ""), str(recipient.address))
            for request in self.world.agent.requests
            for recipient in request.recipients
        ]


class SrsCase(SynchronousTestCase):
    """A fresh node."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.node = Node(Path(place.name))

    def rewritten(self, sender: str = "ann@example.net") -> str:
        """The address a forwarded mail leaves with."""
        self.assertIn("250 2.0.0", self.node.bring(sender, "sales@here.example"))
        ((reverse_path, recipient),) = self.node.went()[-1:]
        self.assertEqual(recipient, "far@elsewhere.example")
        return reverse_path

    def refused(self, recipient: str, sender: str = "") -> str:
        """The refusal of a recipient; nothing is carried for it."""
        before = len(self.node.world.agent.requests)
        answer = self.node.say(f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA")
        lines = answer.splitlines()
        self.assertEqual(len(lines), 3, answer)
        self.assertTrue(lines[1].startswith("550 "), lines[1])
        self.assertEqual(len(self.node.world.agent.requests), before)
        return lines[1]


class JourneyTests(SrsCase):
    """There and back."""

    def test_there_and_back(self) -> None:
        """A forwarded mail leaves with our address, and the bounce to it reaches the sender as a bounce."""
        address = self.rewritten()
        self.assertRegex(address, r"\ASRS0=.{8}=..=example\.net=ann@here\.example\Z")
        self.assertIn("250 2.0.0", self.node.bring("", address))
        self.assertEqual(self.node.went()[1:], [("", "ann@example.net")])

    def test_dsn_of_ours(self) -> None:
        """When the next hop refuses it our DSN goes to the sender himself, with the alias and not who is behind it."""
        self.node.answer = REFUSED._replace(words="550 5.1.1 <far@elsewhere.example> unknown")
        self.node.bring("ann@example.net", "sales@here.example")
        self.assertEqual(self.node.went()[1:], [("", "ann@example.net")])
        dsn = self.node.world.agent.requests[1].content.octets
        self.assertIn(b"Final-Recipient: rfc822;sales@here.example\r\n", dsn)
        self.assertNotIn(b"far@elsewhere.example", dsn)
        self.assertNotIn(b"SRS0", dsn)

    def test_failing_bounce(self) -> None:
        """A bounce that cannot be returned to the sender goes to postmaster, and no further."""
        address = self.rewritten("ann@elsewhere.example")
        self.node.answer = REFUSED
        self.node.bring("", address)
        self.assertEqual(self.node.went()[1:], [("", "ann@elsewhere.example"), ("", "joe@here.example")])
        self.assertEqual(self.node.world.spool.mails, {})

    def test_folded(self) -> None:
        """A host that folds the case of local-parts still reaches the sender."""
        for fold in (str.lower, str.upper):
            self.assertIn("250 2.0.0", self.node.bring("", fold(self.rewritten())))
            self.assertEqual(self.node.went()[-1][1].lower(), "ann@example.net")

    def test_quoted(self) -> None:
        """A sender whose local-part needs quotes is rewritten and comes back as he was."""
        for sender in ('"a b"@example.net', '"a@b"@example.net', '"a\\"=b"@example.net', "a=b=c@[192.0.2.1]"):
            address = self.rewritten(sender)
            self.assertIn("250 2.0.0", self.node.bring("", address), address)
            self.assertEqual(self.node.went()[-1], ("", sender))


class RelayTests(SrsCase):
    """T28: no way through us."""

    def test_forged(self) -> None:
        """Nobody reaches an address of his choice: no hash, a wrong one, another's, another kind; not the catch-all."""
        local_part, _, domain = self.rewritten().rpartition("@")
        _, good, day, *_ = local_part.split("=")
        for forged in (
            f"SRS0=AAAAAAAA={day}=victim.example=bob",
            f"SRS0={good}={day}=victim.example=bob",
            f"SRS0={good}={day}=example.net=ann2",
            f"SRS0={good}=AA=example.net=ann",
            f"SRS1={good}={day}=example.net=ann",
            f"SRS1={good}=victim.example==AAAA={day}=x=bob",
            f"SRS0={good}={day}=example.net=ann%victim.example",
            f"srs0={good}={day}=victim.example=ann",
            "SRS0=joe",
            "SRS1=",
        ):
            words = self.refused(f"{forged}@{domain}")
            self.assertIn("forged or damaged", words)
        self.assertEqual({event.reason for event in self.node.receiver.of(RecipientRefused)}, {"srs-forged"})

    def test_guessing_ends(self) -> None:
        """Guesses are errors of the session: it is closed before many were made."""
        peer = self.node.receiver.session("MAIL FROM:<>")
        for number in range(1000):
            guess = "".join("ABCDEFGHIJ"[int(digit)] for digit in f"{number:08d}")
            peer.say(f"RCPT TO:<SRS0={guess}=AA=victim.example=bob@here.example>")
            if peer.closed:
                break
        self.assertLess(number, 100)

    def test_only_bounces(self) -> None:
        """A real address takes bounces and nothing else: whoever learnt it has no way to write through us."""
        address = self.rewritten()
        words = self.refused(address, sender="spammer@example.com")
        self.assertIn("550 5.7.1 Only bounces", words)

    def test_replay(self) -> None:
        """After its lifetime an address that somebody kept is refused, and says why."""
        address = self.rewritten()
        self.node.world.clock.advance(21 * DAY)
        self.assertIn("250 2.0.0", self.node.bring("", address))
        self.node.world.clock.advance(DAY)
        self.assertIn("has expired", self.refused(address))

    def test_not_signed_for_strangers(self) -> None:
        """Only what is forwarded is rewritten: mail to us, bounces and mail from ourselves give nobody an address."""
        self.node.bring("ann@example.net", "joe@here.example")
        self.node.bring("", "sales@here.example")
        self.node.bring("joe@here.example", "sales@here.example")
        self.assertEqual([sender for sender, _ in self.node.went()], ["ann@example.net", "", "joe@here.example"])


class LoopTests(SrsCase):
    """T35."""

    def test_srs1_to_ourselves(self) -> None:
        """A stranger who writes from an SRS1 that names our domain gets no valid address out of it, nor a loop."""
        for sender in (
            "SRS1=AAAAAAAA=here.example==BBBBBBBB=AA=victim.example=bob@evil.example",
            "SRS0=BBBBBBBB=AA=victim.example=bob@evil.example",
        ):
            before = len(self.node.went())
            address = self.rewritten(sender)
            answer = self.node.say("MAIL FROM:<>", f"RCPT TO:<{address}>").splitlines()
            if sender.startswith("SRS1"):  # it would come back to us, and there its hash is looked at
                self.assertTrue(answer[1].startswith("550 5.1.1"), answer)
            else:  # it goes to who sent it, as any bounce would
                self.node.bring("", address)
                self.assertEqual(self.node.went()[-1], ("", "SRS0=BBBBBBBB=AA=victim.example=bob@evil.example"))
            self.assertLessEqual(len(self.node.went()) - before, 2)

    def test_circle_of_our_own_addresses(self) -> None:
        """Addresses of ours within addresses of ours, signed with the right key, end after two steps."""
        srs = Srs((KEY,), "here.example", 21, 10_000)
        address: Address | None = ANN
        for step in range(4):
            assert address is not None
            address = srs.write(address, self.node.world.clock.seconds())
            assert address is not None
            answer = self.node.say("MAIL FROM:<>", f"RCPT TO:<{address}>").splitlines()[1]
            self.assertEqual(answer[:3], "250", (step, answer))
        # What is behind an SRS1 is always the SRS0 of the first: there is no third step to be had by rewriting.
        self.assertEqual(str(address).count("SRS"), 1)

    def test_bounce_of_a_bounce(self) -> None:
        """A bounce to a rewritten address is not rewritten in its turn, and its failure is never returned."""
        address = self.rewritten("ann@elsewhere.example")
        self.node.answer = REFUSED
        self.node.bring("", address, "NOTIFY=SUCCESS,FAILURE,DELAY")
        self.assertEqual([sender for sender, _ in self.node.went()[1:]], ["", ""])
        self.assertEqual(self.node.world.of(NotificationDropped), [])


class SizeTests(SrsCase):
    """What does not fit."""

    def test_too_long(self) -> None:
        """A sender whose address would become longer than hosts must take goes as he is."""
        for length in (60, 200, 250):
            sender = "a" * length + "@example.net"
            self.assertEqual(self.rewritten(sender), sender)

    def test_huge(self) -> None:
        """Huge addresses in the form of SRS are refused, and cost nothing."""
        for rest in ("=" * 200, "A" * 200, "SRS0=" * 40, "AA=" + "a." * 90 + "b=c"):
            self.refused(f"SRS0=AAAAAAAA={rest}@here.example")
        answer = self.node.say("MAIL FROM:<>", "RCPT TO:<SRS0=AAAAAAAA=" + "a" * 2000 + "@here.example>")
        self.assertIn("\r\n5", answer)

    def test_odd(self) -> None:
        """Quotes, line ends in quotes and addresses within them are refused without an error of ours."""
        for odd in (
            '"SRS0=AAAAAAAA=AA=x=y> RCPT TO:<z"', '"SRS0=AAAAAAAA=AA=a@b=c"', '"SRS0=AAAAAAAA=AA=\\\\=\\""',
            '"SRS1=AAAAAAAA=a b==c"', "SRS0=AAAAAAAA=AA==", "SRS1=AAAAAAAA===",
        ):  # fmt: skip
            self.refused(f"{odd}@here.example")
