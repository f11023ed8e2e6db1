"""The table of test vectors in the documents is the one that ``make vectors`` prints."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth import vectors

PAGE = Path(__file__).parents[2] / "docs" / "rfc.rst"


class VectorsTests(SynchronousTestCase):
    def test_page(self) -> None:
        """docs/rfc.rst tells how many pass; none fails."""
        counts = [(name, run()) for name, run in vectors.SETS]
        self.assertIn("\n".join(vectors.table(counts)), PAGE.read_text("utf-8"))
        self.assertEqual([case for _, one in counts for case in one.failed], [])
