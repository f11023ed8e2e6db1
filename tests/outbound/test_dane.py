"""Tests of twisted_mail_node.outbound.dane: certificates against TLSA records, every usage, selector and type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha512

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.net.authority import Authority, rsa_key
from twisted_mail_node.dns.answer import TLSA
from twisted_mail_node.outbound.dane import (
    EXPIRED,
    INVALID,
    MISMATCH,
    RECORDS_MAX,
    UNTRUSTED,
    Match,
    Tlsa,
    match,
    usable,
)

HOST = "mx.example.net"
ROOT = Authority("root")
BETWEEN = Authority("between", ROOT)
ISSUED = BETWEEN.issue(HOST)
OWN = ISSUED.certificate
CHAIN = (OWN, BETWEEN.certificate, ROOT.certificate)
STRANGER = Authority("stranger")
PAST = datetime(2026, 1, 1, tzinfo=UTC)


def octets_of(certificate: Certificate, selector: int) -> bytes:
    if selector == 0:
        return certificate.public_bytes(Encoding.DER)
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def record(usage: int, selector: int, kind: int, certificate: Certificate) -> TLSA:
    """A record for this certificate."""
    octets = octets_of(certificate, selector)
    return TLSA(usage, selector, kind, (octets, sha256(octets).digest(), sha512(octets).digest())[kind])


def compare(*records: TLSA, chain: tuple[Certificate, ...] = CHAIN, names: tuple[str, ...] = (HOST,)) -> Match:
    now = datetime.now(UTC)
    return match(Tlsa(HOST, f"_25._tcp.{HOST}", usable(records), names), chain, now)


class UsableTests(SynchronousTestCase):
    def test_known(self) -> None:
        """Usages 2 and 3, selectors 0 and 1, types 0 to 2; 0 and 1 mean nothing in SMTP (RFC 7672 section 3.1.3)."""
        for usage in (0, 1, 2, 3, 4, 255):
            for selector in (0, 1, 2, 255):
                for kind in (0, 1, 2):
                    good = record(usage, min(selector, 1), kind, OWN)._replace(selector=selector)
                    expected = (good,) if usage in (2, 3) and selector < 2 else ()
                    self.assertEqual(usable([good]), expected)
                self.assertEqual(usable([TLSA(usage, selector, 3, b"\0" * 32)]), ())

    def test_lengths(self) -> None:
        """A digest of another length, and a whole certificate or key that is none, cannot be used."""
        for kind, length in ((1, 32), (2, 64)):
            for size in (0, 1, length - 1, length + 1, 20, 96):
                self.assertEqual(usable([TLSA(3, 1, kind, b"\0" * size)]), ())
        for selector in (0, 1):
            for octets in (b"", b"\0", b"\x30\x80", octets_of(OWN, selector)[:-1], octets_of(OWN, 1 - selector)):
                self.assertEqual(usable([TLSA(3, selector, 0, octets)]), (), (selector, octets[:10]))

    def test_strongest_digest(self) -> None:
        """Of one usage and selector only the strongest digest counts, beside whole ones (RFC 7671 section 9)."""
        weak, strong, whole = record(3, 1, 1, OWN), record(3, 1, 2, OWN), record(3, 1, 0, OWN)
        other = record(2, 1, 1, OWN)
        self.assertEqual(usable([weak, strong, whole, other]), (strong, whole, other))
        wrong = record(3, 1, 2, ROOT.certificate)
        self.assertEqual(compare(weak, wrong).result, INVALID)
        self.assertEqual(compare(weak, wrong._replace(data=b"short")).result, "")

    def test_many(self) -> None:
        """Of very many so many are looked at; the same twice is one."""
        many = [TLSA(3, 1, 1, number.to_bytes(32, "big")) for number in range(10 * RECORDS_MAX)]
        self.assertEqual(usable(many), tuple(many[:RECORDS_MAX]))
        self.assertEqual(usable([many[0]] * 3), (many[0],))


class EndEntityTests(SynchronousTestCase):
    """DANE-EE(3), RFC 7672 section 3.1.1."""

    def test_all_forms(self) -> None:
        """Each selector and type, for RSA too."""
        for certificate in (OWN, BETWEEN.issue(HOST, key=rsa_key()).certificate):
            for selector in (0, 1):
                for kind in (0, 1, 2):
                    found = compare(record(3, selector, kind, certificate), chain=(certificate,))
                    self.assertEqual(found, Match(f"3 {selector} {kind}"))

    def test_names_and_dates(self) -> None:
        """Its names, dates, purpose and signer do not count."""
        for issued in (
            BETWEEN.issue("other.example"),
            BETWEEN.issue(HOST, expires=PAST),
            BETWEEN.issue(HOST, self_signed=True),
            BETWEEN.issue(cn="nobody", mail="joe@example.org"),
            STRANGER.issue(),
        ):
            own = issued.certificate
            self.assertEqual(compare(record(3, 1, 1, own), chain=(own,)), Match("3 1 1"))

    def test_another(self) -> None:
        """Another certificate, or the right one not in the first place, does not fit."""
        for selector in (0, 1):
            for kind in (0, 1, 2):
                for other in (STRANGER.issue(HOST).certificate, *CHAIN[1:]):
                    found = compare(record(3, selector, kind, other))
                    self.assertEqual(found.result, INVALID)
                    self.assertIn("TLSA", found.words)

    def test_one_is_enough(self) -> None:
        """During a change of keys one of two records fits."""
        other = record(3, 1, 1, STRANGER.issue(HOST).certificate)
        self.assertEqual(compare(other, record(3, 1, 1, OWN)).words, "3 1 1")
        self.assertEqual(compare(record(2, 0, 1, STRANGER.certificate), record(3, 0, 1, OWN)).words, "3 0 1")

    def test_same_key(self) -> None:
        """A new certificate with the same key fits a record of the key, not one of the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        old, new = BETWEEN.issue(HOST, key=key).certificate, BETWEEN.issue(HOST, key=key).certificate
        self.assertEqual(compare(record(3, 1, 1, old), chain=(new,)).result, "")
        self.assertEqual(compare(record(3, 0, 1, old), chain=(new,)).result, INVALID)

    def test_nothing_shown(self) -> None:
        """No certificate fits nothing."""
        self.assertEqual(compare(record(3, 1, 1, OWN), chain=()).result, INVALID)


class TrustAnchorTests(SynchronousTestCase):
    """DANE-TA(2), RFC 7672 section 3.1.2."""

    def test_all_forms(self) -> None:
        """Each selector and type, for the root and for what stands between."""
        for anchor in CHAIN[1:]:
            for selector in (0, 1):
                for kind in (0, 1, 2):
                    self.assertEqual(compare(record(2, selector, kind, anchor)), Match(f"2 {selector} {kind}"))

    def test_order(self) -> None:
        """In whatever order the rest of the chain came, and with others among it."""
        chain = (OWN, STRANGER.certificate, ROOT.certificate, OWN, BETWEEN.certificate)
        self.assertEqual(compare(record(2, 0, 1, ROOT.certificate), chain=chain).result, "")

    def test_not_sent(self) -> None:
        """An anchor that was not sent is known only when the record holds it whole, or its key."""
        for selector in (0, 1):
            for kind, result in ((0, ""), (1, INVALID), (2, INVALID)):
                found = compare(record(2, selector, kind, ROOT.certificate), chain=CHAIN[:2])
                self.assertEqual(found.result, result, (selector, kind))
                found = compare(record(2, selector, kind, BETWEEN.certificate), chain=CHAIN[:1])
                self.assertEqual(found.result, result, (selector, kind))

    def test_key_of_another(self) -> None:
        """A bare key that signed none of what was sent fits nothing, whatever kind of key it is."""
        for key in (STRANGER.certificate, BETWEEN.issue(HOST, key=rsa_key()).certificate):
            self.assertEqual(compare(record(2, 1, 0, key), chain=CHAIN[:2]).result, INVALID)

    def test_gap(self) -> None:
        """An anchor that no path leads to is none: what stands between is missing, or the anchor is another's."""
        found = compare(record(2, 0, 1, ROOT.certificate), chain=(OWN, ROOT.certificate))
        self.assertEqual(found.result, UNTRUSTED)
        self.assertIn("trust anchor", found.words)
        found = compare(record(2, 0, 1, STRANGER.certificate), chain=(*CHAIN, STRANGER.certificate))
        self.assertEqual(found.result, UNTRUSTED)
        self.assertEqual(compare(record(2, 0, 0, STRANGER.certificate)).result, UNTRUSTED)

    def test_same_name(self) -> None:
        """An authority that only bears the same name has signed nothing."""
        twin = Authority("root")
        found = compare(record(2, 0, 1, twin.certificate), chain=(OWN, BETWEEN.certificate, twin.certificate))
        self.assertEqual(found.result, UNTRUSTED)

    def test_not_an_authority(self) -> None:
        """A host's certificate signs nothing, though it is the anchor."""
        forged = Authority("forged")
        forged._key, forged._name = ISSUED.key, OWN.subject  # type: ignore[assignment]
        evil = forged.issue(HOST).certificate
        found = compare(record(2, 0, 1, OWN), chain=(evil, OWN))
        self.assertEqual(found.result, UNTRUSTED)

    def test_own_certificate(self) -> None:
        """Its own certificate is no anchor for itself: that is usage 3."""
        own = BETWEEN.issue(HOST, self_signed=True).certificate
        for selector, kind in ((0, 0), (0, 1), (1, 1)):
            self.assertNotEqual(compare(record(2, selector, kind, own), chain=(own, own)).result, "")

    def test_names(self) -> None:
        """The certificate must be for the TLSA base domain or the next-hop domain (RFC 7672 section 3.2)."""
        anchor = record(2, 0, 1, ROOT.certificate)
        for name, result in (("example.net", ""), ("*.example.net", ""), ("other.example", MISMATCH)):
            chain = (BETWEEN.issue(name).certificate, *CHAIN[1:])
            self.assertEqual(compare(anchor, chain=chain, names=(HOST, "example.net")).result, result)
        chain = (BETWEEN.issue("example.net").certificate, *CHAIN[1:])
        found = compare(anchor, chain=chain)
        self.assertEqual((found.result, found.words), (MISMATCH, f"it is for example.net, not {HOST}"))
        self.assertEqual(compare(anchor, names=()).result, MISMATCH)

    def test_dates(self) -> None:
        """Dates count, unlike for usage 3."""
        anchor = record(2, 0, 1, ROOT.certificate)
        future = datetime.now(UTC) + timedelta(days=5 * 365)
        for expires in (PAST, future):
            chain = (BETWEEN.issue(HOST, expires=expires).certificate, *CHAIN[1:])
            self.assertEqual(compare(anchor, chain=chain).result, EXPIRED)
        tlsa = Tlsa(HOST, "", (anchor,), (HOST,))
        self.assertEqual(match(tlsa, CHAIN, datetime.now(UTC) + timedelta(days=400)).result, EXPIRED)
        self.assertEqual(match(tlsa, CHAIN, datetime.now(UTC) + timedelta(days=300)).result, "")

    def test_purpose(self) -> None:
        """A client's certificate is not good for a server."""
        chain = (BETWEEN.issue(HOST, mail="joe@example.org").certificate, *CHAIN[1:])
        self.assertEqual(compare(record(2, 0, 1, ROOT.certificate), chain=chain).result, UNTRUSTED)


class AttackTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.builds(
                TLSA,
                st.integers(0, 255),
                st.integers(0, 255),
                st.integers(0, 255),
                st.binary(max_size=80)
                | st.sampled_from([octets_of(one, n)[:-1] + b"!" for one in CHAIN for n in (0, 1)]),
            ),
            max_size=8,
        ),
        st.lists(st.sampled_from([*CHAIN, STRANGER.certificate]), max_size=6),
    )
    def test_garbage(self, records: list[TLSA], chain: list[Certificate]) -> None:
        """Whatever a zone holds, it never breaks anything, and fits nothing."""
        found = compare(*records, chain=tuple(chain))
        self.assertNotEqual(found.result, "")
        self.assertTrue(found.words)

    @settings(max_examples=100, deadline=None)
    @given(st.sampled_from([(2, 1), (3, 0), (3, 1)]), st.binary(max_size=200), st.integers(0, 400))
    def test_nearly(self, form: tuple[int, int], octets: bytes, at: int) -> None:
        """A whole certificate or key with other octets in it is none of ours, if it is one at all. (2 0 0 is left out:
        an anchor with the right key and other dates is as good as the right one, for the zone says so.)"""
        usage, selector = form
        right = octets_of(OWN if usage == 3 else ROOT.certificate, selector)
        wrong = right[:at] + octets + right[at + len(octets) :]
        if wrong != right:
            self.assertNotEqual(compare(TLSA(usage, selector, 0, wrong)).result, "")

    def test_odd_version(self) -> None:
        """A record that holds a certificate of a version there is none of is passed over."""
        right = octets_of(ROOT.certificate, 0)
        odd = right.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1)
        self.assertNotEqual(odd, right)
        self.assertEqual(usable([TLSA(2, 0, 0, odd), TLSA(3, 0, 0, odd)]), ())

    def test_long_chain(self) -> None:
        """Of an endless chain the first twelve are looked at."""
        chain = (OWN, *[STRANGER.certificate] * 20, *CHAIN[1:])
        self.assertNotEqual(compare(record(2, 0, 1, ROOT.certificate), chain=chain).result, "")
