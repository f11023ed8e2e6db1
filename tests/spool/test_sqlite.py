"""The statements do what ISpool promises: groups of any size, due times, orders of the operator, damage set aside."""

from __future__ import annotations

import re
from typing import Any

import apsw

from tests.spool.material import (
    HEADER,
    LATER,
    NOW,
    StoreCase,
    changed,
    envelope,
    finished,
    new_mail,
    numbers,
    put,
    whole,
)
from twisted_mail_node.spool import orders, queueid, sqlite
from twisted_mail_node.spool.mail import Change, Filter, SpoolError, State
from twisted_mail_node.spool.reader import COUNT, NEXT_DUE
from twisted_mail_node.spool.statements import BLOCK

ORDERS = (orders.HOLD, orders.RELEASE, orders.REROUTE, orders.GIVE_UP)


class KeepingTests(StoreCase):
    def test_all_comes_back(self) -> None:
        """A mail is found as it was kept, also by another process."""
        put(self.store, new_mail(7, 3, b"content\r\n"))
        for reopen in (False, True):
            if reopen:
                self.reopen()
            (mail,) = self.all()
            self.assertEqual((mail.queue_id, mail.header, mail.received), (queueid.to_text(7), HEADER, NOW))
            self.assertEqual(mail.envelope, envelope(3))
            self.assertEqual([entry.number for entry in mail.entries], [0, 1, 2])
            self.assertEqual({entry.state for entry in mail.entries}, {State.ACTIVE})
            self.assertEqual((whole(mail), mail.content.size), (b"content\r\n", 9))

    def test_any_number(self) -> None:
        """A group may have any number of mails, each any number of recipients."""
        for count in (1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5):
            first = count * 1000
            put(self.store, *[new_mail(first + n, 1 + n % 3) for n in range(count)])
            found = self.all(queue_ids=tuple(queueid.to_text(first + n) for n in range(count)))
            self.assertEqual(numbers(found), [first + n for n in range(count)])
            self.assertEqual([len(mail.entries) for mail in found], [1 + n % 3 for n in range(count)])

    def test_many_recipients(self) -> None:
        """A mail may have a thousand recipients, in their order."""
        put(self.store, new_mail(1, 1000))
        (mail,) = self.all()
        self.assertEqual(mail.envelope, envelope(1000))

    def test_same_id(self) -> None:
        """A queue id cannot be given twice; nothing of the second mail is kept."""
        put(self.store, new_mail(1, content=b"first"))
        self.assertRaises(SpoolError, put, self.store, new_mail(2), new_mail(1, content=b"second"))
        self.assertEqual([whole(mail) for mail in self.all()], [b"first"])

    def test_null_reverse_path(self) -> None:
        """The null reverse-path and the empty content are kept as they are."""
        put(self.store, new_mail(1, content=b"", sender=None))
        (mail,) = self.all()
        self.assertIsNone(mail.envelope.reverse_path)
        self.assertEqual(whole(mail), b"")

    def test_ask_later(self) -> None:
        """Content of a mail that has gone since it was found is an OSError."""
        put(self.store, new_mail(1))
        (mail,) = self.all()
        self.store.remove([mail.queue_id])
        self.assertRaises(OSError, whole, mail)

    def test_closed(self) -> None:
        """Content that is wanted after the store was closed is an OSError too."""
        put(self.store, new_mail(1))
        (mail,) = self.all()
        self.reopen()
        self.assertRaises(OSError, whole, mail)


class ChangingTests(StoreCase):
    def test_all_fields(self) -> None:
        """What became of a recipient is kept whole, and only of that one."""
        put(self.store, new_mail(1, 2))
        self.delay(1, NOW + 60, 1, attempts=3, destination="example.net", last=LATER, told=True)
        before, entry = self.all()[0].entries
        self.assertEqual((before.state, before.last), (State.ACTIVE, None))
        self.assertEqual(entry[2:], (State.DELAYED, NOW + 60, 3, "example.net", LATER, True, "", ""))

    def test_what_was_told(self) -> None:
        """How much of a delay was told is kept as the number it is, of any age."""
        put(self.store, new_mail(1))
        for told in (0, 1, 2 * 14_400, 2 * 10**9 + 1):
            self.delay(1, NOW, told=told)
            self.assertEqual(self.all()[0].entries[0].told, told)

    def test_last_recipient(self) -> None:
        """A mail leaves when the last of its recipients is finished, and not before."""
        put(self.store, new_mail(1, 3))
        for place in (2, 0):
            changed(self.store, *finished(1, place))
            self.assertEqual(len(self.all()), 1)
        changed(self.store, *finished(1, 1))
        self.assertEqual(self.all(), [])
        self.assertEqual(self.rows("SELECT * FROM recipient"), [])

    def test_only_recipient(self) -> None:
        """A mail whose only recipient is finished leaves at once, with its attempts and its file; others stay."""
        put(self.store, *[new_mail(number) for number in range(2 * BLOCK + 3)])
        kept = self.store.content / queueid.to_text(0)
        kept.write_bytes(b"content")
        self.rows("UPDATE mail SET content = NULL WHERE id = 0")
        self.delay(1, NOW, attempts=1, tried=NOW, last=LATER)
        self.assertEqual(len(self.rows("SELECT * FROM attempt")), 1)
        gone = [
            Change(queueid.to_text(number), 0, State.FINISHED, attempts=1 + number % 2, whole=True)
            for number in range(2 * BLOCK + 2)
        ]
        changed(self.store, *gone)
        self.assertEqual(numbers(self.all()), [2 * BLOCK + 2])
        self.assertEqual(len(self.rows("SELECT * FROM recipient")), 1)
        self.assertEqual(self.rows("SELECT * FROM attempt"), [])
        self.assertFalse(kept.exists())
        changed(self.store, *gone)
        self.assertEqual(numbers(self.all()), [2 * BLOCK + 2])

    def test_unfinished_states(self) -> None:
        """A recipient that is active, delayed or held keeps the mail."""
        for number, state in enumerate((State.ACTIVE, State.DELAYED, State.HELD)):
            put(self.store, new_mail(number, 2))
            changed(self.store, Change(queueid.to_text(number), 0, state), *finished(number, 1))
        self.assertEqual(numbers(self.all()), [0, 1, 2])

    def test_many_at_once(self) -> None:
        """One commit finishes any number of recipients of any number of mails."""
        count = 2 * BLOCK + 3
        put(self.store, *[new_mail(n, 2) for n in range(count)], new_mail(count, 2))
        changes = [change for n in range(count) for change in finished(n, 0, 1)]
        changed(self.store, *changes, *finished(count, 0))
        self.assertEqual(numbers(self.all()), [count])
        self.assertEqual(len(self.rows("SELECT * FROM recipient")), 2)

    def test_mixed(self) -> None:
        """Finished and delayed recipients of several mails go together."""
        put(self.store, new_mail(1, 2), new_mail(2, 2))
        later = Change(queueid.to_text(2), 1, State.DELAYED, NOW)
        changed(self.store, *finished(1, 0, 1), *finished(2, 0), later)
        (mail,) = self.all()
        self.assertEqual([entry.state for entry in mail.entries], [State.FINISHED, State.DELAYED])

    def test_twice(self) -> None:
        """Finishing what is finished, or gone, changes nothing."""
        put(self.store, new_mail(1, 2))
        for _ in range(2):
            changed(self.store, *finished(1, 0))
            self.assertEqual(len(self.all()), 1)
        for _ in range(2):
            changed(self.store, *finished(1, 1))
            self.assertEqual(self.all(), [])

    def test_removed_meanwhile(self) -> None:
        """What became of a mail that an operator has removed brings nothing back."""
        put(self.store, new_mail(1))
        self.store.remove([queueid.to_text(1)])
        self.delay(1, NOW)
        self.assertEqual(self.rows("SELECT * FROM recipient"), [])


class DueTests(StoreCase):
    def test_due_only(self) -> None:
        """What is not due, active, held or finished stays where it is."""
        put(self.store, *[new_mail(n, 2) for n in range(1, 6)])
        self.delay(1, NOW)
        self.delay(2, NOW + 1)
        changed(self.store, Change(queueid.to_text(3), 0, State.HELD, NOW), *finished(4, 0))
        self.assertEqual(numbers(self.take()), [1])

    def test_entries(self) -> None:
        """Only the recipients that are due are in the entries, as active; the envelope has them all."""
        put(self.store, new_mail(1, 4))
        self.delay(1, NOW - 5, 1, attempts=2, destination="example.net", last=LATER)
        self.delay(1, NOW, 3)
        (mail,) = self.take()
        self.assertEqual(
            [(entry.number, entry.state) for entry in mail.entries], [(1, State.ACTIVE), (3, State.ACTIVE)]
        )
        self.assertEqual(mail.entries[0].last, LATER)
        self.assertEqual(mail.envelope, envelope(4))

    def test_not_twice(self) -> None:
        """What was handed out is not handed out again until something is recorded."""
        put(self.store, new_mail(1, content=b"abc"))
        self.delay(1, NOW)
        (mail,) = self.take()
        self.assertEqual(mail.content.octets, b"abc")
        self.assertEqual(self.take(), [])
        self.delay(1, NOW)
        self.assertEqual(numbers(self.take()), [1])

    def test_oldest_first(self) -> None:
        """The longest due comes first; the limit holds."""
        put(self.store, *[new_mail(n) for n in range(1, 6)])
        for number, due in enumerate((30.0, 10.0, 50.0, 20.0, 40.0), 1):
            self.delay(number, due)
        self.assertEqual(numbers(self.take(limit=3)), [2, 4, 1])
        self.assertEqual(numbers(self.take(limit=3)), [5, 3])

    def test_priorities(self) -> None:
        """What is urgent comes first, by the turns of ``message.precedence``; within a class the longest due."""
        put(self.store, *[new_mail(n, priority_class=n // 20) for n in range(60)])
        for number in range(60):
            self.delay(number, float(100 - number))
        taken = numbers(self.take(limit=10))
        self.assertEqual([len([n for n in taken if n is not None and n // 20 == one]) for one in range(3)], [6, 3, 1])
        self.assertEqual(taken[:3], [19, 18, 39])
        self.assertEqual(taken[-1], 59)
        order = [taken, *[numbers(self.take(limit=7)) for _ in range(8)]]
        self.assertEqual(sorted(n for some in order for n in some if n is not None), list(range(60)))
        self.assertEqual(self.take(), [])

    def test_one_at_a_time(self) -> None:
        """Also where there is room for one mail only, each class has its turns."""
        put(self.store, *[new_mail(n, priority_class=n // 20) for n in range(60)])
        for number in range(60):
            self.delay(number, float(number))
        taken = [(numbers(self.take(limit=1))[0] or 0) // 20 for _ in range(10)]
        self.assertEqual([taken.count(one) for one in range(3)], [6, 3, 1])

    def test_memory(self) -> None:
        """No more content is brought into memory at once than DUE_OCTETS and one mail."""
        self.patch(sqlite, "DUE_OCTETS", 1000)
        put(self.store, *[new_mail(n, content=b"x" * 600) for n in range(1, 5)])
        for number in range(1, 5):
            self.delay(number, float(number))
        self.assertEqual([numbers(self.take()), numbers(self.take())], [[1, 2], [3, 4]])

    def test_next_due(self) -> None:
        """The next due time is that of delayed recipients alone."""
        put(self.store, *[new_mail(n) for n in range(1, 4)])
        self.assertIsNone(self.store.next_due())
        changed(self.store, Change(queueid.to_text(1), 0, State.HELD, 5.0))
        self.assertIsNone(self.store.next_due())
        self.delay(2, NOW + 9)
        self.delay(3, NOW + 7)
        self.assertEqual(self.store.next_due(), NOW + 7)
        put(self.store, new_mail(4, priority_class=2), new_mail(5, priority_class=0))
        self.delay(4, NOW + 5)
        self.delay(5, NOW + 6)
        self.assertEqual(self.store.next_due(), NOW + 5)

    def test_index(self) -> None:
        """What is due is found by the index, in order, however many mails wait; finishing goes by the primary key."""
        for sql in (
            sqlite.DUE.replace("?", "1"),
            NEXT_DUE,
            "SELECT id FROM mail WHERE content IS NULL",
            f"{sqlite._FINISH}(1,0),(2,0))",
            COUNT,
            sqlite.RECOVER.replace("?", "1"),
            "DELETE FROM attempt WHERE mail IN (1,2)",
            *[re.sub(":[a-z_]+", "'[1]'", sql) for sql in ORDERS],
            "DELETE FROM mail WHERE id IN (1,2) AND NOT EXISTS (SELECT 1 FROM recipient WHERE mail = id AND state < 3)",
        ):
            plan = [row[3] for row in self.rows("EXPLAIN QUERY PLAN " + sql)]
            scans = [line for line in plan if line.startswith("SCAN") and not re.search("INDEX|VALUES|json_each", line)]
            self.assertEqual(scans, [], sql)
            self.assertNotIn("USE TEMP B-TREE FOR ORDER BY", plan)
        plan = [row[3] for row in self.rows("EXPLAIN QUERY PLAN " + sqlite.DUE.replace("?", "1"))]
        self.assertIn("SEARCH recipient USING COVERING INDEX recipient_due (class=? AND due<?)", plan)

    def test_damaged_row(self) -> None:
        """A mail whose rows cannot be understood is held, and keeps no other from being tried (T18)."""
        put(self.store, new_mail(1), new_mail(2), new_mail(3))
        for number in (1, 2, 3):
            self.delay(number, NOW)
        self.rows("UPDATE mail SET envelope = '[[\"jo' WHERE id = 1")
        self.rows("UPDATE recipient SET recipient = 'x' WHERE mail = 2")
        self.assertEqual(numbers(self.take()), [3])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(self.rows("SELECT state FROM recipient ORDER BY mail"), [(2,), (2,), (0,)])
        self.assertEqual(self.take(), [])
        self.assertEqual(numbers(self.all()), [3])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(self.store.remove([queueid.to_text(1)]), [queueid.to_text(1)])


class TransactionTests(StoreCase):
    def test_steps(self) -> None:
        """The steps are reached in the order of the story; unlinking only where there is a file."""
        self.steps.clear()
        put(self.store, new_mail(1), new_mail(2, content=None))
        self.assertEqual(self.steps, ["begun", "written", "committed"])
        self.steps.clear()
        changed(self.store, *finished(1, 0))
        self.assertEqual(self.steps, ["begun", "written", "committed"])
        self.steps.clear()
        changed(self.store, *finished(2, 0))
        self.assertEqual(self.steps, ["begun", "written", "committed", "unlinked"])

    def test_all_or_nothing(self) -> None:
        """What fails in the middle leaves nothing, and the next transaction works."""

        def work() -> None:
            self.store.insert([new_mail(1)])
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.store.transaction, work)
        self.assertEqual(self.all(), [])
        put(self.store, new_mail(2))
        self.assertEqual(numbers(self.all()), [2])

    def test_part_of_another(self) -> None:
        """A transaction inside another is committed, or undone, with that."""
        put(self.store, new_mail(1), new_mail(2))
        self.delay(1, NOW)
        self.steps.clear()

        def work(fail: bool) -> None:
            self.store.hold([queueid.to_text(1)])
            self.store.remove([queueid.to_text(2)])
            if fail:
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.store.transaction, lambda: work(True))
        self.assertEqual([mail.entries[0].state for mail in self.all()], [State.DELAYED, State.ACTIVE])
        self.steps.clear()
        self.store.transaction(lambda: work(False))
        self.assertEqual(self.steps, ["begun", "written", "committed"])
        self.assertEqual([mail.entries[0].state for mail in self.all()], [State.HELD])

    def test_file_of_a_failed_removal(self) -> None:
        """A removal that is undone, inside another transaction too, leaves the content file, also later."""
        put(self.store, new_mail(1, content=None))
        file = self.directory / "content" / queueid.to_text(1)
        file.write_bytes(b"")

        def work() -> None:
            self.store.remove([queueid.to_text(1)])
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.store.transaction, work)
        put(self.store, new_mail(2))
        self.assertTrue(file.exists())
        changed(self.store, *finished(1, 0))
        self.assertFalse(file.exists())

    def test_rollback_fails(self) -> None:
        """When even the rollback fails, nothing is taken for committed that is not."""
        connection = self.store.connection

        class Stubborn:
            in_transaction = True

            def execute(self, sql: str, values: object = ()) -> Any:
                if sql == "ROLLBACK" or sql.startswith("INSERT"):
                    raise apsw.IOError("disk I/O error")
                return connection.execute(sql, values)

        self.store.connection = Stubborn()
        self.assertRaises(SpoolError, put, self.store, new_mail(1))
        self.store.connection = connection
        self.assertTrue(connection.in_transaction)
        self.assertRaises(SpoolError, put, self.store, new_mail(2))
        put(self.store, new_mail(3))
        self.assertEqual(numbers(self.reopen().find(Filter())), [3])


class FullTests(StoreCase):
    def test_told_apart(self) -> None:
        """A full database is told apart from other errors; what was kept stays, and there is room again later."""
        put(self.store, new_mail(1))
        pages = self.store.connection.pragma("page_count")
        self.store.connection.pragma("max_page_count", pages)
        error = self.assertRaises(SpoolError, put, self.store, new_mail(2, content=b"x" * 100_000))
        self.assertEqual((error.full, error.unsure), (True, False))
        self.store.connection.pragma("max_page_count", 1_000_000)
        put(self.store, new_mail(3, content=b"x" * 100_000))
        self.assertEqual(numbers(self.reopen().find(Filter())), [1, 3])

    def test_other_errors(self) -> None:
        """A constraint that is not kept is no full disk."""
        put(self.store, new_mail(1))
        self.assertFalse(self.assertRaises(SpoolError, put, self.store, new_mail(1)).full)


class RecoverTests(StoreCase):
    def test_active(self) -> None:
        """What was active is due at the start; nothing else changes."""
        put(self.store, new_mail(1, 4))
        self.delay(1, NOW + 60, 1)
        changed(self.store, Change(queueid.to_text(1), 2, State.HELD), *finished(1, 3))
        self.assertEqual(self.store.recover(NOW), (1, 1))
        states = [(entry.state, entry.due) for entry in self.all()[0].entries]
        self.assertEqual(states[:2], [(State.DELAYED, NOW), (State.DELAYED, NOW + 60)])
        self.assertEqual([state for state, _ in states[2:]], [State.HELD, State.FINISHED])

    def test_files(self) -> None:
        """Files that no row names are deleted; those of mails stay, and so does what is not ours."""
        put(self.store, new_mail(1, content=None), new_mail(2))
        content = self.directory / "content"
        for name in (queueid.to_text(1), queueid.to_text(2), queueid.to_text(3), ".nfs0001", "0x1"):
            (content / name).write_bytes(b"x")
        (content / "lost+found").mkdir()
        self.assertEqual(self.store.recover(NOW), (2, 2))
        left = {path.name for path in content.iterdir()}
        self.assertEqual(left, {queueid.to_text(1), ".nfs0001", "0x1", "lost+found"})

    def test_file_that_stays(self) -> None:
        """A file that cannot be deleted does not keep the node from starting."""
        stubborn = self.directory / "content" / queueid.to_text(9)
        stubborn.mkdir()
        self.assertEqual(self.store.recover(NOW), (0, 0))
        self.assertTrue(stubborn.exists())
