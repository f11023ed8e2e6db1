"""Test vectors of others for Authentication-Results."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth import vectors_authres


class VectorTest(SynchronousTestCase):
    """RFC 8601."""

    def test_examples(self) -> None:
        """Every example goes as it says, but for four that are listed with their reason."""
        counts = vectors_authres.run()
        self.assertEqual(counts.failed, ())
        self.assertEqual((counts.passed, counts.contested), (counts.total - 4, 4))
        self.assertGreater(counts.total, 200)
