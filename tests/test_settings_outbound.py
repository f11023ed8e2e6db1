"""Tests of the settings of the way out: routes, destinations, sources, and what must fit together there."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node import settings
from twisted_mail_node.settings_routes import Rate, parse_next_hop, rate

HEAD = 'hostname = "mx.example.org"\n[[listener]]\nkind = "mx"\nendpoint = "tcp:2525"\n'


def parsed(text: str) -> settings.Settings:
    """The settings of a node with ``text`` behind what every file needs."""
    return settings.parse(HEAD + text, Path("/"))


class OutboundTest(SynchronousTestCase):
    """What the tables take, and what they refuse."""

    def refused(self, text: str) -> str:
        """What is said against a text."""
        with self.assertRaises(settings.SettingsError) as caught:
            parsed(text)
        return str(caught.exception)

    def test_all(self) -> None:
        """Each key of the new tables is read."""
        found = parsed(
            '[[route]]\nsenders = ["*@example.org"]\naccounts = ["joe@example.org"]\nsource = "bulk"\n'
            '[[source]]\npool = "bulk"\naddress = "192.0.2.7"\nweight = 3\nhostname = "out.example.org"\n'
            '[[destination]]\ndomains = ["gmail.example"]\nexchangers = [".google.example"]\nconnections = 5\n'
            'rates = ["20/s", "1000/h"]\nretry = ["10m"]\nlifetime = "2d"\ntls = "required"\nsource = "bulk"\n'
            '[queue]\ndelay_notices = ["1h", "1d"]\ndouble_bounces = false\n[resolver]\ntrusted = true\n'
            '[outbound]\npin = ["*"]\n[srs]\ndomain = "example.org"\n'
        )
        (rule,) = found.destinations
        self.assertEqual(rule.rates, (Rate(20, 1), Rate(1000, 3600)))
        self.assertEqual((rule.retry, rule.lifetime, rule.tls), ((600.0,), 172800.0, "required"))
        self.assertEqual((found.routes[0].domain, found.routes[0].next_hop), ("*", None))
        self.assertEqual(found.queue.delay_notices, (3600.0, 86400.0))
        self.assertEqual((found.outbound.pin, found.resolver.trusted), (("*",), True))
        self.assertEqual(found.sources[0].weight, 3)

    def test_refused(self) -> None:
        """What does not fit together is told with its key."""
        for text, words in (
            ('[[route]]\nsource = "blk"\n[[source]]\npool = "bulk"\naddress = "192.0.2.7"\n', "Did you mean 'bulk'"),
            ('[[route]]\ntransport = "lmtp"\nnext_hop = "a.example"\n', "route[1].next_hop"),
            ('[[route]]\nnext_hop = "unix:/run/lmtp"\n', "route[1].transport"),
            ('[[route]]\nnext_hop = "[a.example]"\nusername = "joe"\n', "route[1].password_file"),
            ("[[destination]]\nconnections = 5\n", "destination[1]"),
            ('[[destination]]\ndomains = ["*"]\nrates = ["20 per second"]\n', "destination[1].rates"),
            ('[[destination]]\ndomains = ["*"]\nretry = []\n', "destination[1].retry"),
            ('[[source]]\npool = "a"\naddress = "0.0.0.0"\n', "source[1].address"),
            ('[[source]]\npool = "a"\naddress = "192.0.2.7"\n' * 2, "source[2].address"),
            ('[[domain]]\nname = "example.org"\nlmtp = "store.example"\n', "domain[1].lmtp"),
            ('[[domain]]\nname = "example.org"\n[srs]\ndomain = "exmple.org"\n', "Did you mean 'example.org'"),
            ('[srs]\nlifetime = "2h"\n', "srs.lifetime"),
            ('[srs]\nlifetime = "2000d"\n', "srs.lifetime"),
            ("[srs]\nlongest = 20\n", "srs.longest"),
            ("[srs]\nlongest = 300\n", "srs.longest"),
        ):
            with self.subTest(text=text):
                self.assertIn(words, self.refused(text))

    def test_socket(self) -> None:
        """A unix socket is a next hop; it has a path and no port."""
        self.assertEqual(parse_next_hop("unix:/run/dovecot/lmtp"), ("localhost", 0, False, "/run/dovecot/lmtp"))
        for text in ("unix:", "unix:run/lmtp", "unix:/" + "a" * 200):
            with self.assertRaises(ValueError, msg=text):
                parse_next_hop(text)

    def test_rate(self) -> None:
        """Rates are written as they are read."""
        for text in ("20/s", "600/m", "10000/h", "5/d"):
            self.assertEqual(str(rate(text)), text)


class TableInTableTest(SynchronousTestCase):
    """A key that is called like a table."""

    def test_hint(self) -> None:
        """``domain`` in ``[[destination]]`` is meant to be ``domains``, not the table ``[[domain]]`` further up."""
        with self.assertRaises(settings.SettingsError) as raised:
            parsed('[[destination]]\ndomain = "x.example"\n')
        self.assertIn("Did you mean 'domains'?", str(raised.exception))
        self.assertNotIn("top of the file", str(raised.exception))
