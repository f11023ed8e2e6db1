"""Filters find, and tallies count, what a look at every mail would find; and they do it by the indexes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.spool.material import HEADER, LATER, NOW, StoreCase, changed, finished, numbers, put
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.spool import queueid, search
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.mail import Change, Entry, Filter, Mail, State, Tally
from twisted_mail_node.spool.sqlite import NewMail, Store

CAUSES = ("", "mailbox-full", "greylisted")
DESTINATIONS = ("", "mx.example.net", "[192.0.2.7]:25")
SENDERS = (None, Address("Joe", "example.org"), Address("ann", "elsewhere.example"))
RECIPIENTS = (Address("bob", "example.net"), Address("Bob", "example.com"), Address("eve", "example.net"))
_states = st.sampled_from(State)
_recipients = st.tuples(st.sampled_from(RECIPIENTS), _states, st.sampled_from(CAUSES), st.sampled_from(DESTINATIONS))
_mails = st.lists(st.tuples(st.sampled_from(SENDERS), st.lists(_recipients, min_size=1, max_size=3)), max_size=8)
_times = st.sampled_from((0.0, NOW, NOW + 2.5, NOW + 4, NOW + 100))
_filters = st.builds(
    Filter,
    queue_ids=st.just(()) | st.lists(st.integers(0, 9), max_size=4).map(lambda some: tuple(map(_text, some))),
    destination=st.sampled_from(DESTINATIONS),
    sender=st.sampled_from(("", "<>", "JOE@", "example", "nobody")),
    recipient=st.sampled_from(("", "bob@", "EXAMPLE.net", "nobody")),
    state=st.none() | _states,
    limit=st.sampled_from((1, 2, 1000)),
    causes=st.just(()) | st.lists(st.sampled_from(CAUSES), min_size=1, unique=True).map(tuple),
    after=_times,
    before=_times,
)


def _number(place: int) -> int:
    """The id of the mail at this place; one a second."""
    return queueid.at_time(NOW + place)


def _text(place: int) -> str:
    return queueid.to_text(_number(place))


def fill(store: Store, mails: Any) -> None:
    """Keep mails as the strategies make them."""
    for place, (sender, recipients) in enumerate(mails):
        everyone = tuple(Recipient(address, address) for address, *_ in recipients)
        row = (_number(place), NOW + place, encode_envelope(Envelope(sender, everyone)), HEADER, 1, 0, b"x")
        put(store, NewMail(row, tuple(map(encode_recipient, everyone)), State.ACTIVE))
        for number, (_, state, cause, destination) in enumerate(recipients):
            change = Change(_text(place), number, state, NOW, 1, destination, LATER, False, cause)
            if state is State.FINISHED:  # as one that was delayed before
                changed(store, change._replace(state=State.DELAYED))
            changed(store, change)


def fits(mail: Mail, wanted: Filter) -> bool:
    """What a filter means, said again without SQL."""
    path = str(mail.envelope.reverse_path or "").lower()
    narrow = wanted.destination or wanted.causes or wanted.recipient or wanted.state is not None
    return (
        (not wanted.queue_ids or mail.queue_id in wanted.queue_ids)
        and (not wanted.sender or (path == "" if wanted.sender == "<>" else wanted.sender.lower() in path))
        and wanted.after <= mail.received < (wanted.before or 1e12)
        and (not narrow or any(entry_fits(entry, wanted) for entry in mail.entries))
    )


def entry_fits(entry: Entry, wanted: Filter) -> bool:
    """The same of one recipient."""
    unfinished = entry.state is not State.FINISHED or wanted.state is State.FINISHED
    return (
        (not wanted.destination or (entry.destination == wanted.destination and unfinished))
        and (not wanted.causes or (entry.cause in wanted.causes and unfinished))
        and wanted.recipient.lower() in str(entry.recipient.address).lower()
        and (wanted.state is None or entry.state is wanted.state)
    )


class SameAsLookingTests(StoreCase):
    @settings(max_examples=100, deadline=None)
    @given(_mails, st.lists(_filters, min_size=5, max_size=10), st.sampled_from((0, 2, 10_000)))
    def test_all(self, mails: Any, filters: list[Filter], near: int) -> None:
        """Whatever the spool holds and the filter says, the mails found, the pages of ids and the counts are right."""
        self.patch(search, "NEAR", near)
        self.store.remove(self.store.select(Filter(), 1000))
        fill(self.store, mails)
        everything = self.all()
        self.assertEqual(sum(one.recipients for one in self.store.tally(Filter())), self._waiting())
        for wanted in filters:
            expected = [mail for mail in everything if fits(mail, wanted)]
            ids = [mail.queue_id for mail in expected]
            self.assertEqual([mail.queue_id for mail in self.store.find(wanted)], ids[: wanted.limit], wanted)
            self.assertEqual(self._pages(wanted), ids, wanted)
            where, who = Counter[Any](), Counter[Any]()
            for mail in expected:
                for entry in mail.entries:
                    if entry_fits(entry, wanted) and (entry.state is not State.FINISHED or wanted.state is not None):
                        where[entry.destination, entry.cause] += 1
                        who[str(mail.envelope.reverse_path or "").lower()] += 1
            tallies = self.store.tally(wanted)
            self.assertEqual({(one.destination, one.cause): one.recipients for one in tallies}, dict(where), wanted)
            self.assertEqual([one.recipients for one in tallies], sorted(where.values(), reverse=True))
            senders = self.store.tally_senders(wanted)
            self.assertEqual({one.destination: one.recipients for one in senders}, dict(who), wanted)

    def _waiting(self) -> int:
        counts = self.store.count()
        self.assertEqual(counts["mails"], len(self.all()))
        return counts["active"] + counts["delayed"] + counts["held"]

    def _pages(self, wanted: Filter) -> list[str]:
        found: list[str] = []
        while page := self.store.select(wanted, wanted.limit, found[-1] if found else ""):
            found += page
        return found


class TallyTests(StoreCase):
    def test_oldest(self) -> None:
        """A tally tells when the oldest of the mails was accepted, by destination and cause, or by sender."""
        joe, bob = SENDERS[1], RECIPIENTS[0]
        one = (bob, State.DELAYED, "mailbox-full", "mx.example.net")
        fill(self.store, [(joe, [one, one]), (joe, [one]), (None, [(bob, State.ACTIVE, "", "")])])
        self.assertEqual(
            self.store.tally(Filter()),
            [Tally("mx.example.net", "mailbox-full", 3, NOW), Tally("", "", 1, NOW + 2)],
        )
        self.assertEqual(
            self.store.tally_senders(Filter()), [Tally("joe@example.org", "", 3, NOW), Tally("", "", 1, NOW + 2)]
        )
        changed(self.store, *finished(_number(0), 0, 1))
        self.assertEqual(self.store.tally(Filter(sender="joe"))[0].oldest, NOW + 1)

    def test_damaged(self) -> None:
        """A mail whose envelope is damaged hides no other, whatever is asked; an operator may hold and remove it."""
        one = (RECIPIENTS[0], State.DELAYED, "", "mx.example.net")
        fill(self.store, [(SENDERS[1], [one]), (SENDERS[1], [one])])
        self.rows("UPDATE mail SET envelope = '[[\"jo' WHERE id = " + str(_number(0)))
        self.rows("UPDATE recipient SET recipient = 'x' WHERE mail = " + str(_number(0)))
        for fields in ({"sender": "joe"}, {"recipient": "bob"}, {"recipient": "bob", "sender": "joe"}):
            self.assertEqual(numbers(self.all(**fields)), [_number(1)], fields)
        self.assertEqual(self.store.hold([_text(0)]), [_text(0)])
        self.assertEqual(self.store.remove([_text(0)]), [_text(0)])
        self.assertEqual(self.store.count()["mails"], 1)


class PlanTests(StoreCase):
    """How SQLite goes about it: what grows with the backlog is read from an index, not from the rows."""

    def plan(self, sql: str, values: Any) -> list[str]:
        """SQLite's plan for the recipients."""
        rows = self.store.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
        return [row[3] for row in rows if not row[3].startswith("SEARCH mail ")]

    def test_tally(self) -> None:
        """Counting by cause, destination, sender and age reads one index and no row of what waits for a known cause."""
        fill(self.store, [(SENDERS[1], [(RECIPIENTS[0], State.DELAYED, "greylisted", "mx.example.net")])])
        asked: list[tuple[str, Any]] = []
        real = self.store._reader._idle[0]

        class Listening:
            def execute(self, sql: str, values: Any = ()) -> Any:
                asked.append((sql, values))
                return real.execute(sql, values)

        for wanted in (
            Filter(),
            Filter(causes=("greylisted",), destination="mx.example.net", sender="joe", after=NOW, before=NOW + 5),
            Filter(destination="mx.example.net"),
            Filter(state=State.DELAYED),
        ):
            search.tally(Listening(), wanted)
            search.tally_senders(Listening(), wanted)
            search.ids(Listening(), wanted, 10)
        plans = [self.plan(sql, values) for sql, values in asked if "recipient_cause" in sql]
        self.assertGreater(len(plans), 9)
        for plan in plans:
            first = next(line for line in plan if line.startswith(("SCAN", "SEARCH")) and "subquery" not in line)
            self.assertIn("USING COVERING INDEX recipient_cause", first)
        narrow = [plan for plan in plans if "cause=? AND destination=?" in json.dumps(plan)]
        self.assertGreater(len(narrow), 3)
