"""Each sentence of the crash story (``spool/spool.py``), proven by killing a process at the step it speaks of."""

from __future__ import annotations

from tests.crash.child import DUE, GROUP, LATER, RELEASE_AT, SIZES, TRIED
from tests.crash.crashed import RESTART, CrashCase
from twisted_mail_node.spool.mail import Attempt, State

KINDS = ("small", "large")


class AcceptingTests(CrashCase):
    """Sentences 1 to 5. A mail ``old`` was kept before, and is always there."""

    def killed(self, step: str, kind: str, times: int = 1) -> set[str]:
        """Die while ``new`` is accepted; gives the names of the mails after the start."""
        self.die(step, "large:old", f"{kind}:new", times=times)
        self.assertTrue(self.acknowledged("old"))
        self.assertFalse(self.acknowledged("new"))
        names = set(self.restart())
        self.assertIn("old", names)
        self.check_integrity()
        return names

    def test_1_spilled(self) -> None:
        """1: a crash while large content is written leaves a file that no row names; the next start deletes it."""
        for times in (1, 2):
            self.setUp()
            self.die("spilled", "large:old", "large:new", times=times)
            self.assertEqual((set(self.find()), self.files), ({"old"}, 2))
            self.assertEqual((set(self.restart()), self.files), ({"old"}, 1))
            self.assertFalse(self.acknowledged("new"))
            self._close()

    def test_2_synced(self) -> None:
        """2: a crash after the file was synced leaves no more than that."""
        self.die("synced", "large:old", "large:new")
        self.assertEqual((set(self.find()), self.files), ({"old"}, 2))
        self.assertEqual((set(self.restart()), self.files), ({"old"}, 1))
        self.assertFalse(self.acknowledged("new"))

    def test_3_begun_small(self) -> None:
        """3: a crash when the transaction has begun keeps nothing, and nobody was answered."""
        self.assertEqual(self.killed("begun", "small"), {"old"})

    def test_3_begun_large(self) -> None:
        """3: the same with a content file, which is deleted."""
        self.assertEqual((self.killed("begun", "large"), self.files), ({"old"}, 1))

    def test_3_written_small(self) -> None:
        """3: a crash when the rows are written but not committed keeps nothing."""
        self.assertEqual(self.killed("written", "small"), {"old"})

    def test_3_written_large(self) -> None:
        """3: the same with a content file, which is deleted."""
        self.assertEqual((self.killed("written", "large"), self.files), ({"old"}, 1))

    def test_3_whole_group(self) -> None:
        """3: of a group that was not committed no mail is kept, and none was answered."""
        for step in ("begun", "written"):
            self.setUp()
            self.die(step, "small:old", "group:new", times=2)  # the commit before the group's is the first
            self.assertEqual(len(self.said), 2)
            self.assertEqual(set(self.restart()), {"old"})
            self._close()

    def test_4_5_committed_small(self) -> None:
        """4 and 5: at the instant of the commit the mail is kept, though the client was not told."""
        self.assertEqual(self.killed("committed", "small"), {"old", "new"})

    def test_4_5_committed_large(self) -> None:
        """4 and 5: the same with a content file, which is whole."""
        self.assertEqual((self.killed("committed", "large"), self.files), ({"old", "new"}, 2))

    def test_4_whole_group(self) -> None:
        """4: every mail of a committed group is kept, though none was answered."""
        self.die("committed", "small:old", "group:new", times=2)
        self.assertEqual(len(self.said), 2)
        self.assertEqual(set(self.restart()), {"old", *[f"new{number}" for number in range(GROUP)]})

    def test_4_first_ever(self) -> None:
        """4: the first mail of a new spool is kept as any other."""
        for kind in KINDS:
            self.setUp()
            self.die("committed", f"{kind}:new")
            self.assertEqual(set(self.restart()), {"new"})
            self._close()

    def test_4_answered(self) -> None:
        """4: what was answered is kept: a crash in the next mail takes nothing of it."""
        self.die("begun", "small:one large:two", "small:three")
        self.assertTrue(self.acknowledged("one") and self.acknowledged("two"))
        self.assertEqual(set(self.restart()), {"one", "two"})
        self.assertEqual([entry.state for entry in self.entries("one")], [State.DELAYED] * 2)


class HeldBackTests(CrashCase):
    """Sentence 6: a mail whose sender holds it back is not tried before its time."""

    def test_6_held_back(self) -> None:
        """6: at the instant of the commit it is delayed until its time, and no start makes it due."""
        self.die("committed", "later:later")
        self.assertFalse(self.acknowledged("later"))
        for _ in range(2):
            for entry in self.entries("later"):
                self.assertEqual(entry[2:], (State.DELAYED, RELEASE_AT, 0, "", None, False, "held-back", ""))
        assert self.store is not None
        self.assertEqual(self.store.take_due(RELEASE_AT - 1, 10), [])
        self.assertEqual(len(self.store.take_due(RELEASE_AT, 10)), 1)

    def test_6_not_committed(self) -> None:
        """6: before the commit it is nobody's, as any other."""
        for step in ("begun", "written"):
            self.setUp()
            self.die(step, "small:old", "later:later", times=1)
            self.assertEqual(set(self.restart()), {"old"})
            self._close()


class RecordingTests(CrashCase):
    """Sentences 6 to 8, for both kinds of content."""

    def test_6_delayed(self) -> None:
        """6: a crash before what became of a recipient is committed leaves it active: due again at the start."""
        for kind in KINDS:
            for step in ("begun", "written"):
                self.setUp()
                self.die(step, f"{kind}:a", "delayed:a")
                self.assertFalse(self.done("delayed", "a"))
                self.assertEqual([entry.state for entry in self.find()["a"].entries], [State.ACTIVE] * 2)
                for entry in self.entries("a"):
                    self.assertEqual(entry[2:], (State.DELAYED, RESTART, 0, "", None, False, "not-tried", ""))
                self.assertEqual(self.attempts("a"), [])
                self._close()

    def test_6_finished(self) -> None:
        """6: a mail that was delivered but not recorded is whole and due again: at worst it is delivered twice."""
        for kind in KINDS:
            for step in ("begun", "written"):
                self.setUp()
                self.die(step, f"{kind}:a", "finished:a")
                self.assertFalse(self.done("finished", "a"))
                self.assertEqual([entry.state for entry in self.entries("a")], [State.DELAYED] * 2)
                self._close()

    def test_6_taken(self) -> None:
        """6: what was taken because it was due is due again, whenever the process dies."""
        for step in ("begun", "written", "committed"):
            self.setUp()
            self.die(step, "small:a", "delayed:a", "taken:a")
            first, second = self.entries("a")
            due = RESTART if step == "committed" else DUE
            self.assertEqual((first.state, first.due, first.attempts, first.last), (State.DELAYED, due, 3, LATER))
            self.assertEqual((second.state, second.due), (State.DELAYED, RESTART))
            self._close()

    def test_7_delayed(self) -> None:
        """7: at the instant of the commit the recipient has its next due time, its cause and its attempt."""
        for kind in KINDS:
            self.setUp()
            self.die("committed", f"{kind}:a", "delayed:a")
            self.assertFalse(self.done("delayed", "a"))
            first, second = self.entries("a")
            self.assertEqual(first[2:], (State.DELAYED, DUE, 3, "example.net", LATER, False, "greylisted", ""))
            self.assertEqual(second[2:4], (State.DELAYED, RESTART))
            self.assertEqual(self.attempts("a"), [Attempt(TRIED, 0, "example.net", LATER)])
            self._close()

    def test_7_one_recipient(self) -> None:
        """7: a recipient that is finished stays finished; the mail waits for the other."""
        for kind in KINDS:
            self.setUp()
            self.die("committed", f"{kind}:a", "first:a")
            self.assertEqual([entry.state for entry in self.entries("a")], [State.FINISHED, State.DELAYED])
            self._close()

    def test_7_last_recipient(self) -> None:
        """7: with the last recipient the rows go in the same commit; no other mail is touched."""
        for kind in KINDS:
            self.setUp()
            self.die("committed", f"{kind}:a {kind}:b", "finished:a")
            self.assertEqual(set(self.restart()), {"b"})
            self.check_integrity()
            self._close()

    def test_8_file_left(self) -> None:
        """8: a crash between the commit and the deletion leaves a file that no row names; the next start deletes it."""
        for order in ("finished", "removed"):
            self.setUp()
            self.die("committed", "large:a large:b", f"{order}:a")
            self.assertEqual((set(self.find()), self.files), ({"b"}, 2))
            self.assertEqual((set(self.restart()), self.files), ({"b"}, 1))
            self._close()

    def test_8_file_deleted(self) -> None:
        """8: after the deletion nothing is left, whoever was told."""
        for order in ("finished", "removed"):
            self.setUp()
            self.die("unlinked", "large:a large:b", f"{order}:a")
            self.assertFalse(self.done(order, "a"))
            self.assertEqual((set(self.find()), self.files), ({"b"}, 1))
            self._close()


class OperatorTests(CrashCase):
    """An operator's orders are done whole or not at all."""

    def test_removed(self) -> None:
        """A mail that is removed is there until the commit, whole, and gone after it."""
        for kind in KINDS:
            for step in ("begun", "written", "committed"):
                self.setUp()
                self.die(step, f"{kind}:a {kind}:b", "removed:a")
                self.assertEqual(set(self.restart()), {"b"} if step == "committed" else {"a", "b"})
                self._close()

    def test_held_and_released(self) -> None:
        """The same for holding and releasing; what is held survives the start."""
        for step in ("begun", "written", "committed"):
            self.setUp()
            self.die(step, "small:a", "delayed:a", "held:a")
            held = State.HELD if step == "committed" else State.DELAYED
            self.assertEqual([entry.state for entry in self.entries("a")], [held, State.DELAYED])
            self._close()
            self.setUp()
            self.die(step, "small:a", "delayed:a", "held:a", "released:a")
            first = self.entries("a")[0]
            if step == "committed":
                self.assertEqual((first.state, first.due), (State.DELAYED, 5.0))
            else:
                self.assertEqual(first.state, State.HELD)
            self._close()


class StartingTests(CrashCase):
    """Sentence 9: the start after a crash, which may crash too."""

    def test_9_killed_again(self) -> None:
        """9: a process that is killed at its start, at any step, and started again, loses nothing."""
        self.die("spilled", "small:a large:b", "large:c")
        for step in ("begun", "written", "committed"):
            self.die(step, "start:")
        self.assertEqual(set(self.restart()), {"a", "b"})
        self.assertEqual(self.files, 1)
        self.check_integrity()

    def test_9_twice(self) -> None:
        """9: a start after a start changes nothing more."""
        self.die("committed", "small:a", "delayed:a", "large:b")
        first = self.restart()
        again = self.restart()
        self.assertEqual(set(first), {"a", "b"})
        for name, mail in again.items():
            self.assertEqual(mail.entries, first[name].entries)
        self.assertEqual(first["b"].content.size, SIZES["large"])
