"""Tests of what a domain should publish: out of what the node knows, and of what is published already."""

from __future__ import annotations

from typing import Any

import dns.zone
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.dns_case import DOMAIN, FACTS, HOST, IP, KEY, Names, asked, good, silent
from twisted_mail_node.admin.dns_lines import Line, Remark, ZoneLine, zone_text
from twisted_mail_node.admin.dns_node import Host, Key, Served, Service
from twisted_mail_node.admin.dns_publish import everything, policy_id, policy_text
from twisted_mail_node.dns.answer import MX, SRV
from twisted_mail_node.outbound.mtasts import read_policy

SERVED = (Served("ECDSA", b"\1" * 32, True), Served("RSA", b"\2" * 32, True))


class PublishTest(SynchronousTestCase):
    """The records."""

    def lines(self, names: Names | None = None, **changes: Any) -> list[Line]:
        """What to publish, where the DNS says this."""
        facts = FACTS._replace(**changes)
        return everything(facts, asked({} if names is None else names, facts))

    def records(self, names: Names | None = None, live: bool = True, **changes: Any) -> list[str]:
        """The records of it, as sentences name them."""
        return [str(line) for line in self.lines(names, **changes) if isinstance(line, ZoneLine) and line.live is live]

    def remarks(self, names: Names | None = None, **changes: Any) -> str:
        """What stands beside them."""
        return "\n".join("\n".join(line.words) for line in self.lines(names, **changes) if isinstance(line, Remark))

    def test_all(self) -> None:
        """A domain of which nothing is published gets every record, in this order."""
        sts = policy_id(policy_text("testing", [HOST]))
        self.assertEqual(
            self.records(served=SERVED),
            [
                "example.org. MX 10 mx.example.org.",
                "mx.example.org. A 192.0.2.1",
                'example.org. TXT "v=spf1 mx -all"',
                'mx.example.org. TXT "v=spf1 a -all"',
                f'20261128e._domainkey.example.org. TXT "{KEY.text}"',
                '_dmarc.example.org. TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.org"',
                f'_mta-sts.example.org. TXT "v=STSv1; id={sts}"',
                '_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"',
                f"_25._tcp.mx.example.org. TLSA 3 1 1 {'01' * 32}",
                f"_25._tcp.mx.example.org. TLSA 3 1 1 {'02' * 32}",
                "_submission._tcp.example.org. SRV 0 1 587 mx.example.org.",
                "_submissions._tcp.example.org. SRV 0 1 465 mx.example.org.",
                "_imap._tcp.example.org. SRV 0 0 0 .",
                "_imaps._tcp.example.org. SRV 0 0 0 .",
                "_pop3._tcp.example.org. SRV 0 0 0 .",
                "_pop3s._tcp.example.org. SRV 0 0 0 .",
            ],
        )
        self.assertEqual(self.records(live=False, served=SERVED), ["1.2.0.192.in-addr.arpa. PTR mx.example.org."])

    def test_zone_file(self) -> None:
        """A parser of zone files takes all of it, with a key of 4096 bits."""
        key = Key(DOMAIN, "long", "new", f"v=DKIM1; k=rsa; p={'A' * 736}")
        text = zone_text(self.lines(served=SERVED, keys=(key,)))
        zone = dns.zone.from_text(text, "example.org.", check_origin=False)
        self.assertEqual(zone.find_rdataset("@", "MX").to_text(), "3600 IN MX 10 mx")
        (record,) = zone.find_rdataset("long._domainkey", "TXT")
        self.assertEqual([len(string) for string in record.strings], [255, 255, len(key.text) - 510])
        self.assertEqual(b"".join(record.strings).decode(), key.text)
        self.assertEqual(sum(1 for _ in zone.iterate_rdatas()), 16)

    def test_comments(self) -> None:
        """Each record says what it is for."""
        self.assertTrue(all(line.purpose.endswith(".") for line in self.lines() if isinstance(line, ZoneLine)))

    def test_international(self) -> None:
        """A domain outside ASCII is written in A-labels."""
        domain = "xn--bcher-kva.example"
        text = zone_text(self.lines(domain=domain, hostname=f"mx.{domain}", hosts=(Host(f"mx.{domain}", (IP,)),)))
        zone = dns.zone.from_text(text, f"{domain}.", check_origin=False)
        self.assertEqual(zone.find_rdataset("@", "MX").to_text(), "3600 IN MX 10 mx")
        self.assertTrue(text.isascii())

    def test_host_elsewhere(self) -> None:
        """Records of a host in another domain are only shown: they belong in another zone."""
        shown = self.records(
            live=False, hostname="mx.example.net", hosts=(Host("mx.example.net", (IP,)),), served=SERVED
        )
        self.assertEqual(
            [line.partition(" ")[0] for line in shown],
            ["mx.example.net.", "1.2.0.192.in-addr.arpa.", "mx.example.net.", *["_25._tcp.mx.example.net."] * 2],
        )
        self.assertIn("example.org. MX 10 mx.example.net.", self.records(hostname="mx.example.net"))

    def test_no_public_address(self) -> None:
        """Behind NAT the addresses are those that the DNS has now; where it has none, that is said."""
        behind: dict[str, Any] = {"receives": (), "hosts": (Host(HOST),)}
        self.assertIn(f"{HOST}. A {IP}", self.records(good(), **behind))
        self.assertFalse([line for line in self.records(**behind) if " A " in line])
        self.assertIn("must lead to the public address of this node", self.remarks(**behind))

    def test_sources(self) -> None:
        """SPF allows the addresses that mail leaves from, and names that EHLO says have records of their own."""
        hosts = (Host(HOST, (IP, "2001:db8::2")), Host("out.example.org", ("192.0.2.9",)))
        lines = self.records(hosts=hosts)
        self.assertIn('example.org. TXT "v=spf1 mx ip6:2001:db8::2 ip4:192.0.2.9 -all"', lines)
        self.assertIn('mx.example.org. TXT "v=spf1 a ip6:2001:db8::2 -all"', lines)
        self.assertIn('out.example.org. TXT "v=spf1 a -all"', lines)
        self.assertIn("out.example.org. A 192.0.2.9", lines)
        shown = self.records(live=False, hosts=hosts)
        self.assertIn("9.2.0.192.in-addr.arpa. PTR out.example.org.", shown)

    def test_host_is_domain(self) -> None:
        """A domain that is the host name has one SPF record, and so has a host that is another local domain."""
        facts: dict[str, Any] = {"hostname": DOMAIN, "hosts": (Host(DOMAIN, (IP,)),)}
        self.assertEqual(
            [line for line in self.records(**facts) if "spf1" in line], ['example.org. TXT "v=spf1 mx -all"']
        )
        facts = {"hostname": "example.net", "hosts": (Host("example.net", (IP,)),), "local": {DOMAIN, "example.net"}}
        self.assertEqual(len([line for line in self.records(**facts) if "spf1" in line]), 1)

    def test_spf_kept(self) -> None:
        """An SPF record that allows others as well is kept; what it lacks is put into it; a broken one is replaced."""
        names = good()
        names["_spf.provider.example"] = {"TXT": [b"v=spf1 ip4:198.51.100.0/24 -all"]}
        names[DOMAIN]["TXT"] = [b"v=spf1 mx include:_spf.provider.example ~all"]
        self.assertIn('example.org. TXT "v=spf1 mx include:_spf.provider.example ~all"', self.records(names))
        names[DOMAIN]["TXT"] = [b"v=spf1 include:_spf.provider.example ~all"]
        wanted = 'example.org. TXT "v=spf1 ip4:192.0.2.1 include:_spf.provider.example ~all"'
        self.assertIn(wanted, self.records(names))
        names[DOMAIN]["TXT"] = [b"v=spf1 mxx -all"]
        self.assertIn('example.org. TXT "v=spf1 mx -all"', self.records(names))

    def test_relayhost(self) -> None:
        """Where all mail goes out by a relayhost, SPF is its operator's to say."""
        self.assertIn("through [192.0.2.7]:25: add to the SPF record", self.remarks(relayhost="[192.0.2.7]:25"))

    def test_exchangers_kept(self) -> None:
        """A backup exchanger is kept, and stands in the policy of MTA-STS; without our host among them they are not."""
        names = good()
        names[DOMAIN]["MX"] = [MX(20, "backup.example.net"), MX(10, HOST)]
        lines = self.records(names)
        self.assertEqual(lines[:2], [f"example.org. MX 10 {HOST}.", "example.org. MX 20 backup.example.net."])
        self.assertIn("    mx: backup.example.net", self.remarks(names))
        names[DOMAIN]["MX"] = [MX(10, "filter.example.net")]
        names[DOMAIN]["TXT"] = []
        lines = self.records(names)
        self.assertEqual(lines[0], f"example.org. MX 10 {HOST}.")
        self.assertIn(f'example.org. TXT "v=spf1 a:{HOST} -all"', lines)

    def test_keys(self) -> None:
        """Each key says what becomes of it; a domain without keys is told so."""
        keys = tuple(Key(DOMAIN, state, state, f"v=DKIM1; p={state}") for state in ("new", "active", "retiring"))
        lines = [line for line in self.lines(keys=keys) if isinstance(line, ZoneLine) and "_domainkey" in line.owner]
        self.assertEqual([line.owner.partition(".")[0] for line in lines], ["new", "active", "retiring"])
        self.assertEqual(len({line.purpose.partition(";")[2] for line in lines}), 3)
        self.assertIn("no key signs mail", self.remarks(keys=()))
        self.assertIn("no key signs mail of example.org yet", self.remarks(keys=keys[:1]))
        self.assertIn("to have some: mailnode dkim create", self.remarks(keys=keys[2:]))
        self.assertIn("with the keys of example.net", self.remarks(keys=keys[:1], signer="example.net"))
        self.assertNotIn("DKIM", self.remarks(keys=keys))

    def test_keys_of_host(self) -> None:
        """Keys of a host name in another domain are only shown."""
        key = Key("mx.example.net", "a", "active", "v=DKIM1; p=A")
        self.assertIn('a._domainkey.mx.example.net. TXT "v=DKIM1; p=A"', self.records(live=False, keys=(KEY, key)))

    def test_dmarc_kept(self) -> None:
        """A published DMARC record is kept; two of them, and one without a policy that is one, are not."""
        names = good()
        owner = f"_dmarc.{DOMAIN}"
        for text in (b"v=DMARC1; p=reject; adkim=s", b"v=DMARC1;p=none", b"v=DMARC1; rua=mailto:a@example.org"):
            names[owner]["TXT"] = [text]
            self.assertIn(f'{owner}. TXT "{text.decode()}"', self.records(names))
        names[owner]["TXT"] = [b"v=DMARC1; p=reject; x=\xfc"]
        self.assertIn(f'{owner}. TXT "v=DMARC1; p=reject; x=\\252"', self.records(names))
        ours = f'{owner}. TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.org"'
        for texts in (
            [b"v=DMARC1; p=reject", b"v=DMARC1; p=none"],
            [b"v=DMARC1; p=perhaps"],
            [b"v=DMARC1"],
            [b"v=DMARC2; p=reject"],
        ):
            names[owner]["TXT"] = texts
            self.assertIn(ours, self.records(names))

    def test_dmarc_above(self) -> None:
        """Where a domain above has a DMARC record nothing weaker is said for the domain itself."""
        names = good()
        domain = "news.example.org"
        self.assertFalse([line for line in self.records(names, domain=domain) if "_dmarc" in line])
        self.assertIn("the record of example.org counts for news.example.org, too", self.remarks(names, domain=domain))

    def test_policy(self) -> None:
        """The policy of MTA-STS can be read, and its id changes with it and only with it."""
        text = policy_text("enforce", [HOST, "backup.example.net", HOST])
        policy = read_policy(text.encode(), policy_id(text), 0.0)
        self.assertEqual((policy.mode, policy.exchangers), ("enforce", (HOST, "backup.example.net")))
        self.assertEqual(policy_id(text), policy_id(policy_text("enforce", [HOST, "backup.example.net"])))
        self.assertNotEqual(policy_id(text), policy_id(policy_text("testing", [HOST, "backup.example.net"])))

    def test_policy_kept(self) -> None:
        """A policy that is served and allows our host keeps its id."""
        names = good()
        names[f"_mta-sts.{DOMAIN}"] = {"TXT": [b"v=STSv1; id=mine1;"]}

        async def fetch(domain: str) -> bytes:
            return policy_text("enforce", [HOST]).encode()

        facts = FACTS._replace(served=SERVED)
        lines = everything(facts, asked(names, facts, fetch=fetch))
        self.assertIn(f'_mta-sts.{DOMAIN}. TXT "v=STSv1; id=mine1"', [str(line) for line in lines])
        self.assertFalse([line for line in self.records(names, served=SERVED) if "mine1" in line])

    def test_unverifiable(self) -> None:
        """With a certificate that nobody can verify MTA-STS is only shown."""
        shown = self.records(live=False, served=(Served("ECDSA", b"\1" * 32, False),))
        self.assertTrue([line for line in shown if "_mta-sts" in line])

    def test_reports_kept(self) -> None:
        """Reports about TLS go where they went before."""
        names = good()
        names[f"_smtp._tls.{DOMAIN}"]["TXT"] = [b"v=TLSRPTv1; rua=https://reports.example/tls"]
        self.assertIn(f'_smtp._tls.{DOMAIN}. TXT "v=TLSRPTv1; rua=https://reports.example/tls"', self.records(names))

    def test_services_kept(self) -> None:
        """Another server's services are kept where this node has none; ours are ours."""
        names = good()
        names[f"_imaps._tcp.{DOMAIN}"] = {"SRV": [SRV(0, 1, 993, "imap.example.org")]}
        names[f"_submission._tcp.{DOMAIN}"] = {"SRV": [SRV(0, 1, 587, "old.example.org")]}
        lines = self.records(names)
        self.assertIn(f"_imaps._tcp.{DOMAIN}. SRV 0 1 993 imap.example.org.", lines)
        self.assertIn(f"_submission._tcp.{DOMAIN}. SRV 0 1 587 {HOST}.", lines)
        lines = self.records(names, services=())
        self.assertIn(f"_submission._tcp.{DOMAIN}. SRV 0 1 587 old.example.org.", lines)
        self.assertIn(f"_submissions._tcp.{DOMAIN}. SRV 0 0 0 .", lines)

    def test_loopback(self) -> None:
        """A listener that others do not reach says so."""
        lines = self.lines(services=(Service("submission", 2587, False),))
        (line,) = [line for line in lines if isinstance(line, ZoneLine) and line.owner.startswith("_submission.")]
        self.assertIn("on loopback", line.purpose)

    def test_no_answer(self) -> None:
        """Without the DNS the records are printed all the same, and it is said that nothing was kept."""
        names = dict.fromkeys((*good(), f"_mta-sts.{DOMAIN}", f"_25._tcp.{HOST}"), silent("it"))
        self.assertIn('example.org. TXT "v=spf1 mx -all"', self.records(names))
        self.assertIn("of what could not be nothing is kept: 192.0.2.53 did not", self.remarks(names))

    def test_problems(self) -> None:
        """What could not be read of the disk is said."""
        self.assertIn("cannot be read", self.remarks(problems=("x.pem cannot be read",)))
