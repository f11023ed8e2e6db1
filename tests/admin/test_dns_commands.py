"""Tests of ``mailnode dns`` as it is typed; what the DNS says is given."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from twisted.internet.testing import MemoryReactorClock

from tests.admin.dns_case import good, result_of, silent
from tests.admin.test_queue_commands import Case
from tests.dns.fake import FakeResolver
from twisted_mail_node.admin import dns_alone
from twisted_mail_node.admin.dns_answers import Answers, ask
from twisted_mail_node.admin.dns_node import Facts
from twisted_mail_node.settings import Settings, parse

SETTINGS = (
    'hostname = "mx.example.org"\nstate_dir = "{}"\n'
    '[[listener]]\nkind = "mx"\nendpoint = "tcp:25:interface=127.0.0.1"\n'
    '[[source]]\npool = "default"\naddress = "127.0.0.1"\n[[domain]]\nname = "example.org"\n'
)


class CommandTest(Case):
    """show and check."""

    def setUp(self) -> None:
        super().setUp()
        self.config.write_text(SETTINGS.format(self.state))
        self.names = good()
        self.patch(dns_alone, "answers_alone", self.answers)

    def answers(self, settings: Settings, domains: Sequence[Facts]) -> list[Answers]:
        """In place of the network."""
        resolver = FakeResolver(self.names)
        evaluate = dns_alone.evaluate_of(resolver, settings.hostname)
        return [result_of(ask(resolver, facts, time.time(), None, evaluate)) for facts in domains]

    def test_show(self) -> None:
        """show prints a zone file; --json the same records for programs."""
        text = self.mailnode("dns", "show", "Example.Org.").stdout
        self.assertTrue(
            text.startswith("; ---- example.org\n\n; Mail for example.org goes there.\nexample.org. 3600 IN MX")
        )
        ((shape),) = json.loads(self.mailnode("dns", "show", "--json").stdout)
        self.assertEqual(shape["domain"], "example.org")
        self.assertEqual(
            shape["records"][0],
            {
                "name": "example.org.",
                "ttl": 3600,
                "type": "MX",
                "data": "10 mx.example.org.",
                "purpose": "Mail for example.org goes there.",
                "publish": True,
            },
        )
        self.assertEqual(text.count(" IN "), len(shape["records"]))

    def test_check(self) -> None:
        """check ends with 0 while there is no error, and with 1 when there is one."""
        result = self.mailnode("dns", "check", "example.org")
        self.assertEqual(result.exit_code, 0, result.stdout)
        self.assertIn("\n  ok       MX       MX of example.org leads to mx.example.org.\n", result.stdout)
        self.names["example.org"]["MX"] = []
        result = self.mailnode("dns", "check")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("\n  error    MX       example.org has no MX record", result.stdout)
        result = self.mailnode("dns", "check", "--json")
        self.assertEqual(result.exit_code, 1)
        ((shape),) = json.loads(result.stdout)
        first = shape["findings"][0]
        self.assertEqual((first["severity"], first["about"], first["publish"][0]["type"]), ("error", "MX", "MX"))

    def test_silent(self) -> None:
        """Without an answer check ends with 1."""
        self.names["example.org"] = silent("example.org")
        result = self.mailnode("dns", "check")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("MX of example.org could not be asked", result.stdout)

    def test_domains(self) -> None:
        """Without a domain all local ones are meant; what is none, or can have no records, is refused."""
        more = '[[domain]]\nname = "bücher.example"\n[[domain]]\nname = "[192.0.2.1]"\n'
        self.config.write_text(SETTINGS.format(self.state) + more)
        text = self.mailnode("dns", "show").stdout
        self.assertEqual(
            [line for line in text.splitlines() if "----" in line],
            ["; ---- example.org", "; ---- xn--bcher-kva.example"],
        )
        self.assertEqual(self.mailnode("dns", "show", "BÜCHER.example").exit_code, 0)
        for wrong in ("elsewhere.example", "[192.0.2.1]", "a..b"):
            result = self.mailnode("dns", "show", wrong)
            self.assertEqual(
                (result.exit_code, "is no local domain; there are: example.org, xn--" in result.stderr), (1, True)
            )
        self.assertIn("is not a domain name", self.mailnode("dns", "show", "ü..x").stderr)

    def test_literal(self) -> None:
        """A node whose host name is an address literal has no records."""
        self.config.write_text(SETTINGS.format(self.state).replace("mx.example.org", "[192.0.2.1]"))
        self.assertIn("records need a name", self.mailnode("dns", "check").stderr)

    def test_control_characters(self) -> None:
        """What others publish does not reach the terminal as it is."""
        self.names["example.org"]["TXT"] = [b"v=spf1 mx \x1b[2J", b"v=spf1 mx -all"]
        self.assertNotIn("\x1b", self.mailnode("dns", "check").stdout + self.mailnode("dns", "show").stdout)


class AloneTest(Case):
    """How the DNS is asked."""

    def test_resolver(self) -> None:
        """The servers are those of the settings; the machine's own hosts file is not asked."""
        text = SETTINGS.format(self.state) + '[resolver]\nservers = ["192.0.2.53:5353"]\n'
        resolver = dns_alone.resolver_of(parse(text), MemoryReactorClock())
        self.assertEqual([str(server) for server in resolver._fixed_servers], ["192.0.2.53:5353"])
        self.assertEqual(resolver._hosts.value(), {})
