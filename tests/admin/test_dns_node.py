"""Tests of what the node knows: out of the settings and of what lies on the disk, without asking anybody."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.authority import YEAR, Authority, Issued, rsa_key
from twisted_mail_node.admin.dns_node import Facts, Host, Service, facts_of, local_domains, public
from twisted_mail_node.net.certificates import Certificates
from twisted_mail_node.net.tls_selfsigned import self_signed
from twisted_mail_node.settings import parse
from twisted_mail_node.signing.files import KeyFiles
from twisted_mail_node.signing.life import Key, KeyState

MX = '[[listener]]\nkind = "mx"\nendpoint = "{}"\n'
SUBMISSION = '[[listener]]\nkind = "submission"\nendpoint = "{}"\ntls = "{}"\n'
DOMAIN = '[[domain]]\nname = "example.org"\n'
FOUR, SIX, PRIVATE = "93.184.216.34", "2606:2800:220:1::1", "10.0.0.5"
OWN = frozenset((FOUR, SIX, PRIVATE))
AUTHORITY = Authority()


def digest_of(issued: Issued) -> bytes:
    """Of the public key."""
    key = issued.certificate.public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class FactsTest(SynchronousTestCase):
    """Settings and disk."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)

    def facts(self, tables: str = MX.format("tcp:25"), top: str = "", hostname: str = "mx.example.org") -> Facts:
        """With these settings."""
        text = f'hostname = "{hostname}"\nstate_dir = "{self.place}"\n{top}\n{DOMAIN}{tables}'
        return facts_of(parse(text), "example.org", OWN, time.time())

    def test_public(self) -> None:
        """Only addresses that everybody can reach are published, IPv4 first, each once."""
        some = [SIX, FOUR, PRIVATE, FOUR, "127.0.0.1", "::1", "fe80::1", "169.254.1.1", "100.64.0.1", "fd00::1"]
        self.assertEqual(public(some), (FOUR, SIX))

    def test_receives(self) -> None:
        """Mail comes in where an mx listener listens: at one address, at all of a family, at all."""
        cases = {
            "tcp:25": (FOUR,),
            "tcp:25:interface=0.0.0.0": (FOUR,),
            "tcp6:25": (FOUR, SIX),
            f"tcp:25:interface={FOUR}": (FOUR,),
            "tcp6:25:interface=2606\\\\:2800\\\\:220\\\\:1\\\\:\\\\:1": (SIX,),
            "tcp:2525:interface=127.0.0.1": (),
            f"tcp:25:interface={PRIVATE}": (),
            "unix:/run/mail.sock": (),
            "systemd:domain=INET:name=smtp": (FOUR, SIX),
            "systemd:domain=UNIX:name=smtp": (),
        }
        for endpoint, wanted in cases.items():
            with self.subTest(endpoint=endpoint):
                self.assertEqual(self.facts(MX.format(endpoint)).receives, wanted)
        balanced = MX.format("tcp:25") + 'proxy_from = ["10.0.0.0/8"]\n'
        self.assertEqual(self.facts(balanced).receives, ())
        submission = SUBMISSION.format("tcp:587", "starttls")
        self.assertEqual(self.facts(MX.format("tcp:2525:interface=127.0.0.1") + submission).receives, ())

    def test_hosts(self) -> None:
        """Mail leaves from the machine's addresses, or from those of pools, each under what EHLO says there."""
        name = "mx.example.org"
        self.assertEqual(self.facts().hosts, (Host(name, (FOUR, SIX)),))
        source = '[[source]]\npool = "{}"\naddress = "{}"\n'
        pool = MX.format("tcp:25") + source.format("default", "93.184.216.40")
        self.assertEqual(self.facts(pool).hosts, (Host(name, ("93.184.216.40",)),))
        other = MX.format("tcp:25") + source.format("news", "93.184.216.41") + 'hostname = "news.example.org"\n'
        hosts = (Host(name, (FOUR, SIX)), Host("news.example.org", ("93.184.216.41",)))
        self.assertEqual(self.facts(other).hosts, hosts)
        self.assertEqual(self.facts(MX.format("tcp:25") + source.format("default", PRIVATE)).hosts, (Host(name),))

    def test_services(self) -> None:
        """Ports are those of the listeners; sockets from elsewhere have the usual ones; the open one counts."""
        tables = (
            MX.format("tcp:25")
            + SUBMISSION.format("tcp:2587:interface=127.0.0.1", "starttls")
            + SUBMISSION.format("tcp:1587", "starttls")
            + SUBMISSION.format("tcp:3587", "starttls")
            + SUBMISSION.format("systemd:domain=INET:name=submissions", "implicit")
            + SUBMISSION.format("tcp:4587", "none")
        )
        self.assertEqual(self.facts(tables).services, (Service("submission", 1587), Service("submissions", 465)))
        loopback = MX.format("tcp:25") + SUBMISSION.format("tcp6:2465:interface=\\\\:\\\\:1", "implicit")
        self.assertEqual(self.facts(loopback).services, (Service("submissions", 2465, False),))
        self.assertEqual(self.facts().services, ())

    def test_relayhost(self) -> None:
        """A route that takes all mail is a relayhost; one for some mail is none."""
        route = MX.format("tcp:25") + '[[route]]\ndomain = "*"\nnext_hop = "[192.0.2.7]:25"\n'
        self.assertEqual(self.facts(route).relayhost, "[192.0.2.7]:25")
        self.assertEqual(self.facts(route + 'senders = ["joe@example.org"]\n').relayhost, "")

    def test_domains(self) -> None:
        """Local domains but for address literals; without any the host name is the only one."""
        text = f'hostname = "mx.example.org"\n{MX.format("tcp:25")}'
        self.assertEqual(local_domains(parse(text)), ["mx.example.org"])
        literal = '[[domain]]\nname = "[192.0.2.1]"\n[[domain]]\nname = "bücher.example"\n'
        self.assertEqual(local_domains(parse(text + literal)), ["xn--bcher-kva.example"])

    def keys(self, domain: str, selector: str, state: KeyState, record: str = "v=DKIM1; p=A") -> None:
        """Keep a key."""
        key = Key(selector, "rsa-sha256", 2048, record, state, 0.0, 0.0)
        KeyFiles(self.place).add(domain, [(key, b"not to be read")])

    def test_keys(self) -> None:
        """Keys are those that sign, will, or did lately: of the domain, and of the host name where DSNs come from."""
        self.assertEqual((self.facts().keys, self.facts().signer), ((), ""))
        for state in KeyState:
            self.keys("example.org", f"key-{state}", state)
        self.keys("mx.example.org", "host", KeyState.ACTIVE)
        found = [(key.owner, key.state) for key in self.facts().keys]
        wanted = [(f"key-{state}._domainkey.example.org", state) for state in ("new", "active", "retiring")]
        self.assertEqual(sorted(found[:-1]), sorted(wanted))
        self.assertEqual(found[-1], ("host._domainkey.mx.example.org", "active"))

    def test_signer(self) -> None:
        """A domain without keys that sign has those of the nearest local domain above."""
        self.keys("example.org", "a", KeyState.ACTIVE)
        self.keys("news.example.org", "b", KeyState.NEW)
        text = f'hostname = "mx.example.org"\nstate_dir = "{self.place}"\n{DOMAIN}{MX.format("tcp:25")}'
        settings = parse(text + '[[domain]]\nname = "news.example.org"\n')
        self.assertEqual(facts_of(settings, "news.example.org", OWN, 0.0).signer, "example.org")
        self.assertEqual(facts_of(settings, "example.org", OWN, 0.0).signer, "")

    def test_broken_keys(self) -> None:
        """Keys that cannot be read are told."""
        self.keys("example.org", "a", KeyState.ACTIVE)
        (self.place / "dkim" / "example.org" / "keys.json").write_text("{")
        facts = self.facts()
        self.assertEqual((facts.keys, ["keys.json" in words for words in facts.problems]), ((), [True]))

    def test_certificates(self) -> None:
        """One certificate for each kind of key, for the host name, the one that lasts longest: as clients get them."""
        ecdsa, rsa = AUTHORITY.issue("mx.example.org"), AUTHORITY.issue("*.example.org", key=rsa_key())
        other = AUTHORITY.issue("www.example.net")
        for name, issued in (("a", other), ("b", ecdsa)):
            issued.put(self.place / "tls" / f"{name}.pem")
        facts = self.facts()
        self.assertEqual([(one.kind, one.digest) for one in facts.served], [("ECDSA", digest_of(ecdsa))])
        self.assertTrue(facts.verifiable)
        self.assertEqual(facts.served[0].chain[0], ecdsa.certificate)
        both = AUTHORITY.issue("mx.example.org", key=rsa_key(1), expires=datetime.now(UTC) + 2 * YEAR)
        for name, issued in (("c", both), ("d", rsa)):
            issued.put(self.place / "tls" / f"{name}.pem")
        self.assertEqual([one.kind for one in self.facts().served], ["ECDSA", "RSA"])
        self.assertIn(digest_of(both), [one.digest for one in self.facts().served])
        wild = self.facts(hostname="mail.example.org")
        self.assertEqual([one.digest for one in wild.served], [digest_of(rsa)])

    def test_certificates_as_served(self) -> None:
        """The choice is the node's own: where several certificates could be meant, both take the same."""
        for name in ("a", "b", "c"):
            AUTHORITY.issue("mx.example.org").put(self.place / "tls" / f"{name}.pem")
        settings = parse(f'hostname = "mx.example.org"\nstate_dir = "{self.place}"\n{MX.format("tcp:25")}')
        clock = Clock()
        clock.advance(time.time())
        certificates = Certificates(settings, clock, lambda event: None)
        certificates.start()
        self.addCleanup(certificates.stop)
        self.assertEqual([one.chain for one in self.facts().served], [certificates._pairs[0].chain])

    def test_other_name(self) -> None:
        """A certificate for another name is shown where there is no other, and nobody can verify it."""
        other = AUTHORITY.issue("www.example.net")
        other.put(self.place / "tls" / "a.pem")
        facts = self.facts()
        self.assertEqual([one.digest for one in facts.served], [digest_of(other)])
        self.assertFalse(facts.verifiable)

    def test_self_signed(self) -> None:
        """The node's own certificate counts once it is there; the command makes none."""
        facts = self.facts()
        self.assertEqual((facts.served, facts.verifiable), ((), False))
        self.assertEqual(list(self.place.iterdir()), [])
        text = f'hostname = "mx.example.org"\nstate_dir = "{self.place}"\n{MX.format("tcp:25")}'
        pair = self_signed(parse(text), time.time())
        (one,) = self.facts().served
        self.assertEqual((one.chain, one.verifiable), (pair.chain, False))

    def test_broken(self) -> None:
        """What cannot be read is told, and the rest counts; keys are not read."""
        good = AUTHORITY.issue("mx.example.org")
        good.put_two(self.place / "tls" / "a.crt", self.place / "tls" / "a.key")
        (self.place / "tls" / "a.key").write_text("not for us")
        (self.place / "tls" / "b.pem").write_text("nonsense")
        facts = self.facts()
        self.assertEqual([one.digest for one in facts.served], [digest_of(good)])
        self.assertEqual([True], ["b.pem holds no certificate" in words for words in facts.problems])
