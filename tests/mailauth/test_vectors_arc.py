"""Test vectors of others for ARC."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth import vectors_arc
from tests.mailauth.counts import Counts


class VectorTest(SynchronousTestCase):
    """RFC 8617."""

    def test_validation(self) -> None:
        """Chains are judged as the suite of the drafts does, but for five that are listed with their reason."""
        self.assertEqual(vectors_arc.run_validation(), Counts(81, 86, 5))

    def test_signing(self) -> None:
        """Our sets are good, with the body hash, the status and the signed fields that the suite has."""
        self.assertEqual(vectors_arc.run_signing(), Counts(8, 8))

    def test_mails(self) -> None:
        """Real mails pass, and fail where somebody damaged them."""
        self.assertEqual(vectors_arc.run_eml(), Counts(7, 7))
