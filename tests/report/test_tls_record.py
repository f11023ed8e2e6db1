"""Where a domain wants reports about TLS (RFC 8460 section 3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.report.tls_record import PLACES_MAX, Place, places_of

MAIL = "mailto:tls@there.example"
POST = "https://there.example/v1/tlsrpt"


def places(record: str) -> list[str]:
    """The URIs of one record."""
    return [place.uri for place in places_of([record.encode()])]


class RecordTest(SynchronousTestCase):
    """places_of."""

    def test_good(self) -> None:
        """Mail and HTTPS, one or several, with spaces where the grammar has them, beside fields we do not know."""
        for record, wanted in (
            (f"v=TLSRPTv1; rua={MAIL}", [MAIL]),
            (f"v=TLSRPTv1;rua={POST};", [POST]),
            (f"v=TLSRPTv1 ; x=y; rua={MAIL} , {POST} ; rua=mailto:other@there.example", [MAIL, POST]),
            (f"v=TLSRPTv1; rua={MAIL},{MAIL}", [MAIL]),
            (f"v=TLSRPTv1; rua={MAIL}?subject=x", [f"{MAIL}?subject=x"]),
        ):
            self.assertEqual(places(record), wanted, record)
        (place,) = places_of([b"v=TLSRPTv1; rua=MAILTO:a%2Bb@There.example"])
        self.assertEqual(place, Place("MAILTO:a%2Bb@There.example", Address("a+b", "there.example")))

    def test_none(self) -> None:
        """No record, two of them, another version, or nothing we can write to: no report."""
        good = f"v=TLSRPTv1; rua={MAIL}".encode()
        self.assertEqual(places_of([]), ())
        self.assertEqual(places_of([good, good]), ())
        self.assertEqual(len(places_of([good, b"v=spf1 -all", "text", b"v=TLSRPTv12; rua=x"])), 1)
        for record in (
            "v=TLSRPTv1", "v=TLSRPTv1;", f"v=tlsrptv1; rua={MAIL}", f" v=TLSRPTv1; rua={MAIL}", f"rua={MAIL}",
            "v=TLSRPTv1; rua=", "v=TLSRPTv1; rua=ftp://there.example/", "v=TLSRPTv1; rua=http://there.example/",
            "v=TLSRPTv1; rua=tls@there.example", "v=TLSRPTv1; rua=mailto:there.example", "v=TLSRPTv1; rua=mailto:",
            "v=TLSRPTv1; rua=mailto:a%0D%0AX@there.example", "v=TLSRPTv1; rua=mailto:a%00@there.example",
            "v=TLSRPTv1; rua=mailto:%C3%A4@there.example", "v=TLSRPTv1; rua=mailto:%ff@there.example",
            "v=TLSRPTv1; rua=mailto:ä@there.example", "v=TLSRPTv1; rua=https:there.example",
            f"v=TLSRPTv1; rua=https://there.example/{'x' * 500}", "v=TLSRPTv1; rua=https://there.example/a b",
            "v=TLSRPTv1; rua=,",
        ):  # fmt: skip
            self.assertEqual(places(record), [], record)

    def test_bounded(self) -> None:
        """A record with hundreds of places gets its first three."""
        record = "v=TLSRPTv1; rua=" + ",".join(f"mailto:t{number}@there.example" for number in range(300))
        self.assertEqual(places(record), [f"mailto:t{number}@there.example" for number in range(PLACES_MAX)])

    @given(st.lists(st.binary(max_size=100).map(b"v=TLSRPTv1;rua=".__add__) | st.binary(max_size=60), max_size=2))
    def test_anything(self, records: list[bytes]) -> None:
        """Whatever stands there: places that are printable ASCII, and addresses that are, or none."""
        for place in places_of(records):
            self.assertTrue(place.uri.isascii() and place.uri.isprintable())
            self.assertTrue(place.address is None or (place.address.is_ascii and str(place.address).isprintable()))
