"""Tests of the comparison: each record broken in turn gives its sentence, and no answer is never a missing record."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.dns_case import DOMAIN, FACTS, HOST, IP, KEY, PTR, Names, P, about, asked, found, good, silent
from tests.net.authority import Authority, Issued
from twisted_mail_node.admin.dns_check import Severity, findings
from twisted_mail_node.admin.dns_check_services import CHECKS
from twisted_mail_node.admin.dns_node import Host, Key, Served, Service
from twisted_mail_node.admin.dns_publish import policy_text
from twisted_mail_node.dns.answer import MX, SRV, TLSA
from twisted_mail_node.outbound.dane import RECORDS_MAX
from twisted_mail_node.outbound.mtasts_fetch import FetchError
from twisted_mail_node.signing.record import NOT_SHOWN
from twisted_mail_node.signing.shown import Missing, Shown


class GoodTest(SynchronousTestCase):
    """All is well."""

    def test_good(self) -> None:
        """A zone as it should be has no errors and no warnings."""
        severities = {one.severity for one in found(good())}
        self.assertEqual(severities, {Severity.OK, Severity.NOTE})
        notes = [one.about for one in found(good()) if one.severity is Severity.NOTE]
        self.assertEqual(notes, ["MTA-STS"])

    def test_no_answer(self) -> None:
        """A question without an answer is an error that says so, and nothing is called missing."""
        names: Names = dict.fromkeys((*good(), *(f"{x}{DOMAIN}" for x in ("_mta-sts.", "mta-sts."))), silent("it"))
        names[f"_25._tcp.{HOST}"] = silent("it")
        some = found(names)
        self.assertEqual({one.severity for one in some}, {Severity.ERROR})
        self.assertEqual(
            [one.about for one in some],
            ["MX", "A", "PTR", "SPF", "DKIM", "DMARC", "MTA-STS", "TLSRPT", "TLSA", "SRV"],
        )
        for one in some:
            self.assertIn("could not be asked: 192.0.2.53 did not answer", one.words)
            self.assertEqual(one.publish, ())

    def test_one_silent(self) -> None:
        """Other checks go on when one question has no answer, and what was found before is told."""
        names = good()
        names[f"_dmarc.{DOMAIN}"] = silent("it")
        names[f"_pop3s._tcp.{DOMAIN}"] = silent("it")
        bad = [(one.about, one.severity) for one in found(names) if one.severity is not Severity.OK][1:]
        self.assertEqual(bad, [("MTA-STS", "note"), ("SRV", "error")])
        self.assertEqual([severity for severity, _ in about("SRV", names)], ["ok", "ok", "error"])


class HostTest(SynchronousTestCase):
    """MX, A, PTR."""

    def setUp(self) -> None:
        self.names = good()

    def test_mx_missing(self) -> None:
        """Without MX no mail comes, unless the domain's address is the node's."""
        self.names[DOMAIN]["MX"] = []
        words = "example.org has no MX record: no mail comes here; publish: example.org. MX 10 mx.example.org."
        self.assertEqual(about("MX", self.names), [("error", words)])
        self.names[DOMAIN]["A"] = [IP]
        ((severity, words),) = about("MX", self.names)
        self.assertEqual((severity, "which is this node's; publish" in words), ("warning", True))

    def test_null_mx(self) -> None:
        """A null MX is an error."""
        self.names[DOMAIN]["MX"] = [MX(0, "")]
        ((severity, words),) = about("MX", self.names)
        self.assertEqual((severity, "takes no mail at all" in words), ("error", True))

    def test_mx_elsewhere(self) -> None:
        """MX that leads to another host may be meant: a note; so may another name of this node, or one before it."""
        self.names[DOMAIN]["MX"] = [MX(10, "other.example.org")]
        words = (
            "MX of example.org leads to other.example.org, not to mx.example.org; that is right if mail passes there "
            "first. Otherwise publish: example.org. MX 10 mx.example.org."
        )
        self.assertEqual(about("MX", self.names), [("note", words)])
        self.names["other.example.org"] = {"A": [IP]}
        ((severity, words),) = about("MX", self.names)
        self.assertEqual((severity, "another name of this node" in words), ("note", True))
        self.names[DOMAIN]["MX"] = [MX(10, "first.example"), MX(20, HOST)]
        ((severity, words),) = about("MX", self.names)
        self.assertEqual((severity, "first.example comes before" in words), ("note", True))
        self.names[DOMAIN]["MX"] = [MX(10, HOST), MX(20, "backup.example")]
        self.assertEqual(
            about("MX", self.names), [("ok", f"MX of example.org leads to {HOST} (and to backup.example).")]
        )

    def test_many_exchangers(self) -> None:
        """Of very many exchangers no addresses are asked for, and that is no error."""
        self.names[DOMAIN]["MX"] = [MX(10, f"mx{at}.example") for at in range(30)]
        self.assertEqual([severity for severity, _ in about("MX", self.names)], ["note"])

    def test_address_missing(self) -> None:
        """A host name that leads nowhere is an error."""
        self.names[HOST]["A"] = []
        words = (
            "mx.example.org has neither an A nor an AAAA record: nobody finds it; publish: mx.example.org. A 192.0.2.1."
        )
        self.assertEqual(about("A", self.names), [("error", words)])
        ((severity, words),) = about("A", self.names, FACTS._replace(receives=(), hosts=(Host(HOST),)))
        self.assertEqual((severity, "the address at which others reach" in words), ("error", True))

    def test_address_differs(self) -> None:
        """An address that is not the machine's is an error when it stands alone, and a warning beside a right one."""
        self.names[HOST]["A"] = ["192.0.2.99"]
        ((severity, words),) = about("A", self.names)
        self.assertEqual(
            (severity, "leads to 192.0.2.99, which is no address of this machine" in words), ("error", True)
        )
        self.names[HOST]["A"] = [IP, "192.0.2.99"]
        self.assertEqual([severity for severity, _ in about("A", self.names)], ["warning"])
        ((severity, words),) = about("A", good(), FACTS._replace(receives=(IP, "2001:db8::1")))
        self.assertEqual((severity, "does not lead to 2001:db8::1" in words), ("note", True))

    def test_spelling(self) -> None:
        """IPv6 addresses are compared as addresses."""
        self.names[HOST]["AAAA"] = ["2001:0db8:0::1"]
        ((severity, words),) = about("A", self.names, FACTS._replace(receives=(IP, "2001:db8::1")))
        self.assertEqual((severity, words), ("ok", "mx.example.org leads to 192.0.2.1 and 2001:db8::1."))

    def test_alias(self) -> None:
        """A host name that is a CNAME is a warning."""
        self.names[HOST] = {"CNAME": ["web.example.org"]}
        self.names["web.example.org"] = {"A": [IP]}
        self.assertIn(("warning", True), [(one, "is a CNAME" in words) for one, words in about("A", self.names)])

    def test_other_name(self) -> None:
        """A name that EHLO says from another address must lead to it, and that address back."""
        facts = FACTS._replace(hosts=(Host(HOST, (IP,)), Host("out.example.org", ("192.0.2.9",))))
        self.assertIn(
            ("error", True),
            [(one, "says EHLO out.example.org" in words) for one, words in about("A", self.names, facts)],
        )
        self.names["out.example.org"] = {"A": ["192.0.2.9"]}
        self.names["9.2.0.192.in-addr.arpa"] = {"PTR": ["out.example.org"]}
        self.assertEqual({one for kind in ("A", "PTR") for one, _ in about(kind, self.names, facts)}, {"ok"})

    def test_partly_behind_nat(self) -> None:
        """Where only some addresses are known, those that the host name leads to are checked as well."""
        facts = FACTS._replace(receives=(), hosts=(Host(HOST), Host("out.example.org", ("192.0.2.9",))))
        self.assertEqual([words.split()[2] for _, words in about("PTR", self.names, facts)], [IP, "192.0.2.9"])

    def test_ptr(self) -> None:
        """No name for an address is an error, another one a warning, and one that does not lead back an error."""
        del self.names[PTR]
        words = (
            "The address 192.0.2.1 has no PTR record, for which many refuse its mail; tell who gave you the address to "
            "set it; publish: 1.2.0.192.in-addr.arpa. PTR mx.example.org."
        )
        self.assertEqual(about("PTR", self.names), [("error", words)])
        self.names[PTR] = {"PTR": ["host1.provider.example"]}
        ((severity, words),) = about("PTR", self.names)
        self.assertEqual(
            (severity, "the name host1.provider.example, but mail from there says EHLO" in words), ("warning", True)
        )
        self.names[PTR] = {"PTR": [HOST]}
        self.names[HOST]["A"] = ["192.0.2.99"]
        ((severity, words),) = about("PTR", self.names)
        self.assertEqual((severity, "does not lead back to 192.0.2.1" in words), ("error", True))


class SenderTest(SynchronousTestCase):
    """SPF, DKIM, DMARC."""

    def setUp(self) -> None:
        self.names = good()

    def spf(self, *texts: bytes, **changes: Any) -> list[tuple[str, str]]:
        """What is found out about these records of the domain."""
        self.names[DOMAIN]["TXT"] = list(texts)
        return about("SPF", self.names, FACTS._replace(**changes))

    def test_spf_missing(self) -> None:
        """No SPF record is an error; of the name that EHLO says, a note."""
        words = 'example.org has no SPF record; publish: example.org. TXT "v=spf1 mx -all".'
        self.assertEqual(self.spf(b"v=spf10 mx -all")[0], ("error", words))
        self.names[HOST]["TXT"] = []
        ((severity, words),) = [one for one in self.spf(b"v=spf1 mx -all") if HOST in one[1]]
        self.assertEqual((severity, 'publish: mx.example.org. TXT "v=spf1 a -all".' in words), ("note", True))

    def test_spf_two(self) -> None:
        """Two SPF records are an error to everybody."""
        severity, words = self.spf(b"v=spf1 mx -all", b"v=spf1 a -all")[0]
        self.assertEqual((severity, 'has 2 SPF records ("v=spf1 mx -all", "v=spf1 a -all")' in words), ("error", True))

    def test_spf_fails(self) -> None:
        """A record that does not allow the node's address is an error, and says what to add."""
        words = (
            "The SPF record of example.org does not allow this node's address 192.0.2.1: mail from here gets softfail "
            "(~all). Add ip4:192.0.2.1 to it."
        )
        self.assertEqual(self.spf(b"v=spf1 ip4:192.0.2.7 ~all")[0], ("error", words))
        severity, words = self.spf(b"v=spf1 mx -all", hosts=(Host(HOST, (IP, "2001:db8::2")),))[0]
        self.assertEqual((severity, "Add ip6:2001:db8::2" in words), ("error", True))

    def test_spf_helo(self) -> None:
        """A record of the name that EHLO says which does not allow the node is a warning."""
        self.names[HOST]["TXT"] = [b"v=spf1 -all"]
        found = about("SPF", self.names)
        self.assertEqual([severity for severity, _ in found], ["ok", "warning"])

    def test_spf_broken(self) -> None:
        """A record with a mistake says where."""
        severity, words = self.spf(b"v=spf1 mxx -all")[0]
        self.assertEqual((severity, "mxx" in words, "Correct it." in words), ("error", True, True))

    def test_spf_silent(self) -> None:
        """A look-up inside the record that gets no answer is told as such."""
        self.names["_spf.provider.example"] = silent("_spf.provider.example")
        severity, words = self.spf(b"v=spf1 include:_spf.provider.example mx -all")[0]
        self.assertEqual((severity, "could not be asked" in words), ("error", True))

    def test_spf_everybody(self) -> None:
        """A record that allows the world is an error, although we pass."""
        self.assertEqual(self.spf(b"v=spf1 mx +all")[0][0], "error")

    def test_spf_relayhost(self) -> None:
        """Where mail goes out by a relayhost, our address is not asked for."""
        severity, words = self.spf(b"v=spf1 -all", relayhost="[192.0.2.7]:25")[0]
        self.assertEqual((severity, "it must allow [192.0.2.7]:25" in words), ("note", True))

    def test_spf_unknown(self) -> None:
        """Where nobody knows from which address mail leaves, that is said."""
        self.names[HOST]["A"] = []
        severity, words = self.spf(b"v=spf1 mx -all", receives=(), hosts=(Host(HOST),))[0]
        self.assertEqual((severity, "is not known here" in words), ("note", True))

    def dkim(self, *texts: bytes, state: str = "active") -> tuple[str, str]:
        """What is found out about these records at the key's name."""
        self.names[KEY.owner] = {"TXT": list(texts)}
        return about("DKIM", self.names, FACTS._replace(keys=(KEY._replace(state=state),)))[-1]

    def test_dkim(self) -> None:
        """A key that is missing, or that verifiers cannot use, is an error while it signs, and a warning otherwise."""
        name = "The key 20261128e._domainkey.example.org (active) "
        publish = f'; publish: 20261128e._domainkey.example.org. TXT "{KEY.text}".'
        self.assertEqual(self.dkim(), ("error", f"{name}is not published{publish}"))
        another = P.replace("AQ", "Ag", 1)
        wrong = {
            f"v=DKIM1; k=ed25519; p={another}": "with another public key",
            "v=DKIM1; k=ed25519; p=": "verifiers cannot use it: it says that the key was revoked",
            f"v=DKIM1; p={P}": "verifiers cannot use it: ",
            f"{KEY.text}; p={P}": "verifiers cannot use it: the tag p= stands in it twice",
            f"{KEY.text}; s=phone": "the key is not for mail",
            f"{KEY.text}; h=sha1": "the key is not for sha256",
        }
        for text, words in wrong.items():
            with self.subTest(text=text):
                severity, said = self.dkim(text.encode())
                self.assertEqual(severity, "error")
                self.assertTrue(said.startswith(f"{name}is published, but {words}"), said)
                self.assertTrue(said.endswith(publish))
        self.assertIn("has 2 TXT records", self.dkim(KEY.text.encode(), b"p=AAAA")[1])
        self.assertEqual([self.dkim(state=state)[0] for state in ("new", "retiring")], ["warning", "warning"])

    def test_dkim_well(self) -> None:
        """White space in a key does not matter; a key that is being tested is a note."""
        text = f" k=ed25519 ; p={P[:9]} {P[9:]};".encode()
        self.assertEqual(self.dkim(text), ("ok", f"The key {KEY.owner} (active) is published."))
        self.assertEqual(self.dkim(f"{KEY.text}; t=s:y".encode())[0], "note")

    def test_dkim_none(self) -> None:
        """A domain without keys is told whose keys sign, if any do."""
        found = about("DKIM", self.names, FACTS._replace(keys=()))
        self.assertEqual(
            found, [("note", "No key signs mail of example.org; to have some: mailnode dkim create example.org.")]
        )
        found = about("DKIM", self.names, FACTS._replace(keys=(), signer="example.net"))
        self.assertEqual(found, [("note", "Mail of example.org is signed with the keys of example.net.")])

    def dmarc(self, *texts: bytes) -> list[tuple[str, str]]:
        """What is found out about these records."""
        self.names[f"_dmarc.{DOMAIN}"] = {"TXT": list(texts)}
        return about("DMARC", self.names)

    def test_dmarc(self) -> None:
        """No record is a warning, two and one without a policy that is one are errors, p=none is a note."""
        ours = 'publish: _dmarc.example.org. TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.org".'
        ((severity, words),) = self.dmarc(b"something else")
        self.assertEqual((severity, words.endswith(ours)), ("warning", True))
        for texts in ((b"v=DMARC1; p=none", b"v=DMARC1; p=reject"), (b"v=DMARC1; p=perhaps",)):
            ((severity, words),) = self.dmarc(*texts)
            self.assertEqual((severity, words.endswith(ours)), ("error", True))
        self.assertEqual([one for one, _ in self.dmarc(b"v=DMARC1; p=none; rua=mailto:a@example.org")], ["note"])
        self.assertEqual([one for one, _ in self.dmarc(b"v=DMARC1; p=reject")], ["note", "ok"])
        self.assertIn("t=y", self.dmarc(b"v=DMARC1; p=reject; t=y; rua=mailto:a@example.org")[0][1])

    def test_dmarc_above(self) -> None:
        """A domain whose parent has a record needs none of its own."""
        domain = "news.example.org"
        self.names[domain] = {"MX": [MX(10, HOST)]}
        ((severity, words),) = about("DMARC", self.names, FACTS._replace(domain=domain))
        self.assertEqual((severity, "that of example.org counts" in words), ("note", True))

    def shown_by(self, said: Shown, state: str = "active") -> tuple[str, str]:
        """What is found out about a key of which the name servers say this."""

        async def show(key: Key) -> Shown:
            return said

        self.answers = asked(self.names, FACTS._replace(keys=(KEY._replace(state=state),)), show=show)
        found = findings(FACTS._replace(keys=(KEY._replace(state=state),)), self.answers, CHECKS)
        return [(str(one.severity), one.words) for one in found if one.about == "DKIM"][-1]

    def test_dkim_not_asked_for(self) -> None:
        """A resolver is asked for the record of a key only once all name servers show it: it would remember that there
        was none, and others who ask it would find none when mail is signed."""
        first, second = Missing("ns1 (192.0.2.1)", NOT_SHOWN), Missing("ns2 (192.0.2.2)", NOT_SHOWN)
        for said, state, severity, words in (
            (Shown(DOMAIN, 2, (first, second)), "new", "warning", "(new) is not published; publish: "),
            (Shown(DOMAIN, 2, (second,)), "new", "warning", "not published everywhere: ns2 (192.0.2.2) does not show"),
            (Shown(DOMAIN, 2, (second,)), "active", "error", "not published everywhere: ns2 (192.0.2.2) does not show"),
        ):
            with self.subTest(words=words):
                found = self.shown_by(said, state)
                self.assertEqual((found[0], words in found[1]), (severity, True), found[1])
                self.assertNotIn((KEY.owner, "TXT"), self.answers.known)
        self.assertEqual(self.shown_by(Shown(DOMAIN, 2, ()))[0], "ok")
        self.assertIn((KEY.owner, "TXT"), self.answers.known)

    def test_dkim_remembered(self) -> None:
        """Where the resolver knows nothing of a record that all name servers show, that is said, and is no error of
        the zone."""
        del self.names[KEY.owner]
        severity, words = self.shown_by(Shown(DOMAIN, 2, ()))
        self.assertEqual((severity, "the resolver that was asked here remembers" in words), ("warning", True), words)


class ServicesTest(SynchronousTestCase):
    """MTA-STS, TLSRPT, SRV."""

    def setUp(self) -> None:
        self.names = good()
        self.facts = FACTS._replace(served=(Served("ECDSA", b"\1" * 32, True),))
        self.policy = policy_text("enforce", [HOST])

    async def fetch(self, domain: str) -> bytes:
        """Serves the policy."""
        if not self.policy:
            raise FetchError(f"mta-sts.{domain} answers 404", "sts-policy-fetch-error")
        return self.policy.encode()

    def sts(self, *texts: bytes) -> list[tuple[str, str]]:
        """What is found out about these records."""
        self.names[f"_mta-sts.{DOMAIN}"] = {"TXT": list(texts)}
        return about("MTA-STS", self.names, self.facts, fetch=self.fetch)

    def test_sts(self) -> None:
        """A policy that fits is well; one that cannot be had or read is a warning; no record is a note."""
        self.assertEqual([one for one, _ in self.sts(b"v=STSv1; id=1")], ["ok"])
        self.assertEqual([one for one, _ in self.sts()], ["note"])
        self.policy = ""
        ((severity, words),) = self.sts(b"v=STSv1; id=1")
        self.assertEqual((severity, "it cannot be had: mta-sts.example.org answers 404." in words), ("warning", True))
        self.policy = "nonsense"
        ((severity, words),) = self.sts(b"v=STSv1; id=1")
        self.assertEqual((severity, "cannot be read" in words), ("warning", True))

    def test_sts_record(self) -> None:
        """A record that is wrong, and two of them, are none."""
        for texts in ((b"v=STSv1; id=1", b"v=STSv1; id=2"), (b"v=STSv1; id=a-b",), (b"v=STSv1",)):
            ((severity, words),) = self.sts(*texts)
            self.assertEqual((severity, "publish: _mta-sts.example.org. TXT" in words), ("warning", True))

    def test_sts_policy(self) -> None:
        """A policy that leaves our host out, or asks for a certificate we have not, loses mail when it is enforced."""
        self.names[DOMAIN]["MX"] = [MX(10, HOST), MX(20, "backup.example")]
        ((severity, words),) = self.sts(b"v=STSv1; id=1")
        self.assertEqual((severity, "add mx: backup.example" in words), ("error", True))
        self.policy = policy_text("testing", [HOST])
        self.assertEqual([one for one, _ in self.sts(b"v=STSv1; id=1")], ["warning"])
        self.policy = policy_text("none", [HOST])
        self.assertEqual([one for one, _ in self.sts(b"v=STSv1; id=1")], ["note"])
        self.policy = policy_text("enforce", [HOST, "backup.example"])
        self.facts = FACTS._replace(served=(Served("ECDSA", b"\1" * 32, False),))
        ((severity, words),) = self.sts(b"v=STSv1; id=1")
        self.assertEqual((severity, "which they cannot" in words), ("error", True))

    def test_tls_reports(self) -> None:
        """No record is a note; one that is wrong, or two, a warning."""
        name = f"_smtp._tls.{DOMAIN}"
        self.names[name] = {"TXT": []}
        self.assertEqual([one for one, _ in about("TLSRPT", self.names)], ["note"])
        right = b"v=TLSRPTv1; rua=mailto:a@example.org"
        for texts in ([b"v=TLSRPTv1; rua=ftp:x"], [right, right + b",mailto:b@example.org"]):
            self.names[name] = {"TXT": texts}
            self.assertEqual([one for one, _ in about("TLSRPT", self.names)], ["warning"])

    def test_services(self) -> None:
        """Services that lead elsewhere than to the listener are warnings; missing ones are one note."""
        self.names[f"_submission._tcp.{DOMAIN}"] = {"SRV": [SRV(0, 1, 25, HOST)]}
        del self.names[f"_imap._tcp.{DOMAIN}"], self.names[f"_submissions._tcp.{DOMAIN}"]
        warning, note = about("SRV", self.names)
        words = (
            "Mail programs look for submission of example.org at mx.example.org:25, but it is at mx.example.org:587; "
            "publish: _submission._tcp.example.org. SRV 0 1 587 mx.example.org."
        )
        self.assertEqual(warning, ("warning", words))
        self.assertEqual((note[0], "for submissions and imap," in note[1]), ("note", True))

    def test_services_elsewhere(self) -> None:
        """Another server's are well; ours that no listener offers are not."""
        self.names[f"_imaps._tcp.{DOMAIN}"] = {"SRV": [SRV(0, 1, 993, "imap.example.org")]}
        self.assertIn(("ok", True), [(one, "imap.example.org:993" in words) for one, words in about("SRV", self.names)])
        facts = FACTS._replace(services=(Service("submissions", 465),))
        ((_, words),) = [one for one in about("SRV", self.names, facts) if one[0] == "warning"]
        self.assertIn("where no listener offers it", words)


class TlsaTest(SynchronousTestCase):
    """DANE."""

    owner = f"_25._tcp.{HOST}"
    authority = Authority()

    def setUp(self) -> None:
        self.names = good()
        self.first, self.second = served(self.authority.issue(HOST)), served(self.authority.issue(HOST))
        self.facts = FACTS._replace(served=(self.first,))

    def tlsa(self, *records: TLSA, signed: bool = True) -> list[tuple[str, str]]:
        """What is found out about these records."""
        self.names[self.owner] = {"TLSA": list(records)}
        return about("TLSA", self.names, self.facts, signed=[self.owner] if signed else [])

    def test_fits(self) -> None:
        """A record of the key is well, also beside that of the next key."""
        right = TLSA(3, 1, 1, self.first.digest)
        self.assertEqual([one for one, _ in self.tlsa(right)], ["ok"])
        self.assertEqual([one for one, _ in self.tlsa(TLSA(3, 1, 1, self.second.digest), right)], ["ok"])

    def test_differs(self) -> None:
        """A record of another key is an error where the zone is signed, and a warning where it is not."""
        other = TLSA(3, 1, 1, self.second.digest)
        ((severity, words),) = self.tlsa(other)
        publish = f"; publish: {self.owner}. TLSA 3 1 1 {self.first.digest.hex()}."
        self.assertEqual((severity, words.endswith(publish)), ("error", True))
        self.assertEqual([one for one, _ in self.tlsa(other, signed=False)], ["warning", "note"])
        self.assertEqual([one for one, _ in self.tlsa(*[other] * (RECORDS_MAX + 1))], ["error"])

    def test_each_kind(self) -> None:
        """Every certificate that the host may show must fit."""
        self.facts = FACTS._replace(served=(self.first, self.second._replace(kind="RSA")))
        ((severity, words),) = self.tlsa(TLSA(3, 1, 1, self.first.digest))
        self.assertEqual((severity, "do not fit the RSA certificate" in words), ("error", True))
        self.assertNotIn(self.first.digest.hex(), words)

    def test_unsigned(self) -> None:
        """Without DNSSEC they are useless, which is a note; none at all is one, too."""
        self.assertEqual([one for one, _ in self.tlsa(TLSA(3, 1, 1, self.first.digest), signed=False)], ["note"])
        self.assertEqual([one for one, _ in self.tlsa()], ["note"])

    def test_no_certificate(self) -> None:
        """A node that has no certificate yet is told so where records stand already."""
        self.facts = FACTS
        self.assertEqual([one for one, _ in self.tlsa(TLSA(3, 1, 1, b"x" * 32))], ["warning"])
        self.assertEqual(self.tlsa(), [])


def served(issued: Issued) -> Served:
    """A certificate as the node shows it."""
    octets = issued.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Served("ECDSA", sha256(octets).digest(), True, (issued.certificate, *issued.above))


class BoundsTest(SynchronousTestCase):
    """What others publish is bounded, and cannot forge a line."""

    def test_hostile(self) -> None:
        """Long texts are cut in sentences, and hosts with odd names stay what they are."""
        names = good()
        names[DOMAIN]["TXT"] = [b"v=spf1 " + b"x" * 5000, b"v=spf1 \x1b[2J"]
        for _, words in about("SPF", names):
            self.assertLess(len(words), 1000)

    def test_keys_asked(self) -> None:
        """Each key's name is asked for."""
        keys = tuple(Key(DOMAIN, f"k{at}", "new", "p=A") for at in range(3))
        answers = asked(good(), FACTS._replace(keys=keys))
        self.assertIn((f"k2._domainkey.{DOMAIN}", "TXT"), answers.known)
