"""What came of DMARC is counted, bounded, and written behind."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.mailauth.outcomes import FORGED, GOOD, RECORD, SIGNED, forged
from tests.state.counting import TODAY, CountsCase
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.state import dmarc_results
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.dmarc_results import KEEP_DAYS, DmarcResults, DmarcRow


class DmarcResultsTests(CountsCase):
    def make(self, state: StateDatabase, clock: Clock) -> DmarcResults:
        return DmarcResults(state, clock)

    def test_counts(self) -> None:
        """Mails that are alike are one row, which tells all that a report needs; a restart loses nothing."""
        for _ in range(2):
            self.results.note(GOOD, "none")
            self.results.note(FORGED, "reject")
            self.restart()
        row = DmarcRow(
            "example.org", RECORD, "192.0.2.1", "example.org", "example.org", "none", "", True, True,
            (("example.org", "s1", "pass"),), ("example.org", "mfrom", "pass"), 2,
        )  # fmt: skip
        bad = row._replace(
            disposition="reject", dkim_aligned=False, spf_aligned=False, dkim=(), spf=("example.org", "mfrom", "fail")
        )
        self.assertCountEqual(self.counted(), [row, bad])
        self.assertEqual(self.result(self.results.domains(TODAY)), ["example.org"])
        self.assertEqual(self.result(self.results.domains(TODAY, "example.org")), [])

    def test_without_policy(self) -> None:
        """A mail without a policy, or with one that could not be found out, is nobody's business."""
        self.results.note(forged(record="", result=Result.NONE), "none")
        self.results.note(forged(result=Result.TEMPERROR), "none")
        self.assertEqual(self.counted(), [])

    def test_bounded(self) -> None:
        """Domains and kinds are bounded; what is one kind too many still counts in the sums."""
        self.patch(dmarc_results, "KINDS_MAX", 3)
        self.patch(dmarc_results, "DOMAINS_MAX", 2)
        for number in range(10):
            self.results.note(FORGED._replace(client=f"192.0.2.{number}"), "reject")
            self.results.note(forged(policy_domain=f"d{number}.example"), "reject")
        rows = self.counted("example.org")
        self.assertEqual(sum(row.mails for row in rows), 10)
        self.assertEqual(len(rows), 4)
        self.assertEqual(len(self.result(self.results.domains(TODAY))), 2)

    def test_bounded_together(self) -> None:
        """Many domains with many kinds each are bounded together, too; a new day begins anew."""
        self.patch(dmarc_results, "ALL_KINDS_MAX", 5)
        for number in range(10):
            self.results.note(FORGED._replace(client=f"192.0.2.{number}"), "reject")
            self.results.note(forged(policy_domain="d.example")._replace(client=f"192.0.2.{number}"), "reject")
        rows = self.counted("example.org") + self.counted("d.example")
        self.assertEqual(sum(row.mails for row in rows), 20)
        self.assertEqual(len([row for row in rows if row.source_ip]), 5)

    def test_long_texts(self) -> None:
        """What strangers write is cut, and holds no control characters."""
        signed = SIGNED._replace(domain="\r\n" + "x" * 1000)
        self.results.note(GOOD._replace(dkim=(signed,) * 50, reverse_path="a@" + "y" * 5000), "none")
        (row,) = self.counted()
        self.assertEqual(len(row.dkim), dmarc_results.SIGNATURES_MAX)
        self.assertLessEqual(max(map(len, (row.envelope_from, row.dkim[0][0]))), dmarc_results.TEXT_MAX)
        self.assertTrue(row.dkim[0][0].isprintable())

    def test_record(self) -> None:
        """A record that holds more than text does no harm where it is shown (T20)."""
        self.results.note(forged(record="v=DMARC1; p=reject; x=\x1b[2J\0\r\n\u202e" + "y" * 5000), "reject")
        (row,) = self.counted()
        self.assertTrue(row.record.startswith("v=DMARC1; p=reject; x=?[2J????yy"))
        self.assertLess(len(row.record), 1100)

    def test_days(self) -> None:
        """Days are apart (UTC), and forgotten after a while."""
        self.results.note(GOOD, "none")
        self.clock.advance(DAY)
        self.results.note(GOOD, "none")
        self.assertEqual([len(self.counted(day=day)) for day in (TODAY, TODAY + 1)], [1, 1])
        self.clock.advance(DAY * KEEP_DAYS)
        self.results.note(GOOD, "none")
        self.assertEqual([len(self.counted(day=day)) for day in (TODAY, TODAY + 1)], [0, 1])
