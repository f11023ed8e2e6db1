"""Tests of twisted_mail_node.smtp.proxy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.proxy import BLOCK_MAX, LINE_MAX, Header, ProxyError, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESSES_4 = bytes([192, 0, 2, 9, 198, 51, 100, 7]) + (40000).to_bytes(2, "big") + (25).to_bytes(2, "big")
ADDRESSES_6 = bytes.fromhex("20010db8" + "0" * 22 + "09" + "20010db8" + "0" * 22 + "07") + ADDRESSES_4[8:]
LINE = b"PROXY TCP4 192.0.2.9 198.51.100.7 40000 25\r\n"
BLOCK = SIGNATURE + b"\x21\x11\x00\x0c" + ADDRESSES_4


def block(command: int = 0x21, family: int = 0x11, body: bytes = ADDRESSES_4) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def value(kind: int, octets: bytes) -> bytes:
    """A TLV."""
    return bytes([kind]) + len(octets).to_bytes(2, "big") + octets


class Case(SynchronousTestCase):
    """Whole headers and cut ones."""

    def whole(self, octets: bytes) -> Header:
        """The header of octets, which must need all of them, whatever follows, and be asked for until the last."""
        header = parse(octets)
        assert header is not None, octets
        self.assertEqual(header.size, len(octets))
        for following in (b"EHLO client.example.net\r\n", b"\x16\x03\x01", b"\r\n", b"\n"):
            self.assertEqual(parse(octets + following), header)
        for cut in range(len(octets)):
            self.assertIsNone(parse(octets[:cut]), cut)
        return header

    def wrong(self, octets: bytes, words: str) -> None:
        """Octets are refused: when they are all there at the latest, and for ever after."""
        self.assertRaisesRegex(ProxyError, words, parse, octets)
        self.assertRaises(ProxyError, parse, octets + b"x" * BLOCK_MAX)


class LineTests(Case):
    """Version 1."""

    def test_addresses(self) -> None:
        """IPv4 and IPv6, in whatever spelling; an IPv4-mapped address is the IPv4 address."""
        self.assertEqual(self.whole(LINE), Header(len(LINE), "192.0.2.9", 40000, "198.51.100.7", 25))
        for text, client in (("2001:DB8:0:0::9", "2001:db8::9"), ("::ffff:192.0.2.9", "192.0.2.9"), ("::1", "::1")):
            header = self.whole(f"PROXY TCP6 {text} 2001:db8::7 0 65535\r\n".encode())
            self.assertEqual(header[1:5], (client, 0, "2001:db8::7", 65535))

    def test_unknown(self) -> None:
        """UNKNOWN says nothing of the client, whatever follows it on the line, up to the longest line there is."""
        longest = b"PROXY UNKNOWN ".ljust(LINE_MAX - 2, b"f") + b"\r\n"
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ff:ff x\r\n", longest):
            self.assertEqual(self.whole(line)[1:], ("", 0, "", 0, ""))

    def test_wrong(self) -> None:
        """Anything that is not exactly such a line."""
        for line, words in {
            "PROXY TCP5 192.0.2.9 198.51.100.7 1 2\r\n": "TCP4 or TCP6",
            "PROXY tcp4 192.0.2.9 198.51.100.7 1 2\r\n": "TCP4 or TCP6",
            "PROXY TCP4 192.0.2.9 198.51.100.7 1\r\n": "two ports",
            "PROXY TCP4 192.0.2.9 198.51.100.7 1 2 3\r\n": "two ports",
            "PROXY  TCP4 192.0.2.9 198.51.100.7 1 2\r\n": "two ports",
            "PROXY TCP4 192.0.2.9 198.51.100.7 1 2 \r\n": "two ports",
            "PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n": "no IPv4 address",
            "PROXY TCP4 192.0.02.9 198.51.100.7 1 2\r\n": "no IPv4 address",
            "PROXY TCP4 2001:db8::1 198.51.100.7 1 2\r\n": "no IPv4 address",
            "PROXY TCP6 192.0.2.9 2001:db8::1 1 2\r\n": "no IPv6 address",
            "PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n": "no IPv6 address",
            "PROXY TCP4 localhost 198.51.100.7 1 2\r\n": "no IPv4 address",
            "PROXY TCP4 192.0.2.9 198.51.100.7 01 2\r\n": "no port",
            "PROXY TCP4 192.0.2.9 198.51.100.7 1 65536\r\n": "no port",
            "PROXY TCP4 192.0.2.9 198.51.100.7 -1 2\r\n": "no port",
            "PROXY TCP4 192.0.2.9 198.51.100.7 ٣ 2\r\n": "ASCII",
            "PROXY TCP4 192.0.2.9 198.51.100.7 1 2\n": "CR LF",
            "PROXY TCP4 192.0.2.9 198.51.100.7 1 2\rx": "CR LF",
            "PROXY UNKNOWN\nEHLO x\r\n": "CR LF",
            "PROXY UNKNOWN \rx\r\n": "CR LF",
            "PROXY \r\n": "TCP4 or TCP6",
        }.items():
            with self.subTest(line=line):
                self.wrong(line.encode(), words)

    def test_length(self) -> None:
        """107 octets without an end are too many; the 108th is not waited for."""
        without = b"PROXY UNKNOWN ".ljust(LINE_MAX, b"f")
        self.assertIsNone(parse(without[:-1]))
        self.wrong(without, "at most 107")
        self.wrong(without[:-1] + b"\r\n", "at most 107|CR LF")


class BlockTests(Case):
    """Version 2."""

    def test_addresses(self) -> None:
        """IPv4 and IPv6 in octets; an IPv4-mapped address is the IPv4 address."""
        self.assertEqual(self.whole(BLOCK), Header(28, "192.0.2.9", 40000, "198.51.100.7", 25))
        self.assertEqual(
            self.whole(block(family=0x21, body=ADDRESSES_6)), Header(52, "2001:db8::9", 40000, "2001:db8::7", 25)
        )
        mapped = b"\0" * 10 + b"\xff\xff" + ADDRESSES_4[:4]
        self.assertEqual(self.whole(block(family=0x21, body=mapped + ADDRESSES_6[16:])).client, "192.0.2.9")

    def test_nobody(self) -> None:
        """LOCAL with anything behind it, and an unspecified family, leave the peer's own address."""
        for octets in (block(0x20, 0x00, b""), block(0x20, 0x11), block(0x20, 0x31, b"x" * 216), block(0x21, 0x00, b""),
                       block(0x21, 0x00, b"anything"), block(0x20, 0xFF, b"\x04\xff")):  # fmt: skip
            self.assertEqual(self.whole(octets)[1:], ("", 0, "", 0, ""))

    def test_values(self) -> None:
        """TLVs are passed over, up to the bound; the balancer's TLS is told."""
        for values in (value(4, b""), value(1, b"smtp") + value(2, b"mx.example.org"), value(4, b"\0" * 4081)):
            self.assertEqual(self.whole(block(body=ADDRESSES_4 + values)).client, "192.0.2.9")
        parts = value(0x21, b"TLSv1.3") + value(0x23, b"TLS_AES_256_GCM_SHA384") + value(0x22, b"joe")
        for flags, told in ((1, "TLSv1.3 with TLS_AES_256_GCM_SHA384"), (7, "TLSv1.3 with TLS_AES_256_GCM_SHA384"),
                            (0, ""), (6, "")):  # fmt: skip
            tls = value(0x20, bytes([flags, 0, 0, 0, 0]) + parts)
            self.assertEqual(self.whole(block(body=ADDRESSES_4 + tls)).tls, told)
        evil = value(0x20, b"\x01\0\0\0\0" + value(0x21, b"TLSv1.3\r\nX: y") + value(0x23, b"\x1b[2J"))
        self.assertEqual(self.whole(block(body=ADDRESSES_4 + evil)).tls, "")
        self.assertEqual(self.whole(block(body=ADDRESSES_4 + value(0x20, b"\x01\0"))).tls, "")

    def test_wrong(self) -> None:
        """Other versions, commands and families, and lengths that do not fit."""
        for octets, words in (
            (block(0x11), "unknown version"),
            (block(0x31), "unknown version"),
            (block(0x22), "unknown command"),
            (block(family=0x31, body=b"x" * 216), "unix socket"),
            (block(family=0x32, body=b"x" * 216), "unix socket"),
            (block(family=0x12), "datagrams"),
            (block(family=0x22, body=ADDRESSES_6), "datagrams"),
            (block(family=0x41), "something else"),
            (block(family=0x10), "something else"),
            (block(body=ADDRESSES_4[:-1]), "too short"),
            (block(family=0x21, body=ADDRESSES_6[:-1]), "too short"),
            (block(family=0x21), "too short"),
            (block(body=ADDRESSES_4 + b"\x04"), "longer than the header"),
            (block(body=ADDRESSES_4 + b"\x04\x00\x01"), "longer than the header"),
            (block(body=ADDRESSES_4 + value(0x20, b"\x01\0\0\0\0\x21\x00\x09x")), "longer than the header"),
            (SIGNATURE + b"\x21\x11\x10\x01", "4096"),
            (SIGNATURE + b"\x20\x00\xff\xff", "4096"),
        ):
            with self.subTest(octets=octets[:20]):
                self.wrong(octets, words)

    def test_other_octets(self) -> None:
        """What begins otherwise is refused with the first octet that does not fit."""
        for octets in (b"EHLO x\r\n", b"\x16\x03\x01", b"PROXX", b"proxy ", b" ", b"\r\n\r\nx", SIGNATURE[:-1] + b"\r"):
            self.assertRaisesRegex(ProxyError, "does not begin", parse, octets)
            for cut in range(len(octets)):
                try:
                    self.assertIsNone(parse(octets[:cut]))
                except ProxyError:
                    break


class AnyTests(SynchronousTestCase):
    """Whatever comes."""

    @given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"]), st.binary())
    def test_octets(self, begin: bytes, rest: bytes) -> None:
        """A header within the octets, the wish for more, or ProxyError; and never another answer with more octets."""
        octets = begin + rest
        try:
            header = parse(octets)
        except ProxyError:
            return
        if header is not None:
            self.assertLessEqual(header.size, len(octets))
            self.assertEqual(parse(octets + b"more"), header)
            self.assertIsNone(parse(octets[: header.size - 1]))
        else:
            self.assertLess(len(octets), 16 + BLOCK_MAX)

    @given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535))
    def test_round(self, client: object, server: object, port: int, server_port: int) -> None:
        """What a balancer writes is what is read."""
        kind = 6 if ":" in str(client) + str(server) else 4
        first, second = (f"::ffff:{one}" if kind == 6 and ":" not in str(one) else str(one) for one in (client, server))
        header = parse(f"PROXY TCP{kind} {first} {second} {port} {server_port}\r\n".encode())
        assert header is not None
        mapped = [getattr(one, "ipv4_mapped", None) or one for one in (client, server)]
        self.assertEqual(header[1:5], (str(mapped[0]), port, str(mapped[1]), server_port))
