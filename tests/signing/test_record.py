"""Tests of a key's record: as a zone file has it, and as name servers show it."""

from __future__ import annotations

import dns.rdatatype
import dns.zone
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.signing.making import Wish, made
from twisted_mail_node.signing.record import difference, owner, strings, zone_line

RSA = made("example.org", Wish("rsa", "r", 2048), 0.0)[0].record
ED25519 = made("example.org", Wish("ed25519", "e"), 0.0)[0].record


class RecordTest(SynchronousTestCase):
    """The TXT record."""

    def test_zone_file(self) -> None:
        """What is printed is understood by who reads zone files, and means the record; a long one in two strings."""
        for selector, record in (("r", RSA), ("e", ED25519)):
            line = zone_line(selector, "example.org", record)
            text = f"@ 60 IN SOA ns. post. 1 1 1 1 1\n@ 60 IN NS ns\n{line}\n"
            zone = dns.zone.from_text(text, "example.org.", relativize=False)
            (found,) = zone.find_rdataset(f"{owner(selector, 'example.org')}.", dns.rdatatype.TXT)
            self.assertEqual(b"".join(found.strings).decode(), record)
            self.assertTrue(all(len(one) <= 255 for one in found.strings))
        self.assertEqual(len(strings(RSA)), 2)
        self.assertNotIn("(", zone_line("e", "example.org", ED25519))

    def test_difference(self) -> None:
        """Our record is ours however it is spaced; everything else is told apart in words."""
        value = RSA.partition("p=")[2]
        spaced = f"v=DKIM1 ;k=rsa;\tp={value[:40]} {value[40:]} ;"
        other = made("example.org", Wish("ed25519", "o"), 0.0)[0].record
        for shown, words in (
            ([RSA.encode()], ""),
            ([spaced.encode()], ""),
            ([f"k=rsa; s=email; t=y; p={value}".encode()], ""),
            ([f"p={value}".encode()], ""),
            ([], "does not show it"),
            ([RSA.encode(), b"v=spf1 -all"], "2 TXT records"),
            ([other.encode()], "another key"),
            ([b"v=DKIM1; p="], "cannot be used: it says that the key was revoked"),
            ([b"v=spf1 -all"], "cannot be used"),
            ([b"\xff"], "cannot be used"),
            ([RSA[:-3].encode()], ""),
            ([f"v=DKIM1; h=sha1; p={value}".encode()], "not for sha256"),
            ([f"v=DKIM1; s=other; p={value}".encode()], "not for mail"),
        ):
            with self.subTest(shown=shown):
                found = difference(shown, RSA)
                if shown == [RSA[:-3].encode()]:
                    self.assertNotEqual(found, "")
                else:
                    self.assertTrue(found == words if not words else words in found, found)
        self.assertIn("another key", difference([RSA.encode()], ED25519))
