"""Tests of ``twisted_mail_node.dns.cache``."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.dns.cache import FAILURE_TTL, MAX_NEGATIVE_TTL, MIN_TTL, Cache, with_bounds
from twisted_mail_node.dns.wire import MAX_TTL, Question

A = Question("a.example", "A")


def answer(ttl: int, *records: str | bytes) -> Answer:
    return Answer(records, True, False, "a.example", ttl)


class CacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_lifetime(self) -> None:
        """An answer is known until its TTL is over, and its TTL shrinks."""
        cache = Cache(10, self.clock)
        self.assertIdentical(cache.get(A), None)
        cache.put(A, answer(100, "192.0.2.1"))
        self.clock.advance(40)
        self.assertEqual(cache.get(A), answer(60, "192.0.2.1"))
        self.clock.advance(60)
        self.assertIdentical(cache.get(A), None)
        self.assertEqual(len(cache), 0)

    def test_failure(self) -> None:
        """A failure is known for a few seconds only."""
        cache = Cache(10, self.clock)
        cache.put(A, "no answer")
        self.assertEqual(cache.get(A), "no answer")
        self.clock.advance(FAILURE_TTL)
        self.assertIdentical(cache.get(A), None)

    def test_bounds(self) -> None:
        """TTLs are brought between a few seconds and a day; three hours when there is nothing."""
        self.assertEqual(with_bounds(answer(0, "x")).ttl, MIN_TTL)
        self.assertEqual(with_bounds(answer(10**9, "x")).ttl, MAX_TTL)
        self.assertEqual(with_bounds(answer(10**9)).ttl, MAX_NEGATIVE_TTL)
        self.assertEqual(with_bounds(answer(77, "x")).ttl, 77)

    def test_least_used_goes(self) -> None:
        """When it is full, what was not asked for longest goes."""
        cache = Cache(2, self.clock)
        b, c = Question("b.example", "A"), Question("c.example", "A")
        cache.put(A, answer(100, "x"))
        cache.put(b, answer(100, "x"))
        cache.get(A)
        cache.put(c, answer(100, "x"))
        self.assertIdentical(cache.get(b), None)
        self.assertNotIdentical(cache.get(A), None)
        self.assertNotIdentical(cache.get(c), None)

    def test_large_answers(self) -> None:
        """Many records, or long texts, take more places, so memory is bounded."""
        cache = Cache(100, self.clock)
        for number in range(50):
            cache.put(Question(f"n{number}.example", "TXT"), answer(100, b"x" * 10000))
        self.assertLess(len(cache), 6)
        cache.put(A, answer(100, b"x" * 100000))
        self.assertIdentical(cache.get(A), None)
        many = Cache(100, self.clock)
        for number in range(50):
            many.put(Question(f"n{number}.example", "A"), answer(100, *[str(i) for i in range(800)]))
        self.assertEqual(len(many), 1)

    def test_replaced(self) -> None:
        """A new outcome replaces the old, and its places are given back."""
        cache = Cache(3, self.clock)
        for _ in range(10):
            cache.put(A, answer(100, "x"))
        cache.put(Question("b.example", "A"), answer(100, "y"))
        self.assertEqual(len(cache), 2)

    def test_no_cache(self) -> None:
        """A cache of no size keeps nothing."""
        cache = Cache(0, self.clock)
        cache.put(A, answer(100, "x"))
        self.assertIdentical(cache.get(A), None)
