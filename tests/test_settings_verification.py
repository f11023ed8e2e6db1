"""The tables of the settings about mail authentication."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.policy.checks import USUAL
from twisted_mail_node.settings import SettingsError, parse
from twisted_mail_node.settings_verification import METHODS, RESULTS, RESULTS_OF

TOP = """
hostname = "mx.example.org"
[[listener]]
kind = "mx"
endpoint = "tcp:2525"
"""


class VerificationTests(SynchronousTestCase):
    def problems(self, text: str) -> list[str]:
        """What is wrong with settings, as sentences."""
        return str(self.assertRaises(SettingsError, parse, TOP + text)).splitlines()

    def test_defaults(self) -> None:
        """Mail is checked unless it comes from this machine; there are no rules beside the usual ones."""
        settings = parse(TOP)
        self.assertTrue(settings.verification.enabled)
        self.assertEqual(settings.verification.exempt, (ip_network("127.0.0.0/8"), ip_network("::1/128")))
        self.assertEqual(settings.checks, ())
        self.assertIsNone(settings.delivery.junk_folder)

    def test_rules(self) -> None:
        """Rules are read in their order, domains in their look-up spelling."""
        settings = parse(
            TOP
            + """
            [[check]]
            method = "spf"
            results = ["fail", "softfail"]
            senders = ["Example.COM", ".example.com"]
            action = "refuse"
            [[check]]
            method = "dmarc"
            results = ["reject"]
            recipients = ["example.org"]
            action = "quarantine"
            [verification]
            exempt = []
            trusted_sealers = ["Lists.example.net"]
            [delivery]
            junk_folder = "Junk"
            """
        )
        first, second = settings.checks
        self.assertEqual((first.method, first.results, first.action), ("spf", ("fail", "softfail"), "refuse"))
        self.assertEqual(first.senders, ("example.com", ".example.com"))
        self.assertEqual((second.recipients, second.action), (("example.org",), "quarantine"))
        self.assertEqual(settings.verification.trusted_sealers, ("lists.example.net",))
        self.assertEqual(settings.verification.exempt, ())
        self.assertEqual(settings.delivery.junk_folder, "Junk")

    def test_possible(self) -> None:
        """What a method can come to is written down for each, and the usual rules are about nothing else."""
        self.assertEqual(set(RESULTS_OF), set(METHODS))
        self.assertEqual({one for some in RESULTS_OF.values() for one in some}, set(RESULTS))
        for rule in USUAL:
            self.assertLessEqual(set(rule.results), set(RESULTS_OF[rule.method]), rule)

    def test_once(self) -> None:
        """One word that is wrong is one problem."""
        found = self.problems('[[check]]\nmethod = "spf"\nresults = ["fial"]\naction = "note"')
        (problem,) = [one for one in found if "check[1]" in one]
        self.assertIn("check[1].results[1] holds 'fial'", problem)
        self.assertIn("Did you mean 'fail'?", problem)

    def test_wrong(self) -> None:
        """What is wrong is told with what is allowed."""
        for text, words in {
            '[[check]]\nmethod = "spv"\nresults = ["fail"]\naction = "note"': "Did you mean 'spf'?",
            '[[check]]\nmethod = "spf"\nresults = []\naction = "note"': "at least one",
            '[[check]]\nmethod = "spf"\nresults = ["fail"]\naction = "drop"': '"refuse" (550',
            '[[check]]\nmethod = "spf"\nresults = ["reject"]\naction = "note"': "of dmarc only",
            '[[check]]\nmethod = "dkim"\nresults = ["fail", "softfail"]\naction = "note"': (
                "check[1].results[2] holds 'softfail', which dkim never comes to. Allowed: one of 'none', 'pass'"
            ),
            '[delivery]\njunk_folder = "../inbox"': "the name of a folder",
            '[delivery]\njunk_folder = ""': "the name of a folder",
            "[verification]\nsignatures = 0": "at least 1",
        }.items():
            self.assertIn(words, " ".join(self.problems(text)), text)
