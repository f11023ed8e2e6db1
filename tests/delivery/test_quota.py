"""Tests of how full mailboxes are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.delivery import quota
from twisted_mail_node.delivery.quota import Quota, count
from twisted_mail_node.message.address import Address

JOE = Address("joe", "local.test")


class Threads(Clock):
    """A clock that is also a thread pool: work is done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[Callable[[], None]] = []

    def getThreadPool(self) -> Threads:
        """See IReactorThreads."""
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, object], None], function: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        """See ThreadPool."""

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception:
                done(False, Failure())
            else:
                done(True, result)

        self.work.append(run)

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        """See IReactorFromThreads."""
        function(*args)

    def run_all(self) -> int:
        """Do the work that waits; how much it was."""
        work, self.work = self.work, []
        for run in work:
            run()
        return len(work)


class QuotaTests(SynchronousTestCase):
    """Quota."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.limit: int | None = 1000
        self.threads = Threads()
        self.quota = Quota(lambda _: self.limit, lambda address: self.root / address.local_part, self.threads)

    def put(self, place: str, octets: int, name: str = "joe") -> None:
        """A mail in a mailbox."""
        path = self.root / name / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * octets)

    def test_count(self) -> None:
        """Mails in new and cur count; Maildir++ names tell their size, others are looked at."""
        self.put("new/1.a.host", 10)
        self.put("cur/2.b.host,S=500,W=600:2,S", 1)
        self.put("new/3.c.host,S=7", 1)
        self.put("tmp/4.d.host", 999)
        self.put(".Junk/new/5.e.host,S=30", 1)
        (self.root / "joe" / ".Linked").symlink_to(self.root / "joe" / "new")
        self.assertEqual(count(str(self.root / "joe")), 547, "folders count, links are not followed")
        self.assertEqual(count(str(self.root / "nobody")), 0)

    def test_no_limit(self) -> None:
        """Without a quota nothing is ever counted."""
        self.limit = None
        self.assertFalse(self.quota.over(JOE, 10**12))
        self.assertEqual(self.threads.run_all(), 0)

    def test_answers_at_once(self) -> None:
        """Before the first count a mailbox is not full; afterwards the count decides."""
        self.put("new/1", 900)
        self.assertFalse(self.quota.over(JOE))
        self.assertFalse(self.quota.over(JOE, 500))
        self.assertEqual(self.threads.run_all(), 1)
        self.assertFalse(self.quota.over(JOE))
        self.assertFalse(self.quota.over(JOE, 100))
        self.assertTrue(self.quota.over(JOE, 101))

    def test_used_up(self) -> None:
        """Without a size: full when nothing is left."""
        self.put("new/1", 1000)
        self.quota.over(JOE)
        self.threads.run_all()
        self.assertTrue(self.quota.over(JOE))

    def test_once_a_minute(self) -> None:
        """A count is good for a minute; then the next question starts another."""
        self.quota.over(JOE)
        self.threads.run_all()
        self.put("new/1", 1000)
        self.threads.advance(59)
        self.assertFalse(self.quota.over(JOE))
        self.assertEqual(self.threads.run_all(), 0)
        self.threads.advance(1)
        self.assertFalse(self.quota.over(JOE))
        self.assertEqual(self.threads.run_all(), 1)
        self.assertTrue(self.quota.over(JOE))

    def test_delivered_counts_at_once(self) -> None:
        """What was delivered since the count counts too, and once only when it is counted."""
        self.quota.over(JOE)
        self.threads.run_all()
        self.quota.delivered(JOE, 600)
        self.put("new/1", 600)
        self.assertTrue(self.quota.over(JOE, 500))
        self.threads.advance(60)
        self.quota.over(JOE)
        self.threads.run_all()
        self.assertFalse(self.quota.over(JOE, 400))
        self.assertTrue(self.quota.over(JOE, 401))

    def test_delivered_while_counting(self) -> None:
        """A mail that comes during a count is not forgotten."""
        self.quota.over(JOE)
        self.quota.delivered(JOE, 1000)
        self.threads.run_all()
        self.assertTrue(self.quota.over(JOE))

    def test_cannot_count(self) -> None:
        """A mailbox that cannot be read is not full, and asked about again a minute later."""
        self.put("new", 1)
        self.quota.over(JOE)
        self.threads.run_all()
        self.assertFalse(self.quota.over(JOE))
        self.assertEqual(self.threads.run_all(), 0)
        self.threads.advance(60)
        self.quota.over(JOE)
        self.assertEqual(self.threads.run_all(), 1)

    def test_bounded(self) -> None:
        """So many mailboxes are remembered, so many counted at the same time, not more."""
        self.patch(quota, "MAILBOXES_MAX", 8)
        for number in range(20):
            self.quota.over(Address(str(number), "local.test"))
        self.assertEqual(self.threads.run_all(), quota.COUNTS_MAX)
        self.quota.over(Address("19", "local.test"))
        self.assertEqual(self.threads.run_all(), 1)
        self.assertEqual(len(self.quota._usages), 8)
        self.quota.delivered(Address("0", "local.test"), 5)
