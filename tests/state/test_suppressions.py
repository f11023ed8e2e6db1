"""Tests of the suppression list: what counts, what is suppressed, for how long, and that a restart changes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.events import Event
from twisted_mail_node.events_outbound import AddressAllowed, AddressSuppressed
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings_outbound import SuppressionSettings
from twisted_mail_node.state import suppressions as module
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.suppressions import (
    WORDS_MAX,
    Suppressed,
    SuppressionError,
    Suppressions,
    key_of,
    status_of,
)

DAY = 86400.0
NOW = 1_800_000_000.0
ANN = Address("ann", "dead.example")
UNKNOWN = DeliveryStatus(
    Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED, "550 5.1.1 user unknown", "mx.dead.example", from_remote=True
)
TAKEN = DeliveryStatus(Action.RELAYED, "2.0.0", Reason.RELAYED, "250 ok", "mx.dead.example", from_remote=True)
FULL = UNKNOWN._replace(status="5.2.2", words="552 5.2.2 over quota")


class Case(SynchronousTestCase):
    """A list in a directory of its own. ``here.example`` is local."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path = Path(place.name) / "state.sqlite"
        self.clock = Clock()
        self.clock.advance(NOW)
        self.events: list[Event] = []
        self.list = self.opened()

    def opened(self, **wanted: Any) -> Suppressions:
        """The list as a node reads it at its start."""
        self.database = StateDatabase(self.path, cast(Any, None))
        self.addCleanup(self.database.close)
        return Suppressions(
            self.database,
            SuppressionSettings(**wanted),
            self.clock.seconds,
            self.events.append,
            lambda domain: domain == "here.example",
        )

    def again(self, **wanted: Any) -> None:
        """A restart."""
        self.database.close()
        self.list = self.opened(**wanted)

    def fails(self, *days: float, address: Address = ANN, status: DeliveryStatus = UNKNOWN) -> None:
        """Failures, each so many days after the one before."""
        for day in days:
            self.clock.advance(day * DAY)
            self.list.note(address, status)


class CountingTest(Case):
    """When an address is suppressed by itself."""

    def test_failures(self) -> None:
        """Three failures in a row over a day suppress it for 30 days; an event says so."""
        self.fails(0, 0.5)
        self.assertIsNone(self.list.find(ANN))
        self.fails(0.5)
        one = self.list.find(ANN)
        now = NOW + DAY
        expected = Suppressed(
            "ann@dead.example", 3, NOW, now, now, now + 30 * DAY, "550 5.1.1 user unknown"
        )  # fmt: skip
        self.assertEqual(one, expected)
        self.assertEqual(
            self.events, [AddressSuppressed("ann@dead.example", 3, now + 30 * DAY, "550 5.1.1 user unknown")]
        )
        self.assertIsNone(self.list.find(Address("bob", "dead.example")))

    def test_too_quick(self) -> None:
        """Many failures within a day are no reason; the first after it is."""
        self.fails(0, *[0.01] * 50)
        self.assertIsNone(self.list.find(ANN))
        self.fails(1)
        self.assertEqual(getattr(self.list.find(ANN), "failures", 0), 52)

    def test_success(self) -> None:
        """When a mail was taken, counting begins anew."""
        self.fails(0, 1)
        self.list.note(ANN, TAKEN)
        self.fails(1, 1)
        self.assertIsNone(self.list.find(ANN))
        self.fails(1)
        self.assertIsNotNone(self.list.find(ANN))

    def test_other_failures(self) -> None:
        """What is not about the address counts neither way, nor what no host said, nor what is only late."""
        self.fails(0, 1)
        for status in (
            FULL,
            UNKNOWN._replace(action=Action.DELAYED),
            UNKNOWN._replace(from_remote=False),
            UNKNOWN._replace(words="450 4.1.1 unverified address: timed out", reason=Reason.EXPIRED),
            UNKNOWN._replace(reason=Reason.SUPPRESSED),
            DeliveryStatus(Action.FAILED, "5.1.1", Reason.UNKNOWN_RECIPIENT, "nobody here"),
            DeliveryStatus(Action.DELIVERED, "2.0.0", Reason.DELIVERED, "in the mailbox"),
        ):
            self.fails(1, status=status)
            self.assertIsNone(self.list.find(ANN), status)
        self.fails(1)
        self.assertEqual(getattr(self.list.find(ANN), "failures", 0), 3)

    def test_expired(self) -> None:
        """A host that says 450 to an unknown user until the mail is given up counts once for each mail."""
        late = UNKNOWN._replace(status="5.4.7", reason=Reason.EXPIRED, words="450 4.1.1 user unknown")
        self.fails(0, 5, 5, status=late)
        self.assertIsNotNone(self.list.find(ANN))

    def test_never(self) -> None:
        """Local addresses and postmasters are never suppressed."""
        for address in (
            Address("joe", "here.example"),
            Address("PostMaster", "dead.example"),
            Address("postmaster", ""),
        ):
            with self.subTest(address=str(address)):
                self.fails(0, 1, 1, 1, address=address)
                self.assertIsNone(self.list.find(address))
                self.assertRaisesRegex(SuppressionError, "is not suppressed", self.list.add, address)
        self.assertEqual(self.events, [])

    def test_became_local(self) -> None:
        """An address whose domain became local since is not held back."""
        self.list.add(ANN)
        self.list._is_local = lambda domain: domain == "dead.example"
        self.assertIsNone(self.list.find(ANN))

    def test_spelling(self) -> None:
        """Case does not tell addresses apart, nor how a domain is spelled; what only looks alike is another address."""
        for address in (Address("Ann", "bücher.example"), Address("ANN", "xn--bcher-kva.example")):
            self.fails(1, address=address)
        self.fails(1, address=Address("ann", "bücher.example"))
        self.assertIsNotNone(self.list.find(Address("aNN", "XN--BCHER-KVA.example.")))
        self.fails(1, 1, 1, address=Address("\u212aate", "dead.example"))
        self.assertIsNone(self.list.find(Address("kate", "dead.example")))
        self.assertEqual(key_of(Address("a b", "not a domain \u2603")), '"a b"@not a domain \u2603')

    def test_disabled(self) -> None:
        """Where the settings say so nothing is counted, and what was suppressed by itself is not held back; what an
        operator put there is. A reload is enough."""
        self.fails(0, 1, 1)
        bob = Address("bob", "dead.example")
        self.list.add(bob)
        self.list.reload(SuppressionSettings(enabled=False))
        self.assertIsNone(self.list.find(ANN))
        self.assertIsNotNone(self.list.find(bob))
        self.fails(1, 1, 1, address=Address("eve", "dead.example"))
        self.list.reload(SuppressionSettings())
        self.assertIsNotNone(self.list.find(ANN))
        self.assertIsNone(self.list.find(Address("eve", "dead.example")))

    def test_settings(self) -> None:
        """How many failures, over which time, and for how long, are settings; a reload counts at once."""
        self.fails(0)
        self.list.reload(SuppressionSettings(failures=2, over="1h", keep="2d"))  # type: ignore[arg-type]
        self.fails(0.05)
        one = self.list.find(ANN)
        assert one is not None
        self.assertEqual((one.failures, one.until), (2, self.clock.seconds() + 2 * DAY))


class EndTest(Case):
    """When an address is allowed again."""

    def test_found(self) -> None:
        """After its time a mail is tried, and failures are counted from none."""
        self.fails(0, 1, 1)
        self.clock.advance(30 * DAY)
        self.assertIsNone(self.list.find(ANN))
        self.assertEqual(self.events[-1], AddressAllowed("ann@dead.example", "its time is over"))
        self.fails(0, 1)
        self.assertIsNone(self.list.find(ANN))
        self.again()
        self.assertIsNone(self.list.find(ANN))

    def test_swept(self) -> None:
        """What is over leaves the list although nobody writes to it; what never ends stays."""
        self.list.start(self.clock)
        self.fails(0, 1, 1)
        self.list.add(Address("bob", "dead.example"), until=0.0)
        for _ in range(31):
            self.clock.advance(DAY)
        self.assertEqual([one.address for one in self.list.suppressed()], ["bob@dead.example"])
        self.assertEqual(self.list.status(), {"addresses": 1, "counted": 0})
        self.assertEqual([type(event) for event in self.events].count(AddressAllowed), 1)
        self.list.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.list.stop()

    def test_removed(self) -> None:
        """An operator may allow it at once; its failures are forgotten, also over a restart."""
        self.fails(0, 1, 1)
        self.assertEqual(getattr(self.list.remove(Address("ANN", "dead.example")), "failures", 0), 3)
        self.assertIsNone(self.list.find(ANN))
        self.assertEqual(self.events[-1], AddressAllowed("ann@dead.example", "an operator allows it"))
        self.assertIsNone(self.list.remove(ANN))
        self.fails(1, 1)
        self.assertIsNone(self.list.remove(ANN))
        self.fails(1, 1)
        self.again()
        self.assertEqual(self.list.status(), {"addresses": 0, "counted": 1})


class OperatorTest(Case):
    """What an operator puts on the list."""

    def test_add(self) -> None:
        """For the time of the settings, for another, or for ever; the last word counts."""
        one = self.list.add(ANN, "asked us to")
        self.assertEqual((one.failures, one.since, one.until, one.words), (0, NOW, NOW + 30 * DAY, "asked us to"))
        self.assertEqual(self.list.add(ANN, until=NOW + 5).until, NOW + 5)
        self.assertEqual(self.list.add(ANN, until=0.0).until, 0.0)
        self.clock.advance(10_000 * DAY)
        self.assertIsNotNone(self.list.find(ANN))
        self.assertEqual(len(self.list.suppressed()), 1)
        self.assertEqual(self.events[-1], AddressSuppressed("ann@dead.example", 0, 0.0, ""))

    def test_past(self) -> None:
        """A time that is past is refused."""
        for until in (NOW, NOW - 1, -1.0):
            self.assertRaisesRegex(SuppressionError, "past", self.list.add, ANN, "", until)

    def test_over_failures(self) -> None:
        """Failures do not change what an operator wants, and an operator's word stands over what happened by itself."""
        self.list.add(ANN, "no", 0.0)
        self.fails(1, 1, 1, 1)
        self.assertEqual(getattr(self.list.find(ANN), "words", ""), "no")
        self.list.remove(ANN)
        self.fails(1, 1, 1)
        self.list.add(ANN, "no", 0.0)
        self.assertEqual([one.words for one in self.list.suppressed()], ["no"])

    def test_words(self) -> None:
        """Words are kept on one line, and not too many of them."""
        one = self.list.add(ANN, "one\r\ntwo \t three " + "x" * 10_000)
        self.assertTrue(one.words.startswith("one two three xxx"))
        self.assertEqual(len(one.words), WORDS_MAX)


class BoundTest(Case):
    """Memory is bounded; what is longest ago goes."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(module, "COUNTED_MAX", 3)
        self.patch(module, "SUPPRESSED_MAX", 2)

    def many(self, count: int) -> list[Address]:
        """Different addresses."""
        return [Address(f"a{number}", "dead.example") for number in range(count)]

    def test_counted(self) -> None:
        """The failures longest ago are forgotten, in memory and in the table."""
        first, *_ = addresses = self.many(4)
        for address in addresses[:3]:
            self.fails(0.1, address=address)
        self.fails(0.1, address=first)
        self.fails(0.1, address=addresses[3])
        self.assertEqual(list(self.list._counted), [str(addresses[2]), str(first), str(addresses[3])])
        self.again()
        self.assertEqual(list(self.list._counted), [str(addresses[2]), str(first), str(addresses[3])])

    def test_suppressed(self) -> None:
        """The address that was suppressed longest ago is allowed; an operator's stay, and no more of them are taken."""
        addresses = self.many(3)
        for address in addresses:
            self.fails(0, 1, 1, address=address)
        self.assertEqual([one.address for one in self.list.suppressed()], [str(one) for one in addresses[1:]])
        self.assertIn(AddressAllowed(str(addresses[0]), "the list is full"), self.events)
        others = [Address(f"b{number}", "dead.example") for number in range(3)]
        for address in others[:2]:
            self.list.add(address)
        self.assertRaisesRegex(SuppressionError, "full", self.list.add, others[2])
        self.list.add(others[0], "again")
        self.again()
        self.assertEqual(self.list.status(), {"addresses": 4, "counted": 0})

    def test_smaller(self) -> None:
        """A table that holds more than there is room for loses what is oldest."""
        self.patch(module, "COUNTED_MAX", 10)
        for address in self.many(5):
            self.fails(0.1, address=address)
        self.patch(module, "COUNTED_MAX", 2)
        self.again()
        self.again()
        self.assertEqual(list(self.list._counted), ["a3@dead.example", "a4@dead.example"])


class RestartTest(Case):
    """A restart changes nothing."""

    def test_counted(self) -> None:
        """Failures before it count."""
        self.fails(0, 1)
        self.again()
        self.fails(1)
        self.assertEqual(getattr(self.list.find(ANN), "failures", 0), 3)

    def test_forgotten(self) -> None:
        """So does a success."""
        self.fails(0, 1)
        self.list.note(ANN, TAKEN)
        self.again()
        self.fails(1)
        self.assertIsNone(self.list.find(ANN))

    def test_suppressed(self) -> None:
        """Addresses stay as they were, whoever put them there."""
        self.fails(0, 1, 1)
        self.list.add(Address("bob", "dead.example"), "no", 0.0)
        before = self.list.suppressed()
        self.again()
        self.assertEqual(self.list.suppressed(), before)
        self.assertEqual(len(before), 2)

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["fail", "take", "full", "add", "ever", "remove", "wait", "find"]),
                st.sampled_from(["ann", "Ann", "bob"]),
            ),
            max_size=40,
        )
    )
    def test_any_order(self, steps: list[tuple[str, str]]) -> None:
        """Whatever happens in whatever order, the table says what the memory says, and no address stands twice."""
        for name in ("ann", "bob"):
            self.list.remove(Address(name, "dead.example"))
        for step, name in steps:
            address = Address(name, "dead.example")
            if step == "wait":
                self.clock.advance(11 * DAY)
            elif step in ("add", "ever"):
                self.list.add(address, step, 0.0 if step == "ever" else None)
            elif step in ("remove", "find"):
                getattr(self.list, step)(address)
            else:
                self.clock.advance(0.6 * DAY)
                self.list.note(address, {"fail": UNKNOWN, "take": TAKEN, "full": FULL}[step])
        known = [*self.list._ordered, *self.list._found, *self.list._counted]
        self.assertEqual(len(set(known)), len(known))
        before = (self.list._ordered, self.list._found, self.list._counted)
        self.again()
        self.assertEqual((self.list._ordered, self.list._found, self.list._counted), before)


class WordsTest(SynchronousTestCase):
    """What the sender is told."""

    def test_by_itself(self) -> None:
        """Since when, why, until when and what to do."""
        one = Suppressed("ann@dead.example", 3, NOW, NOW + DAY, NOW + DAY, NOW + 31 * DAY, "550 5.1.1 no")
        status = status_of(one)
        self.assertEqual((status.action, status.status, status.reason), (Action.FAILED, "5.1.1", Reason.SUPPRESSED))
        self.assertFalse(status.from_remote)
        for text in ("3 times from 2027-01-15 to 2027-01-16", '("550 5.1.1 no")', "until 2027-02-15", "postmaster"):
            self.assertIn(text, status.words)

    def test_by_an_operator(self) -> None:
        """The postmaster did it; without an end, without words."""
        words = status_of(Suppressed("ann@dead.example", 0, 0.0, 0.0, NOW, 0.0, "")).words
        self.assertIn("the postmaster put it there on 2027-01-15.", words)
        self.assertIn("until the postmaster takes it off", words)
