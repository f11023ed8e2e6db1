"""The conformance suite of RFC 7208."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth import vectors_spf


class SuiteTest(SynchronousTestCase):
    """SPF against the suite that its authors maintain."""

    def test_all(self) -> None:
        """Every case has one of the results that are allowed, and the explanation it says."""
        counts = vectors_spf.run()
        self.assertEqual(counts.failed, ())
        self.assertEqual(counts.passed, counts.total)
        self.assertEqual(counts.total, 203)
