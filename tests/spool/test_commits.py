"""The group commit: what waits goes together and in order, one bad order hurts no other, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.spool.material import NOW, finished, new_mail, numbers, put, reactor
from twisted_mail_node.spool import commits, database
from twisted_mail_node.spool.commits import Commits, Order
from twisted_mail_node.spool.mail import Filter, SpoolError
from twisted_mail_node.spool.sqlite import Store


class CommitsTests(TestCase):
    def setUp(self) -> None:
        self.groups: list[int] = []
        self.step: Callable[[str], None] = lambda step: None
        self.store = Store(Path(self.mktemp()), reached=lambda step: self.step(step))
        self.addCleanup(self.store.close)
        self.commits = Commits(self.store, reactor)
        self.addCleanup(self.commits.stop)
        real = self.commits._write

        def write(group: list[Order]) -> None:
            self.groups.append(len(group))
            real(group)

        self.patch(self.commits, "_write", write)

    def put(self, order: Order) -> Deferred[Any]:
        """Give an order."""
        self.commits.put(order)
        return order.done

    def gathered(self, orders: list[Order]) -> list[Deferred[Any]]:
        """Give orders while a commit is under way, so that they are a group."""
        go_on, waits = threading.Event(), threading.Event()

        def work(store: Store) -> None:
            waits.set()
            go_on.wait(10)

        self.put(Order(work=work))
        waits.wait(10)
        given = [self.put(order) for order in orders]
        go_on.set()
        return given

    def kept(self) -> list[int | None]:
        """Numbers of the mails in the store."""
        return numbers(self.store.find(Filter()))

    async def test_group(self) -> None:
        """What comes while a commit runs is written with one commit after it."""
        await gatherResults(self.gathered([Order(new_mail(n)) for n in range(20)]))
        self.assertEqual(self.groups, [1, 20])
        self.assertEqual(self.kept(), list(range(20)))

    async def test_bounds(self) -> None:
        """A group has at most so many orders, and about so many octets."""
        self.patch(commits, "GROUP_MAX", 8)
        self.patch(commits, "GROUP_OCTETS", 100)
        await gatherResults(self.gathered([Order(new_mail(n)) for n in range(20)]))
        await gatherResults(self.gathered([Order(new_mail(n), octets=60) for n in range(20, 25)]))
        self.assertEqual(self.groups, [1, 8, 8, 4, 1, 2, 2, 1])

    async def test_in_order(self) -> None:
        """Orders take effect in the order they were given, and are answered in it."""
        answered: list[int] = []
        orders = [Order(work=lambda store, n=n: n) for n in range(50)]  # type: ignore[misc]
        given = self.gathered(orders)
        for done in given:
            done.addCallback(answered.append)
        await gatherResults(given)
        self.assertEqual(answered, list(range(50)))

    async def test_within_a_group(self) -> None:
        """A mail that is kept and finished in the same group is gone; orders to look see both."""
        orders = [
            Order(new_mail(1)),
            Order(new_mail(2)),
            Order(changes=finished(1, 0)),
            Order(work=lambda store: store.connection.execute("SELECT id FROM mail").fetchall()),
        ]
        results = await gatherResults(self.gathered(orders))
        self.assertEqual(results[3], [(2,)])
        self.assertEqual(self.kept(), [2])

    async def test_bad_order(self) -> None:
        """An order that cannot be done fails alone; the others of its group are kept."""
        put(self.store, new_mail(3))

        def breaks(store: Store) -> None:
            raise ZeroDivisionError

        orders = [Order(new_mail(1)), Order(new_mail(3)), Order(work=breaks), Order(new_mail(4))]
        first, same, broken, last = self.gathered(orders)
        await gatherResults([first, last])
        await self.assertFailure(gatherResults([same], consumeErrors=True).addErrback(_cause), SpoolError)
        error = await self.assertFailure(broken, SpoolError)
        self.assertIn("spool failed", str(error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.kept(), [1, 3, 4])
        await self.put(Order(new_mail(5)))
        self.assertEqual(self.kept(), [1, 3, 4, 5])

    async def test_answered_after(self) -> None:
        """Nobody is answered before the commit."""
        order = Order(new_mail(1))
        seen: list[bool] = []
        self.step = lambda step: seen.append(order.done.called)
        await self.put(order)
        self.assertEqual(seen, [False, False, False])

    async def test_reactor_thread(self) -> None:
        """Answers come in the reactor's thread."""
        where: list[int] = []
        done = self.put(Order(new_mail(1)))
        done.addCallback(lambda _: where.append(threading.get_ident()))
        await done
        self.assertEqual(where, [threading.get_ident()])

    async def test_locked(self) -> None:
        """While another process holds the write lock a whole group waits once, not each order for itself."""
        self.store.connection.set_busy_timeout(10)
        other = database.open_reader(self.store.directory / "spool.sqlite")
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        given = [self.put(Order(new_mail(n))) for n in range(10)]
        for done in given:
            await self.assertFailure(done, SpoolError)
        self.assertEqual(sum(self.groups), 10)
        other.execute("ROLLBACK")
        await self.put(Order(new_mail(11)))
        self.assertEqual(self.kept(), [11])

    async def test_full(self) -> None:
        """When the disk has no room for a group, orders that need none are done all the same."""
        put(self.store, new_mail(1, content=b"x" * 50_000))
        connection = self.store.connection
        connection.pragma("max_page_count", connection.pragma("page_count"))
        big, gone = self.gathered([Order(new_mail(2, content=b"x" * 200_000)), Order(changes=finished(1, 0))])
        error = await self.assertFailure(big, SpoolError)
        self.assertTrue(error.full)
        await gone
        self.assertEqual(self.kept(), [])

    async def test_cancelled(self) -> None:
        """Who stops waiting for an order stops nothing; the thread goes on."""
        (given,) = self.gathered([Order(new_mail(1))])
        given.addErrback(lambda failure: None)
        given.cancel()
        await self.put(Order(new_mail(2)))
        self.assertEqual(self.kept(), [1, 2])


class StopTests(TestCase):
    def setUp(self) -> None:
        self.store = Store(Path(self.mktemp()))
        self.addCleanup(self.store.close)

    async def test_what_waits(self) -> None:
        """Stopping writes what waits, and the answers still come."""
        thread = Commits(self.store, reactor)
        orders = [Order(new_mail(n)) for n in range(100)]
        for order in orders:
            thread.put(order)
        thread.stop()
        self.assertEqual(len(self.store.find(Filter())), 100)
        await gatherResults([order.done for order in orders])
        self.assertEqual(self.store.transaction(lambda: self.store.recover(NOW))[0], 100)

    async def test_afterwards(self) -> None:
        """An order that comes after the end fails at once, instead of waiting for ever."""
        thread = Commits(self.store, reactor)
        thread.stop()
        order = Order(new_mail(1))
        thread.put(order)
        await self.assertFailure(order.done, SpoolError)
        self.assertEqual(self.store.find(Filter()), [])

    def test_apsw(self) -> None:
        """SQLite is one without the error that could spoil a WAL while it is reset (mended in 3.51.3)."""
        self.assertGreaterEqual(tuple(map(int, apsw.sqlite_lib_version().split("."))), (3, 51, 3))


def _cause(failure: Any) -> Any:
    return failure.value.subFailure
