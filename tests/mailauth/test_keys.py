"""Public keys in the DNS (RFC 6376 section 3.6, RFC 8301, RFC 8463)."""

from __future__ import annotations

from base64 import b64decode, b64encode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth.dkim import DOMAIN, ed25519_key, keys_of, now, rsa_key
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth.keys import KEYS_MAX, RECORD_MAX, KeyProblem, Keys, read_key
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.tags import TagError

NAME = f"s._domainkey.{DOMAIN}"
RSA = rsa_key(1024).public_record().encode()
ED25519 = ed25519_key().public_record().encode()
P = RSA.partition(b"p=")[2]


def rsa_record(number: int, exponent: int = 65537) -> bytes:
    """A record for any numbers."""
    octets = (
        RSAPublicNumbers(exponent, number).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return b"p=" + b64encode(octets)


class RecordTest(SynchronousTestCase):
    """How a record is read."""

    def test_rsa(self) -> None:
        """RSA without k=, in a SubjectPublicKeyInfo or bare (PKCS#1), with white space in p=."""
        key = read_key(RSA)
        self.assertEqual((key.kind, key.bits, key.testing, key.strict), ("rsa", 1024, False, False))
        bare = load_der_public_key(b64decode(P)).public_bytes(Encoding.DER, PublicFormat.PKCS1)
        for record in (b"p=" + P, b"p=" + P[:50] + b" \t" + P[50:] + b" ;", b"k=RSA; p=" + b64encode(bare)):
            self.assertEqual(read_key(record).bits, 1024)

    def test_ed25519(self) -> None:
        """The 32 octets themselves (RFC 8463 section 4.2), and no others."""
        self.assertEqual((read_key(ED25519).kind, read_key(ED25519).bits), ("ed25519", 256))
        for size in (0, 31, 33, 44, 64):
            with self.subTest(size=size):
                self.assertRaises(TagError, read_key, b"k=ed25519; p=" + b64encode(bytes(size)))

    def test_lists(self) -> None:
        """h=, s= and t= are lists; what is unknown in them is ignored; g= and n= are not looked at."""
        key = read_key(b"v=DKIM1; h=sha1 : SHA256:x; s=email:other; t=y : s:z; g=nobody; n=note; p=" + P)
        self.assertEqual(key.unfit("rsa", "sha256"), "")
        self.assertTrue(key.testing and key.strict)

    def test_refused(self) -> None:
        """What is no key record, or has no key, is refused with a sentence."""
        der = (
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        for record in (
            b"", b"v=spf1 -all", b"v=DKIM2; p=" + P, b"v=dkim1; p=" + P, b"p=" + P + b"; v=DKIM1", b"v=DKIM1: p=" + P,
            b"v=DKIM1", b"v=DKIM1; p=", b"v=DKIM1; p= ;", b"k=dsa; p=" + P, b"k=ed25519-sha256; p=" + P, b"p=" + P[:-1],
            b"p=" + P + b"; p=" + P, b"p=!" + P, b"k=ed25519; p=" + P, b"k=rsa; p=" + ED25519.partition(b"p=")[2],
            b"p=" + b64encode(der), b"p=" + P + b"; n=" + b"x" * RECORD_MAX, b"p=\xff",
        ):  # fmt: skip
            with self.subTest(record=record):
                self.assertRaises(TagError, read_key, record)

    def test_exponents(self) -> None:
        """An exponent as long as the modulus would make each check a hundred times as dear."""
        number = (1 << 2047) + 9
        self.assertEqual(read_key(rsa_record(number)).bits, 2048)
        self.assertRaises(TagError, read_key, rsa_record(number, (1 << 2040) + 1))

    @given(st.binary(max_size=200))
    def test_anything(self, octets: bytes) -> None:
        """Any octets are a key, or refused; any p=, too."""
        for record in (octets, b"p=" + b64encode(octets), b"k=ed25519;p=" + b64encode(octets)):
            try:
                read_key(record)
            except TagError as error:
                self.assertTrue(str(error).isascii() and str(error).isprintable())


class FitTest(SynchronousTestCase):
    """What a key is for."""

    def test_unfit(self) -> None:
        """Another kind, a hash that h= does not have, another service, a length nobody may accept."""
        rsa, ed25519 = read_key(RSA), read_key(ED25519)
        self.assertEqual(rsa.unfit("rsa", "sha256"), "")
        self.assertEqual(ed25519.unfit("ed25519", "sha256"), "")
        self.assertIn("ed25519", rsa.unfit("ed25519", "sha256"))
        self.assertIn("rsa", ed25519.unfit("rsa", "sha256"))
        self.assertEqual(read_key(b"h=sha1; p=" + P).unfit("rsa", "sha256"), "the key is not for sha256")
        self.assertEqual(read_key(b"h=; p=" + P).unfit("rsa", "sha256"), "the key is not for sha256")
        self.assertEqual(read_key(b"s=tlsrpt; p=" + P).unfit("rsa", "sha256"), "the key is not for mail")
        for service in (b"*", b"email", b"x:*"):
            self.assertEqual(read_key(b"s=" + service + b"; p=" + P).unfit("rsa", "sha256"), "")
        for bits, good in ((512, False), (1023, False), (1024, True), (4096, True), (8192, True), (8193, False)):
            key = read_key(rsa_record((1 << (bits - 1)) + 9))
            self.assertEqual(not key.unfit("rsa", "sha256"), good, bits)

    def test_verify(self) -> None:
        """Only the octets that were signed, only SHA-256, and never an exception."""
        for ours in (rsa_key(1024), ed25519_key()):
            key = read_key(ours.public_record().encode())
            signature = ours.sign(b"octets")
            self.assertTrue(key.verify(signature, "sha256", b"octets"))
            self.assertFalse(key.verify(signature, "sha256", b"other"))
            self.assertFalse(key.verify(signature, "sha1", b"octets"))
            for wrong in (b"", b"x", signature[:-1], signature + b"\0", b"\0" + signature, b"\xff" * len(signature)):
                self.assertFalse(key.verify(wrong, "sha256", b"octets"))


class KeysTest(SynchronousTestCase):
    """Asking for them."""

    def problem(self, keys: Keys, selector: str = "s") -> KeyProblem:
        """Why there is none."""
        with self.assertRaises(KeyProblem) as caught:
            now(keys.get(selector, DOMAIN))
        problem: KeyProblem = caught.exception
        return problem

    def test_found(self) -> None:
        """The key of a selector; of several, the first that is one."""
        self.assertEqual(now(keys_of({NAME: [RSA]}).get("s", DOMAIN)).kind, "rsa")
        keys = keys_of({NAME: [b"v=spf1 -all", b"p=", ED25519, RSA]})
        self.assertEqual([key.kind for key in now(keys.all("s", DOMAIN))], ["ed25519", "rsa"])
        self.assertEqual(now(keys.get("s", DOMAIN)).kind, "ed25519")

    def test_many(self) -> None:
        """Of a hundred records a few are read."""
        self.assertEqual(len(now(keys_of({NAME: [RSA] * 100}).all("s", DOMAIN))), KEYS_MAX)

    def test_none(self) -> None:
        """No name, no record, a record that is none, a revoked key: each is told, and for good."""
        for records, words in (
            ({}, f"no key is published at {NAME}"),
            ({NAME: []}, f"no key is published at {NAME}"),
            ({NAME: [b"p="]}, f"the key record at {NAME} cannot be used: it says that the key was revoked"),
            ({NAME: [b"hello"]}, f"the key record at {NAME} cannot be used: "),
        ):
            problem = self.problem(keys_of(records))
            self.assertIs(problem.result, Result.PERMERROR)
            self.assertTrue(str(problem).startswith(words), str(problem))

    def test_dns_trouble(self) -> None:
        """Without an answer it is a temperror; it is not remembered."""
        resolver = FakeResolver({NAME: {"TXT": DNSError("timed out")}})
        keys = Keys(resolver, lambda: 0.0)
        for _ in range(2):
            problem = self.problem(keys)
            self.assertIs(problem.result, Result.TEMPERROR)
            self.assertEqual(str(problem), f"the DNS had no answer for {NAME}: timed out")
        self.assertEqual(len(resolver.asked), 2)

    def test_long_name(self) -> None:
        """A name that the DNS cannot have is not asked for."""
        keys = keys_of({})
        problem = self.problem(keys, ".".join(["x" * 60] * 4))
        self.assertIs(problem.result, Result.PERMERROR)
        self.assertEqual(keys._resolver.asked, [])  # type: ignore[attr-defined]

    def test_remembered(self) -> None:
        """An answer, good or bad, is remembered for its TTL, and so many at most; the oldest go first."""
        clock = [0.0]
        resolver = FakeResolver({NAME: {"TXT": [RSA]}, f"b._domainkey.{DOMAIN}": {"TXT": [b"p="]}})
        keys = Keys(resolver, lambda: clock[0], size=2)
        first = now(keys.get("s", DOMAIN))
        self.problem(keys, "b")
        self.problem(keys, "b")
        self.assertIs(now(keys.get("s", DOMAIN)), first)
        self.assertEqual(len(resolver.asked), 2)
        self.problem(keys, "c")  # drives b out
        self.assertIs(now(keys.get("s", DOMAIN)), first)
        self.assertEqual(len(resolver.asked), 3)
        clock[0] = 299.0
        now(keys.get("s", DOMAIN))
        self.assertEqual(len(resolver.asked), 3)
        clock[0] = 300.0
        now(keys.get("s", DOMAIN))
        self.assertEqual(len(resolver.asked), 4)
