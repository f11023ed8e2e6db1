"""``mailnode dns``: what ``show`` prints is published as it is, and all is well; then each record is broken in turn."""

from __future__ import annotations

import json
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import dns.zonefile

from tests.interop.node import Node, NodeTest
from tests.interop.policy_server import PolicyServer
from tests.interop.zone import NameServer
from tests.net.authority import Authority, rsa_key

AUTHORITY = Authority("Everybody knows it")
IP = "203.0.113.5"
PTR = "5.113.0.203.in-addr.arpa"
#: Where the policy of MTA-STS is served.
WEB = "127.0.0.8"
#: The node itself sees only loopback; its public address is what the DNS says.
SETTINGS = """
[resolver]
servers = ["127.0.0.1:{port}"]
trusted = true
timeout = 1
attempts = 1
[[source]]
pool = "default"
address = "127.0.0.1"
[[listener]]
kind = "submission"
endpoint = "tcp:587:interface=127.0.0.1"
[queue]
loopback_exchangers = true
[tls]
trusted = "{root}"
"""


class SignedServer(NameServer):
    """Sets AD, as a resolver does that checks signatures."""

    def _answer(self, octets: bytes) -> bytes:
        reply = dns.message.from_wire(super()._answer(octets))
        reply.flags |= dns.flags.AD
        return reply.to_wire()


def zone_of(text: str) -> dict[str, dict[str, list[str]]]:
    """A zone file, as the name server takes it."""
    zone: dict[str, dict[str, list[str]]] = {}
    for rrset in dns.zonefile.read_rrsets(text, rdclass=None):
        name = rrset.name.to_text(omit_final_dot=True)
        zone.setdefault(name, {})[dns.rdatatype.to_text(rrset.rdtype)] = [record.to_text() for record in rrset]
    return zone


class DnsRecordsTest(NodeTest):
    """The command, and a name server on loopback."""

    timeout = 300

    def setUp(self) -> None:
        super().setUp()
        self.zone: dict[str, dict[str, list[str]]] = {
            "mx.here.test": {"A": [IP]},
            PTR: {"PTR": ["mx.here.test."]},
            "mta-sts.here.test": {"A": [WEB]},
        }
        self.names = SignedServer(self.zone)
        self.names.__enter__()
        self.addCleanup(self.names.__exit__)

    def here(self) -> Node:
        """The node, which need not run: with an ECDSA and an RSA certificate."""
        node = self.node()
        root = AUTHORITY.put(node.place / "root.pem")
        node.write(tables=SETTINGS.format(port=self.names.port, root=root))
        node.command("dkim", "create", "here.test")
        AUTHORITY.issue("mx.here.test").put(node.state / "tls" / "ecdsa.pem")
        AUTHORITY.issue("mx.here.test", key=rsa_key()).put(node.state / "tls" / "rsa.pem")
        return node

    def publish(self, text: str) -> None:
        """Let the name server have what ``show`` printed."""
        for name, records in zone_of(text).items():
            self.zone.setdefault(name, {}).update(records)

    def check(self, node: Node) -> dict[str, list[tuple[str, str]]]:
        """What ``check`` finds: severities and sentences, by the kind of record."""
        (shape,) = json.loads(node.command("dns", "check", "here.test", "--json", code=None))
        found: dict[str, list[tuple[str, str]]] = {}
        for one in shape["findings"]:
            found.setdefault(one["about"], []).append((one["severity"], one["words"]))
        return found

    def bad(self, node: Node) -> list[tuple[str, str]]:
        """Errors and warnings: severities and kinds of record."""
        found = self.check(node)
        return [(one, about) for about, some in found.items() for one, _ in some if one in ("error", "warning")]

    def test_published(self) -> None:
        """What show prints is all that check asks for; each record that is missing then is told, with its name."""
        node = self.here()
        empty = self.check(node)
        self.assertEqual({one for one, _ in empty["SPF"] + empty["MX"]}, {"error", "note"})
        text = node.command("dns", "show", "here.test")
        self.assertEqual(text.count(" TLSA 3 1 1 "), 2)
        self.publish(text)
        policy = "".join(
            line.removeprefix(";     ") + "\r\n" for line in text.splitlines() if line.startswith(";     ")
        )
        with PolicyServer(policy, AUTHORITY.issue("mta-sts.here.test"), node.place, WEB):
            self.assertEqual(self.bad(node), [])
            said = node.command("dns", "check")
            self.assertEqual(said.count("\n  note "), 2, said)  # no key signs yet; DMARC says p=none
            self.assertEqual(said.count("(new) is published."), said.count("_domainkey"))
            self.assertEqual(node.command("dns", "show", "here.test").count(" IN "), text.count(" IN "))
            self._broken(node)
        found = self.check(node)["MTA-STS"]
        self.assertEqual([(one, "cannot be had" in words) for one, words in found], [("warning", True)])

    def _broken(self, node: Node) -> None:
        """Take away one record after the other."""
        losses: dict[tuple[str, str], tuple[str, str]] = {
            **{(name, "TXT"): ("DKIM", "warning") for name in self.zone if "._domainkey." in name},
            ("here.test", "MX"): ("MX", "error"),
            ("mx.here.test", "A"): ("A", "error"),
            (PTR, "PTR"): ("PTR", "error"),
            ("here.test", "TXT"): ("SPF", "error"),
            ("mx.here.test", "TXT"): ("SPF", "note"),
            ("_dmarc.here.test", "TXT"): ("DMARC", "warning"),
            ("_mta-sts.here.test", "TXT"): ("MTA-STS", "note"),
            ("_smtp._tls.here.test", "TXT"): ("TLSRPT", "note"),
            ("_25._tcp.mx.here.test", "TLSA"): ("TLSA", "note"),
            ("_submission._tcp.here.test", "SRV"): ("SRV", "note"),
        }
        for (name, rdtype), (about, severity) in losses.items():
            with self.subTest(name=name, rdtype=rdtype):
                taken = self.zone[name].pop(rdtype)
                some = self.check(node)[about]
                self.assertIn(severity, [one for one, _ in some], some)
                self.zone[name][rdtype] = taken

    def test_wrong(self) -> None:
        """Records that say something else are told: another key, another address, a forbidden sender, two of them."""
        node = self.here()
        self.publish(node.command("dns", "show"))
        wrong: dict[tuple[str, str], tuple[list[str], tuple[str, str], str]] = {
            ("here.test", "TXT"): (['"v=spf1 ip4:192.0.2.0/24 -all"'], ("error", "SPF"), f"Add ip4:{IP}"),
            ("_dmarc.here.test", "TXT"): (['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'], ("error", "DMARC"), "has 2"),
            ("_25._tcp.mx.here.test", "TLSA"): ([f"3 1 1 {'00' * 32}"], ("error", "TLSA"), "do not fit the ECDSA"),
            **{
                (name, "TXT"): (['"v=DKIM1; p="'], ("warning", "DKIM"), "the key was revoked")
                for name in self.zone
                if "._domainkey." in name
            },
            (PTR, "PTR"): (["other.test."], ("warning", "PTR"), "has the name other.test"),
            ("_submission._tcp.here.test", "SRV"): (["0 1 25 mx.here.test."], ("warning", "SRV"), "it is at"),
        }
        for (name, rdtype), (records, (severity, about), words) in wrong.items():
            with self.subTest(name=name, rdtype=rdtype):
                right = self.zone[name][rdtype]
                self.zone[name][rdtype] = records
                some: Any = self.check(node)[about]
                self.assertTrue([said for one, said in some if one == severity and words in said], some)
                self.zone[name][rdtype] = right

    def test_running_and_silent(self) -> None:
        """It works beside a running node; a silent name server is told as such, and nothing is called missing."""
        node = self.here().start()
        self.publish(node.command("dns", "show"))
        self.names._answer = lambda octets: b"?"  # type: ignore[method-assign]
        said = node.command("dns", "check", code=None)
        self.assertEqual((said.count("could not be asked"), said.count("has no ")), (10, 0))
        self.assertIn("of what could not be nothing is kept", " ".join(node.command("dns", "show").split("\n; ")))
