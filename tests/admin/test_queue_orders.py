"""The orders about the queue: pages, counts, contents, freezes; and that nothing malformed does harm (attack T39)."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.admin.fakes import CONTENT, mail
from tests.admin.test_control import Case
from tests.threads import ThreadsAtOnce
from twisted_mail_node.admin import queue_orders
from twisted_mail_node.admin.control import ControlFactory
from twisted_mail_node.admin.messages import BY, IDS_AT_ONCE
from twisted_mail_node.admin.orders import Orders
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Attempt, Entry, State

ANN = Address("ann", "there.example")
WORDS = DeliveryStatus(Action.DELAYED, "4.2.2", Reason.REMOTE_DELAYED, "452 4.2.2 mailbox full", "mx", "", True)


def waiting(state: State = State.DELAYED, destination: str = "there.example", attempts: int = 1) -> Entry:
    """A recipient with a full mailbox."""
    return Entry(0, Recipient(ANN, ANN), state, 2000.0, attempts, destination, WORDS)


class QueueCase(Case):
    """A node whose threads run at once."""

    def start(self) -> None:
        super().start()
        self.clock = ThreadsAtOnce()
        self.clock.advance(10_000.0)
        self.factory = ControlFactory(Orders(self.node, self.clock, lambda: None), self.clock)
        self.client, self.transport = self.connect()

    def keep(self, number: int, *entries: Entry, **fields: Any) -> None:
        """So many mails in the queue."""
        self.node.queue.mails = [mail(f"{one:04}", *entries, **fields) for one in range(number)]

    def refused(self, **request: object) -> str:
        """The sentence with which a request is refused."""
        (last,) = self.ask(**request)
        self.assertIs(last["ok"], False)
        return str(last["error"])


class PagesTest(QueueCase):
    """Orders for many."""

    def test_pages(self) -> None:
        """An order for many takes a page at a time; behind the last page there is nothing."""
        self.keep(2 * IDS_AT_ONCE + 3)
        behind: Any = ""
        sizes = []
        while behind is not None:
            *found, last = self.ask(command="queue.hold", all=True, behind=behind, limit=100_000)
            self.assertEqual(len(found), last["count"])
            sizes.append(last["count"])
            behind = last["behind"]
        self.assertEqual(sizes, [IDS_AT_ONCE, IDS_AT_ONCE, 3])
        ids = [one for _, page in self.node.queue.ordered for one in page]
        self.assertEqual(ids, [one.queue_id for one in self.node.queue.mails])

    def test_whole_page(self) -> None:
        """Where the last page is just full, one more is asked for, and is empty: nothing is ordered for it."""
        self.keep(IDS_AT_ONCE)
        *_, last = self.ask(command="queue.remove", all=True)
        (last,) = self.ask(command="queue.remove", all=True, behind=last["behind"])
        self.assertEqual((last["count"], last["behind"], len(self.node.queue.ordered)), (0, None, 1))

    def test_left_out(self) -> None:
        """What an order leaves alone does not end the pages."""
        self.keep(IDS_AT_ONCE, waiting(State.HELD))
        (last,) = self.ask(command="queue.retry", all=True)
        self.assertEqual((last["count"], last["behind"]), (0, f"{IDS_AT_ONCE - 1:04}"))

    def test_dry_run(self) -> None:
        """A dry run counts what the order would change, and changes nothing."""
        self.keep(3)
        self.node.queue.mails.append(mail("9999", waiting(State.HELD)))
        for order, count in (("retry", 3), ("release", 4), ("hold", 4), ("remove", 4), ("fail", 4), ("reroute", 4)):
            (last,) = self.ask(command=f"queue.{order}", all=True, dry_run=True)
            self.assertEqual((last["count"], last["behind"]), (count, None))
        (last,) = self.ask(command="queue.remove", ids=["0000"], dry_run=True)
        self.assertEqual((last["count"], self.node.queue.ordered), (1, []))

    def test_probe(self) -> None:
        """The first page of a retry ends suspensions; the others need not."""
        self.keep(3)
        self.ask(command="queue.retry", all=True)
        self.ask(command="queue.retry", all=True, behind="0000")
        self.ask(command="queue.retry", ids=["0001"])
        self.assertEqual(self.node.queue.given, [True, False, True])

    def test_fail(self) -> None:
        """fail hands the operator's words over, made safe for a DSN (attack T20)."""
        self.ask(command="queue.fail", ids=["q1"], words="not\r\nSubject: forged\x1b")
        self.ask(command="queue.fail", all=True)
        self.assertEqual([order for order, _ in self.node.queue.ordered], ["fail", "fail"])
        self.assertEqual(self.node.queue.given, ["not??Subject: forged?", ""])

    def test_reroute(self) -> None:
        """reroute takes a next hop, or "" for the route; anything else is refused before any mail is touched."""
        for next_hop in ("[192.0.2.7]:25", "mx.example", "unix:/run/lmtp", ""):
            self.ask(command="queue.reroute", ids=["q1"], next_hop=next_hop)
            self.assertEqual(self.node.queue.given.pop(), next_hop)
        self.node.queue.ordered.clear()
        for wrong in ("192.0.2.7", "a b", "[x", "x:0", "mx\x1b"):
            self.assertIn("no next hop", self.refused(command="queue.reroute", all=True, next_hop=wrong))
        self.assertEqual(self.node.queue.ordered, [])


class LookTest(QueueCase):
    """What only looks."""

    def test_attempts(self) -> None:
        """The attempts for a mail come with host, words and cause."""
        self.node.queue.tried["q1"] = [
            Attempt(50.0, 0, "there.example", WORDS),
            Attempt(80.0, 0, "there.example", WORDS),
        ]
        first, second, last = self.ask(command="queue.attempts", id="q1")
        self.assertEqual((first["when"], second["when"], last["count"]), (50.0, 80.0, 2))
        self.assertEqual((first["words"], first["cause"]), ("452 4.2.2 mailbox full", "mailbox-full"))
        self.assertEqual(self.ask(command="queue.attempts", id="q2"), [{"ok": True, "count": 0}])
        self.assertIn("'id'", self.refused(command="queue.attempts"))

    def test_content(self) -> None:
        """A mail comes in pieces, as it would be passed on, whatever octets it holds."""
        whole = b"Received: by here.example\r\n" + CONTENT
        self.patch(queue_orders, "CONTENT_AT_ONCE", 20)
        got = b""
        while True:
            (last,) = self.ask(command="queue.content", id="q1", offset=len(got))
            self.assertEqual(last["size"], len(whole))
            piece = base64.b64decode(last["octets"])
            if not piece:
                break
            got += piece
        self.assertEqual(got, whole)
        self.assertIn("no mail", self.refused(command="queue.content", id="zz\x1b"))
        self.assertIn("'offset'", self.refused(command="queue.content", id="q1", offset=-1))

    def test_content_lost(self) -> None:
        """Content that cannot be read is a sentence."""

        def broken(size: int = 0) -> Any:
            raise OSError("the mail is no longer in the spool")

        self.node.queue.mails[0].content.octets = None
        self.patch(self.node.queue.mails[0].content, "blocks", broken)
        self.assertIn("cannot be read", self.refused(command="queue.content", id="q1"))

    def test_tally(self) -> None:
        """Recipients are counted by destination, cause, kind, sender, state and age, the largest group first."""
        self.keep(3)
        self.node.queue.mails += [mail("8888", waiting(), sender=None), mail("9999", waiting(State.HELD, "b.example"))]
        for by, groups in (
            ("destination", [("there.example", 4), ("b.example", 1)]),
            ("cause", [("connect-failed", 3), ("mailbox-full", 2)]),
            ("kind", [("network", 3), ("mailbox", 2)]),
            ("sender", [("joe@here.example", 4), ("", 1)]),
            ("state", [("delayed", 4), ("held", 1)]),
        ):
            *found, last = self.ask(command="queue.tally", by=by)
            self.assertEqual([(one["name"], one["recipients"]) for one in found], groups)
            self.assertEqual((last["recipients"], last["group_count"], last["oldest"]), (5, 2, 1000.0))
        *found, last = self.ask(command="queue.tally", by="age")
        self.assertEqual([one["recipients"] for one in found if one["name"] == "1 h to 4 h"], [5])
        *found, last = self.ask(command="queue.tally", by="destination", groups=1, causes=["mailbox-full"])
        self.assertEqual(([one["recipients"] for one in found], last["recipients"], last["group_count"]), ([1], 2, 2))
        self.assertIn("'by'", self.refused(command="queue.tally", by="colour"))

    def test_freeze(self) -> None:
        """A destination is frozen, named, and thawed; what is not frozen cannot be thawed."""
        self.ask(command="queue.freeze", destination="gmail.example", words="they\nslow us")
        one, last = self.ask(command="queue.frozen")
        self.assertEqual((one["destination"], one["words"], last["count"]), ("gmail.example", "they?slow us", 1))
        self.assertIs(self.ask(command="queue.thaw", destination="gmail.example")[0]["ok"], True)
        self.assertIn("is not frozen", self.refused(command="queue.thaw", destination="gmail.example"))
        self.assertIn("'destination'", self.refused(command="queue.freeze"))


class SnapshotTest(QueueCase):
    """queue.top."""

    def test_top(self) -> None:
        """It tells numbers by state, top destinations and causes, freezes and rates."""
        self.node.queue.stopped["x.example"] = "why"
        self.node.queue.destinations = [{"destination": "there.example", "window": 20}]
        (last,) = self.ask(command="queue.top")
        self.assertEqual((last["counts"]["mails"], last["counts"]["delayed"], last["total"]["recipients"]), (2, 2, 2))
        self.assertEqual(last["by_destination"], [{"name": "there.example", "recipients": 2, "oldest": 1000.0}])
        self.assertEqual([one["name"] for one in last["by_cause"]], ["connect-failed"])
        self.assertEqual((last["accepted_a_second"], last["finished_a_second"]), (2.5, 1.0))
        self.assertEqual([one["destination"] for one in last["frozen"]], ["x.example"])
        self.assertEqual(last["destinations"][0]["window"], 20)

    def test_once_a_second(self) -> None:
        """However many look, the spool is counted once a second; what is frozen shows at once."""
        for _ in range(5):
            self.ask(command="queue.top")
        self.node.queue.stopped["x.example"] = ""
        self.assertEqual(len(self.ask(command="queue.top")[0]["frozen"]), 1)
        self.assertEqual(self.node.queue.tallies, 1)
        self.clock.advance(1.0)
        self.ask(command="queue.top")
        self.assertEqual(self.node.queue.tallies, 2)

    def test_failure(self) -> None:
        """A spool that cannot be counted is a sentence, and is asked again the next time."""
        self.node.queue.error = OSError("oh")
        self.assertIn("broke", self.refused(command="queue.top"))
        self.flushLoggedErrors(OSError)
        self.node.queue.error = None
        self.assertIs(self.ask(command="queue.top")[0]["ok"], True)


class HarmTest(QueueCase):
    """Whatever is in a request."""

    VALUES = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=3))
    )
    ORDERS = st.sampled_from(
        ["find", "attempts", "content", "tally", "top", "hold", "release", "retry", "remove", "fail", "reroute",
         "freeze", "thaw", "frozen"]
    )  # fmt: skip
    KEYS = st.sampled_from(
        ["ids", "id", "limit", "all", "behind", "dry_run", "by", "groups", "offset", "destination", "words", "next_hop",
         "causes", "accepted_after", "accepted_before", "state", "sender", "recipient", "header"]
    )  # fmt: skip

    @settings(max_examples=300, deadline=None)
    @given(ORDERS, st.dictionaries(KEYS, VALUES, max_size=6))
    def test_anything(self, order: str, message: dict[str, Any]) -> None:
        """Every order with any arguments is carried out or refused with a sentence; nothing breaks (attack T39)."""
        self.start()
        *_, last = self.ask(command=f"queue.{order}", **message)
        self.assertIn(last["ok"], (True, False))
        if not last["ok"]:
            self.assertNotIn("broke", last["error"])
            self.assertTrue(last["error"].isprintable())

    def test_seen(self) -> None:
        """What an error repeats of the request can be seen."""
        self.start()
        for hop in ("::%\x85", "[\x1b[2J]", "a\u2028b", "\ud800"):
            (last,) = self.ask(command="queue.reroute", ids=[f"{0:014x}"], next_hop=hop)
            self.assertTrue(not last["ok"] and last["error"].isprintable(), repr(last))

    def test_half_a_character(self) -> None:
        """A text that cannot be written in UTF-8 is refused, and not looked for."""
        self.start()
        for key in ("sender", "recipient", "destination"):
            (last,) = self.ask(command="queue.find", **{key: "a\ud800"})
            self.assertIn("must be a text", last["error"])

    def test_by(self) -> None:
        """Everything that can be counted by is."""
        for by in BY:
            self.assertIs(self.ask(command="queue.tally", by=by)[-1]["ok"], True)
