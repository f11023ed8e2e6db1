"""SRS: what was written is read back, and nothing else is."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.srs import DAY, DAYS, LIFETIME_MAX, LOCAL_PART_MAX, Srs, Wrong, is_srs

NOW = 1_709_633_472.0
KEY = b"0123456789abcdef"
OTHER = b"fedcba9876543210"
JOE = Address("joe", "example.net")


def srs(*keys: bytes, domain: str = "ours.example", lifetime: int = 21, longest: int = 250) -> Srs:
    """SRS with defaults."""
    return Srs(keys or (KEY,), domain, lifetime, longest)


def written(address: Address = JOE, now: float = NOW) -> Address:
    """An address that must fit."""
    found = srs().write(address, now)
    assert found is not None
    return found


LOCAL_PARTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('=+-@". \\SRS01'), min_size=1, max_size=30
)
DOMAINS = st.sampled_from(["example.net", "a.b.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "bücher.example"])
ADDRESSES = st.builds(Address, LOCAL_PARTS, DOMAINS)
TIMES = st.floats(0, 4e9)


class FormTests(SynchronousTestCase):
    """How it looks."""

    def test_first(self) -> None:
        """SRS0, a hash, the day, domain and local-part, at our domain; the same values give the same text."""
        self.assertRegex(written().local_part, r"\ASRS0=[A-Z2-7]{8}=[A-Z2-7]{2}=example\.net=joe\Z")
        self.assertEqual((written().domain, written()), ("ours.example", written()))
        self.assertTrue(is_srs(written().local_part) and is_srs(written().local_part.lower()))
        self.assertFalse(is_srs("srs0") or is_srs("joe"))
        self.assertNotEqual(written(), written(now=NOW + DAY))

    def test_further(self) -> None:
        """What another forwarder rewrote becomes SRS1 with his domain; his bounce goes straight back to him, however
        many forwarders follow."""
        theirs = Address("SRS0=abcd=QX=example.com=ann=b", "forwarder.example")
        found = written(theirs)
        self.assertRegex(found.local_part, r"\ASRS1=[A-Z2-7]{8}=forwarder\.example==abcd=QX=example\.com=ann=b\Z")
        self.assertEqual(srs().read(found, NOW), theirs)
        next_one = srs(OTHER, domain="next.example")
        third = next_one.write(found, NOW)
        assert third is not None
        self.assertRegex(third.local_part, r"\ASRS1=[A-Z2-7]{8}=forwarder\.example==abcd=QX=example\.com=ann=b\Z")
        self.assertEqual(next_one.read(third, NOW), theirs)

    def test_other_separators(self) -> None:
        """Programs that write "+" or "-" after SRS0 and SRS1 get back what they wrote."""
        for text in ("SRS0+abcd=QX=example.com=ann", "srs0-abcd=QX=example.com=ann"):
            theirs = Address(text, "forwarder.example")
            back = srs().read(written(theirs), NOW)
            assert isinstance(back, Address)
            self.assertEqual(back, Address("SRS0" + text[4:], "forwarder.example"))
        found = written(Address("SRS1+xyz=first.example=+abcd=QX=example.com=ann", "second.example"))
        self.assertEqual(srs().read(found, NOW), Address("SRS0+abcd=QX=example.com=ann", "first.example"))

    def test_only_looks_like_it(self) -> None:
        """A local-part that only begins like SRS is one like all others."""
        for text in ("SRS", "SRS0", "srs0joe", "SRS2=a=b=c=d", "SRS1=x", "SRS1=x=y", "SRS1=x=first.example=no"):
            address = Address(text, "example.net")
            self.assertEqual(srs().read(written(address), NOW), address, text)

    def test_too_long(self) -> None:
        """A local-part beyond the bound is not written at all (RFC 5321 section 4.5.3.1.1)."""
        room = LOCAL_PART_MAX - len("SRS0=hhhhhhhh=tt=example.net=")
        short = srs(longest=LOCAL_PART_MAX)
        found = short.write(Address("a" * room, "example.net"), NOW)
        assert found is not None
        self.assertEqual(len(found.local_part), LOCAL_PART_MAX)
        self.assertIsNone(short.write(Address("a" * (room + 1), "example.net"), NOW))
        self.assertIsNone(short.write(Address("ä" * (room // 2 + 1), "example.net"), NOW))  # octets, not characters

    def test_refused(self) -> None:
        """Without a key, or with a lifetime that two letters cannot tell, there is no SRS."""
        for keys, lifetime in (((), 21), ((KEY, b""), 21), ((KEY,), 0), ((KEY,), LIFETIME_MAX + 1)):
            with self.assertRaises(ValueError):
                Srs(keys, "ours.example", lifetime)


class ReadTests(SynchronousTestCase):
    """Who is believed."""

    @given(ADDRESSES, TIMES)
    def test_back(self, address: Address, now: float) -> None:
        """Whatever was written is read back as it was; an SRS1 goes to the first forwarder."""
        found = srs(longest=10_000).write(address, now)
        assert found is not None
        back = srs().read(found, now)
        if address.local_part[:4].upper() in ("SRS0", "SRS1") and address.local_part[4:5] in ("=", "+", "-"):
            self.assertIsInstance(back, Address)
        else:
            self.assertEqual(back, address)

    @given(ADDRESSES, st.data())
    def test_tampered(self, address: Address, data: st.DataObject) -> None:
        """A change of anything but case is noticed."""
        found = srs(longest=10_000).write(address, NOW)
        assert found is not None
        text = found.local_part
        at = data.draw(st.integers(0, len(text)))
        until = data.draw(st.integers(at, min(len(text), at + 3)))
        other = text[:at] + data.draw(LOCAL_PARTS | st.just("")) + text[until:]
        assume(other.lower() != text.lower())
        self.assertEqual(srs().read(Address(other, "ours.example"), NOW), Wrong.FORGED)

    @given(LOCAL_PARTS, TIMES)
    def test_anything(self, text: str, now: float) -> None:
        """No text at all breaks it, and none is believed without a hash of ours."""
        for tag in ("", "SRS0=AAAAAAAA=", "SRS1=AAAAAAAA=", "SRS0=ſſſſſſſſ=", "SRS0=" + "\u212a" * 8 + "="):
            self.assertEqual(srs().read(Address(tag + text, "ours.example"), now), Wrong.FORGED)

    def test_folded(self) -> None:
        """A host that folds the case does no harm; what was folded comes back folded."""
        found = written(Address("Joe.Doe", "example.net"))
        for fold in (str.upper, str.lower, str.swapcase):
            back = srs().read(Address(fold(found.local_part), "OURS.example"), NOW)
            self.assertEqual(back, Address(fold("Joe.Doe"), fold("example.net")))

    def test_lifetime(self) -> None:
        """It is good for the lifetime and the day it was written on; and a day before, for clocks differ."""
        for days, good in ((-2, False), (-1, True), (0, True), (21, True), (22, False), (DAYS - 2, False)):
            back = srs().read(written(), NOW + days * DAY)
            self.assertEqual(back, JOE if good else Wrong.EXPIRED, days)

    def test_further_does_not_expire(self) -> None:
        """An SRS1 has no day of its own: who wrote the SRS0 in it looks at his."""
        theirs = Address("SRS0=abcd=QX=example.com=ann", "forwarder.example")
        self.assertEqual(srs().read(written(theirs), NOW + 100 * DAY), theirs)

    def test_keys(self) -> None:
        """The first key signs, all are believed; a key that was taken away is not."""
        old = written()
        both = srs(OTHER, KEY)
        self.assertEqual(both.read(old, NOW), JOE)
        new = both.write(JOE, NOW)
        assert new is not None
        self.assertNotEqual(new, old)
        self.assertEqual(srs(OTHER).read(new, NOW), JOE)
        self.assertEqual(srs(OTHER).read(old, NOW), Wrong.FORGED)
        self.assertEqual(srs(KEY).read(new, NOW), Wrong.FORGED)

    def test_kinds_do_not_mix(self) -> None:
        """The hash of an SRS0 is none of an SRS1 with the same text, nor the other way round."""
        found = written(Address("x==y=z", "a.example"))
        other = Address("SRS1" + found.local_part[4:], "ours.example")
        self.assertEqual(srs().read(other, NOW), Wrong.FORGED)
