"""Test vectors of others for DKIM."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth import vectors_dkim


class VectorsTest(SynchronousTestCase):
    """chasquid's, Stalwart's, MimeKit's and dkimpy's."""

    def test_cases(self) -> None:
        """Each signature comes to what they say, but for those that are contested."""
        counts = vectors_dkim.run()
        self.assertEqual(counts.failed, ())
        self.assertEqual(counts.contested, len(vectors_dkim.CONTESTED))
        self.assertEqual(counts.passed + counts.contested, counts.total)
        self.assertGreater(counts.total, 80)
