"""``mailnode tls-report show`` and ``dmarc-report show``, through the control socket to the counts of a node."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet.task import Clock

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import Case
from tests.mailauth.outcomes import FORGED
from tests.mailauth.outcomes import GOOD as PASSED
from tests.state.at_once import StateAtOnce
from tests.state.test_tls_results import BAD, GOOD
from twisted_mail_node.admin import report_orders
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.database import StateError
from twisted_mail_node.state.dmarc_results import DmarcResults
from twisted_mail_node.state.tls_results import TlsResults

#: 2026-01-31.
TODAY = 20_484


class ReportCase(Case):
    """A node with a database and a clock for what it counts."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.clock.advance(TODAY * DAY)
        self.database = StateAtOnce(Path(self.mktemp()) / "state.sqlite")
        self.addCleanup(self.database.close)
        self.node = FakeNode()
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))


class ShowTest(ReportCase):
    """A node that has counted what came of TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.node.tls_results = TlsResults(self.database, self.clock)
        for outcome in (GOOD, GOOD, BAD, GOOD._replace(domain="b.example", policy_type="no-policy-found", policy=())):
            self.node.tls_results.note(outcome)
        self.node.tls_results.stop()

    def test_table(self) -> None:
        """One line a policy and kind of failure, with its number of sessions, host and words."""
        result = self.mailnode("tls-report", "show", "--day", "2026-01-31")
        self.assertEqual(result.exit_code, 0, result.output)
        heading, *lines, last = result.stdout.splitlines()
        self.assertEqual(heading.split(), ["Domain", "Policy", "Sessions", "Result", "Host", "Words"])
        self.assertEqual(lines[0].split(), ["a.example", "sts", "2", "success"])
        self.assertEqual(
            lines[1].split(),
            ["a.example", "sts", "1", "certificate-expired", "mx.a.example", "[192.0.2.9]", *BAD.words.split()],
        )
        self.assertEqual(lines[2].split(), ["b.example", "no-policy-found", "1", "success"])
        self.assertEqual(last, "2026-01-31: 3 lines")

    def test_json(self) -> None:
        """--json gives the rows with all they have."""
        result = self.mailnode("tls-report", "show", "--day", "2026-01-31", "--domain", "A.example.", "--json")
        good, bad = json.loads(result.stdout)
        self.assertEqual((good["sessions"], good["policy"], good["exchangers"]), (2, list(GOOD[2]), list(GOOD[3])))
        self.assertEqual((bad["result"], bad["sending_ip"]), (BAD.result, "192.0.2.1"))

    def test_nothing(self) -> None:
        """A day without counts says so, and why when reports are switched off. Without a day it is today."""
        self.assertEqual(self.mailnode("tls-report", "show").stdout, "Nothing was counted on 1970-01-01.\n")
        self.node.tls_results.enabled = False
        self.assertIn("switched off", self.mailnode("tls-report", "show", "--domain", "c.example").stdout)

    def test_wrong(self) -> None:
        """What is no date and no domain is refused, by the command and by the node."""
        self.assertEqual(self.mailnode("tls-report", "show", "--day", "tomorrow").exit_code, 2)
        for message in ({"day": "31.1.2026"}, {"day": 5}, {"domain": 5}, {"domain": "x" * 1000}, {"day": None}):
            with Bridge(self.node) as bridge:
                bridge.sendall(json.dumps({"command": "tls-report.show"} | message).encode() + b"\n")
                answer = json.loads(bridge.recv(10_000))
            self.assertEqual((answer["ok"], "must be" in answer["error"]), (False, True), answer)

    def test_database(self) -> None:
        """A database that fails is a sentence."""

        def fails(*_: object) -> None:
            raise StateError("the state database failed")

        self.patch(self.node.tls_results, "counted", fails)
        result = self.mailnode("tls-report", "show")
        self.assertEqual((result.exit_code, "the state database failed" in result.stderr), (1, True))

    def test_evil(self) -> None:
        """What others wrote reaches no terminal as more than text (T20)."""
        self.node.tls_results.note(BAD._replace(words="\x1b[2J\r\nforged", exchanger="\x1b]0;x\x07\u202e"))
        self.node.tls_results.stop()
        result = self.mailnode("tls-report", "show", "--day", "2026-01-31")
        self.assertEqual(result.exit_code, 0)
        self.assertTrue(all(one.isprintable() or one == "\n" for one in result.stdout), result.stdout)
        self.assertEqual(len(result.stdout.splitlines()), 6)

    def test_more(self) -> None:
        """An answer that is cut says how to see the rest."""
        self.patch(report_orders, "ROWS_MAX", 2)
        self.assertIn("--domain", self.mailnode("tls-report", "show", "--day", "2026-01-31").stdout.splitlines()[-1])


class DmarcTest(ReportCase):
    """A node that has counted what came of DMARC."""

    def setUp(self) -> None:
        super().setUp()
        self.node.dmarc_results = DmarcResults(self.database, self.clock)
        self.node.dmarc_results.note(FORGED, "quarantine", "local_policy")
        self.node.dmarc_results.note(PASSED, "none")
        self.node.dmarc_results.note(PASSED, "none")
        self.node.dmarc_results.stop()

    def test_table(self) -> None:
        """One line for mails that are alike: what was found, and what was done."""
        result = self.mailnode("dmarc-report", "show", "--day", "2026-01-31")
        self.assertEqual(result.exit_code, 0, result.output)
        heading, good, bad, last = result.stdout.splitlines()
        self.assertEqual(heading.split(), ["From", "Client", "Mails", "Done", "SPF", "DKIM"])
        self.assertEqual(
            " ".join(good.split()),
            "example.org 192.0.2.1 2 none pass example.org, aligned pass example.org, aligned",
        )
        self.assertEqual(
            " ".join(bad.split()), "example.org 192.0.2.1 1 quarantine (local_policy) fail example.org none"
        )
        self.assertEqual(last, "2026-01-31: 2 lines")

    def test_json(self) -> None:
        """--json gives the rows with all a report needs."""
        result = self.mailnode("dmarc-report", "show", "--day", "2026-01-31", "--json")
        good, bad = json.loads(result.stdout)
        self.assertEqual(
            (good["mails"], good["record"], good["dkim"]), (2, "v=DMARC1; p=reject", [["example.org", "s1", "pass"]])
        )
        self.assertEqual((bad["disposition"], bad["override"]), ("quarantine", "local_policy"))

    def test_nothing(self) -> None:
        """A day without counts says what is counted; where nothing is checked, that."""
        said = self.mailnode("dmarc-report", "show", "--domain", "c.example").stdout
        self.assertIn("Mail counts whose From has a DMARC record", said)
        self.node.dmarc_results.enabled = False
        self.assertIn("Mail is not checked", self.mailnode("dmarc-report", "show", "--domain", "c.example").stdout)
