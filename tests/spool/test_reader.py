"""Operators find, count, hold, release and remove mails by what they know of them."""

from __future__ import annotations

from typing import Any

from tests.spool.material import LATER, NOW, StoreCase, changed, finished, new_mail, numbers, put
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.mail import Change, Filter, SpoolError, State


class OperatorTests(StoreCase):
    def setUp(self) -> None:
        super().setUp()
        put(
            self.store,
            new_mail(1, 1),
            new_mail(2, 2, sender=None),
            new_mail(3, 3, sender=Address("Ann", "elsewhere.example")),
            new_mail(4, 1, sender=Address("JÜRGEN", "example.org"), state=State.HELD),
        )
        self.delay(1, NOW + 60, destination="mx.example.net")
        self.delay(3, NOW + 60, 1, destination="[192.0.2.7]:25")
        self.ids = {number: queueid.to_text(number) for number in range(1, 9)}

    def found(self, **fields: Any) -> list[int | None]:
        """The numbers of what is found."""
        return numbers(self.all(**fields))

    def test_find(self) -> None:
        """Each field narrows, all together too; none finds all, oldest first."""
        for fields, expected in (
            ({}, [1, 2, 3, 4]),
            ({"queue_ids": (self.ids[3], self.ids[1])}, [1, 3]),
            ({"queue_ids": ("no id", self.ids[8])}, []),
            ({"destination": "mx.example.net"}, [1]),
            ({"destination": "mx.example"}, []),
            ({"sender": "<>"}, [2]),
            ({"sender": "ann@"}, [3]),
            ({"sender": "ELSEWHERE"}, [3]),
            ({"sender": "joe@example.org"}, [1]),
            ({"sender": "JÜRGEN"}, [4]),
            ({"recipient": "u2@example.net"}, [3]),
            ({"recipient": "U1@"}, [2, 3]),
            ({"state": State.HELD}, [4]),
            ({"state": State.ACTIVE}, [2, 3]),
            ({"state": State.DELAYED, "recipient": "u1@"}, [3]),
            ({"state": State.DELAYED, "recipient": "u0@", "sender": "ann"}, []),
            ({"limit": 2}, [1, 2]),
            ({"sender": "' OR 1=1 --"}, []),
            ({"destination": "%"}, []),
        ):
            self.assertEqual(self.found(**fields), expected, fields)

    def test_find_many_ids(self) -> None:
        """There may be more queue ids than a statement has places."""
        ids = tuple(queueid.to_text(number) for number in range(40_000))
        self.assertEqual(self.found(queue_ids=ids), [1, 2, 3, 4])

    def test_all_recipients(self) -> None:
        """A mail is found with all its recipients, whichever matched."""
        self.assertEqual(len(self.all(recipient="u2@")[0].entries), 3)

    def test_count(self) -> None:
        """Mails, and recipients in each state, are counted."""
        changed(self.store, *finished(3, 0))
        counts = {"mails": 4, "active": 3, "delayed": 2, "held": 1, "finished": 1}
        self.assertEqual(self.store.count(), counts)

    def test_hold(self) -> None:
        """Delayed recipients are held; those in an attempt go on."""
        self.assertEqual(self.store.hold([self.ids[3], self.ids[8], "x"]), [self.ids[3]])
        self.assertEqual([entry.state for entry in self.all()[2].entries], [State.ACTIVE, State.HELD, State.ACTIVE])
        self.assertEqual(numbers(self.take(NOW + 60)), [1])

    def test_release(self) -> None:
        """Held and delayed recipients are due at the time given; active and finished ones are left alone."""
        changed(self.store, *finished(3, 0))
        self.assertEqual(self.store.release([self.ids[4], self.ids[3], self.ids[8]], 5.0), [self.ids[4], self.ids[3]])
        states = [entry.state for entry in self.all()[2].entries]
        self.assertEqual(states, [State.FINISHED, State.DELAYED, State.ACTIVE])
        self.assertEqual(numbers(self.take(5.0)), [3, 4])

    def test_remove(self) -> None:
        """Mails go whatever their state; the others stay."""
        self.assertEqual(self.store.remove([self.ids[2], self.ids[4], self.ids[8]]), [self.ids[2], self.ids[4]])
        self.assertEqual(self.found(), [1, 3])
        self.assertEqual({row[0] for row in self.rows("SELECT mail FROM recipient")}, {1, 3})

    def test_other_spellings(self) -> None:
        """An id that a person wrote in another way removes that mail and its file, and no other file."""
        put(self.store, new_mail(0xABC, content=None))
        file = self.directory / "content" / queueid.to_text(0xABC)
        other = self.directory / "content" / "0xABC"
        for path in (file, other):
            path.write_bytes(b"")
        self.assertEqual(self.store.remove(["0xABC"]), ["0xABC"])
        self.assertEqual([file.exists(), other.exists()], [False, True])


class WaitingTests(StoreCase):
    """Why recipients wait, and where an operator sends them."""

    def setUp(self) -> None:
        super().setUp()
        self.ids = {number: queueid.to_text(number) for number in range(1, 9)}

    def causes(self) -> list[list[str]]:
        """The causes of the recipients of all mails."""
        return [[entry.cause for entry in mail.entries] for mail in self.all()]

    def test_held(self) -> None:
        """A mail that a policy holds, or its sender holds back, waits for that; released, it was not tried yet."""
        put(self.store, new_mail(1, 2, state=State.HELD), new_mail(2, state=State.DELAYED), new_mail(3))
        self.assertEqual(self.causes(), [["held", "held"], ["held-back"], [""]])
        self.assertEqual(numbers(self.all(causes=("held", "held-back"), sender="joe")), [1, 2])
        self.store.hold([self.ids[2]])
        self.store.release(list(self.ids.values()), NOW)
        self.assertEqual(self.causes(), [["not-tried", "not-tried"], ["not-tried"], [""]])

    def test_held_by_an_operator(self) -> None:
        """What was tried keeps its cause while an operator holds it, and afterwards."""
        put(self.store, new_mail(1))
        self.delay(1, NOW, cause="greylisted")
        for order in (self.store.hold, lambda ids: self.store.release(ids, NOW)):
            order([self.ids[1]])
            self.assertEqual(self.causes(), [["greylisted"]])

    def test_finished(self) -> None:
        """What is finished waits for nothing: it is not counted, though its mail is still there."""
        put(self.store, new_mail(1, 2))
        self.delay(1, NOW, cause="greylisted")
        changed(self.store, *finished(1, 0))
        self.assertEqual(self.causes(), [["", ""]])
        self.assertEqual([one.recipients for one in self.store.tally(Filter())], [1])

    def test_reroute(self) -> None:
        """Unfinished recipients go to another next hop, those that wait at once; held ones stay held, and what its
        sender holds back keeps its time. ``""`` takes it back."""
        put(self.store, new_mail(1, 4), new_mail(2, state=State.DELAYED), new_mail(3))
        self.delay(1, NOW + 60, 0)
        changed(self.store, Change(self.ids[1], 1, State.HELD, 5.0), *finished(1, 3))
        self.assertEqual(
            self.store.reroute([self.ids[2], self.ids[1], "x"], "[192.0.2.7]", NOW), [self.ids[2], self.ids[1]]
        )
        first, second, third = self.all()
        hop = "[192.0.2.7]"
        self.assertEqual(
            [(entry.state, entry.due, entry.next_hop) for entry in (*first.entries, *second.entries, *third.entries)],
            [
                (State.DELAYED, NOW, hop), (State.HELD, 5.0, hop), (State.ACTIVE, 0.0, hop), (State.FINISHED, 0.0, ""),
                (State.DELAYED, 0.0, hop), (State.ACTIVE, 0.0, ""),
            ],
        )  # fmt: skip
        self.assertEqual(self.take()[-1].entries[0].next_hop, hop)
        self.store.reroute([self.ids[1]], "", NOW)
        self.assertEqual({entry.next_hop for entry in self.all()[0].entries}, {""})

    def test_reroute_during_an_attempt(self) -> None:
        """An attempt under way goes on; what it records leaves the new next hop for the next one."""
        put(self.store, new_mail(1))
        self.store.reroute([self.ids[1]], "mx.example.com", NOW)
        self.delay(1, NOW + 60, cause="greylisted")
        self.assertEqual([(one.next_hop, one.due) for one in self.all()[0].entries], [("mx.example.com", NOW + 60)])

    def test_give_up(self) -> None:
        """What waits gets a final status and is due; what is in an attempt, or finished, is left alone."""
        put(self.store, new_mail(1, 3), new_mail(2, state=State.HELD))
        self.delay(1, NOW + 60, 0, cause="greylisted")
        changed(self.store, *finished(1, 2))
        final = LATER._replace(action=Action.FAILED)
        self.assertEqual(
            self.store.give_up([self.ids[1], self.ids[2], "x"], final, "removed", NOW), [self.ids[1], self.ids[2]]
        )
        first, second = self.all()
        self.assertEqual([entry.last for entry in first.entries], [final, None, None])
        self.assertEqual(self.causes(), [["removed", "", ""], ["removed"]])
        self.assertEqual(numbers(self.take()), [1, 2])
        self.assertEqual(second.entries[0].state, State.DELAYED)

    def test_give_up_what_is_final(self) -> None:
        """What came to its end and waits to be reported is due, and stays what it came to."""
        for number, action in enumerate(set(Action) - {Action.DELAYED}, 1):
            put(self.store, new_mail(number))
            reached = LATER._replace(action=action)
            changed(self.store, Change(self.ids[number], 0, State.DELAYED, NOW + 60, 1, "x", reached, cause="c"))
            self.store.give_up([self.ids[number]], LATER._replace(action=Action.FAILED), "removed", NOW)
            (entry,) = self.all(queue_ids=(self.ids[number],))[0].entries
            self.assertEqual((entry.last, entry.cause, entry.due), (reached, "c", NOW))

    def test_side_by_side(self) -> None:
        """Readings run side by side, and leave their connections to the next; after the end there are none."""
        reader = self.store._reader
        put(self.store, new_mail(1))
        self.assertEqual(reader._reading(lambda one: reader._reading(lambda two: one is not two)), True)
        self.assertEqual(reader.count()["mails"], 1)
        self.assertEqual(len(reader._idle), 2)
        reader.close()
        self.assertRaises(SpoolError, reader.count)

    def test_another_takes_the_last(self) -> None:
        """Another thread may take the connection that was there a moment ago: then it is one more."""

        class Taken(list[Any]):
            """As it looks when somebody else was quicker."""

            def __len__(self) -> int:
                return 1

        reader = self.store._reader
        idle, reader._idle = reader._idle, Taken()
        try:
            self.assertEqual(reader.count()["mails"], 0)
        finally:
            reader._idle = [*idle, *iter(reader._idle)]
        self.assertEqual(len(reader._idle), 2)
