"""Attacks by who somebody says to be (T27, T28): encoded-words in addresses, and the open relay."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_mail_node
from tests.attacks.wire import Sender, in_any_packets
from tests.inbound.receiving import DictDirectory, TestReceiver
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.events import RecipientRefused
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, Domain, Settings

#: Forward-paths that lead elsewhere, or would on a server that understands them in its own way.
ELSEWHERE = {
    "<x@elsewhere.example>": 550,
    "<X@ELSEWHERE.EXAMPLE>": 550,
    "<x%elsewhere.example@example.org>": 550,
    "<x@elsewhere.example@example.org>": 501,
    "<example.org!x@elsewhere.example>": 550,
    "<elsewhere.example!x@example.org>": 550,
    '<"x@elsewhere.example"@example.org>': 550,
    '<"x@elsewhere.example">': 501,
    '<"x%elsewhere.example"@example.org>': 550,
    "<@example.org:x@elsewhere.example>": 550,
    "<@example.org,@mx.example.org:x@elsewhere.example>": 550,
    "<@elsewhere.example:x@example.org>": 550,
    "<x@[192.0.2.200]>": 550,
    "<x@[127.0.0.1]>": 550,
    "<x@[IPv6:::1]>": 550,
    "<x@127.0.0.1>": 550,
    "<x@localhost>": 550,
    "<x@example.org.elsewhere.example>": 550,
    "<x@elsewhere.example.>": 501,
    "<joe@example.org.>": 501,
    "<x@sub.example.org>": 550,
    "<joe@example.org@>": 501,
    "<joe@example.org\x00@elsewhere.example>": 501,
    "<x@elsewhere.example >": 501,
    "<joe@example.org,x@elsewhere.example>": 501,
    "<joe@example.org> <x@elsewhere.example>": 501,
    "<joe@example.org>x@elsewhere.example": 501,
    "x@elsewhere.example": 501,
    "<joe@exam\u00adple.org.elsewhere.example>": 553,
    "<x@>": 501,
    "<x>": 501,
    "<postmaster@elsewhere.example>": 550,
    "<abuse>": 501,
    "<@example.org:postmaster>": 501,
}
#: Clients that are no better than any other.
CLIENTS = ("192.0.2.9", "127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "2001:db8::1", "0.0.0.0")


class OpenRelayTests(SynchronousTestCase):
    """T28: mail for others, from those who may not."""

    def test_every_form(self) -> None:
        """No form of a path, from no client, with no reverse-path, is relayed; nothing is executed or kept."""
        for client in CLIENTS:
            for sender in ("<>", "<joe@example.org>", "<x@elsewhere.example>", "<postmaster@example.org>"):
                receiver = TestReceiver(errors=1000, relay_from=["198.51.100.0/24"])
                peer = receiver.session(f"MAIL FROM:{sender}", client=client)
                for path, code in ELSEWHERE.items():
                    self.assertEqual(peer.say(f"RCPT TO:{path}")[:3], str(code), (path, client, sender))
                self.assertTrue(peer.say("DATA").startswith("554 5.5.1"))
                self.assertEqual(receiver.queue.begun, [])
                reasons = {event.reason for event in receiver.of(RecipientRefused)}
                self.assertLessEqual(reasons, {Reason.RELAY_DENIED, Reason.UNKNOWN_RECIPIENT})

    def test_smtputf8(self) -> None:
        """With SMTPUTF8: look-alikes and other spellings of domains are what they are in A-labels."""
        receiver = TestReceiver(errors=1000)
        peer = receiver.session("MAIL FROM:<> SMTPUTF8")
        table = {
            "<joe@bücher.example>": "250",
            "<joe@BÜCHER.example>": "250",
            "<joe@bu\u0308cher.example>": "250",  # the same letter in two code points
            "<joe@b\u00fccher.example.elsewhere.example>": "550",
            "<joe@ex\u0430mple.org>": "550",  # a Cyrillic letter
            "<x@elsewhere\u3002example>": "550",  # an ideographic full stop
            "<joe@example\u2024org>": "550",
        }
        for path, code in table.items():
            self.assertEqual(peer.say(f"RCPT TO:{path}")[:3], code, path)

    def test_relay_from(self) -> None:
        """Who may relay is decided by the network alone: not by HELO, reverse-path or a name that looks like ours."""
        for client, code in (("198.51.100.7", "250"), ("198.51.101.7", "550"), ("::ffff:198.51.100.7", "250")):
            receiver = TestReceiver(relay_from=["198.51.100.0/24"])
            peer = receiver.connect(client)
            peer.say("EHLO [198.51.100.7]", "MAIL FROM:<joe@example.org>")
            self.assertEqual(peer.say("RCPT TO:<x@elsewhere.example>")[:3], code, client)

    def test_real_directory(self) -> None:
        """The same with the node's own directory, with a catch-all and subaddresses, where ``x`` is somebody."""
        directory = Directory(
            Settings(
                hostname="mx.example.org",
                state_dir=Path(self.mktemp()).absolute(),
                domains=(
                    Domain(name="example.org", catch_all=Address("joe", "example.org"), subaddress_separator="+"),
                ),
                accounts=(Account(address=Address("joe", "example.org")),),
            )
        )
        receiver = TestReceiver(directory=directory, errors=1000)
        peer = receiver.session("MAIL FROM:<>")
        for path in ELSEWHERE:
            peer.say(f"RCPT TO:{path}")
        peer.say("DATA", "", ".")
        for mail in receiver.queue.mails:
            self.assertEqual(mail.recipients, ["joe@example.org"])

    @in_any_packets
    def test_no_licence_by_rset(self, sender: Sender) -> None:
        """A recipient that was taken opens no door for the next transaction."""
        receiver = TestReceiver()
        octets = (
            b"MAIL FROM:<>\r\nRCPT TO:<joe@example.org>\r\nRSET\r\n"
            b"MAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n"
        )
        peer = sender.session(receiver)
        self.assertEqual(sender.send(peer, octets), [250, 250, 250, 250, 550, 554])
        self.assertEqual(receiver.queue.begun, [])


class EncodedWordTests(SynchronousTestCase):
    """T27: an encoded-word in a local-part, and addresses read by the standard library."""

    WORDS = (
        "=?utf-8?q?joe?=",
        "=?utf-8?b?am9l?=",
        "=?x?q?joe=40example.org=3e=00?=",
        "=?iso-8859-1?q?x=40elsewhere.example?=",
    )

    def test_never_decoded(self) -> None:
        """It is the local-part it is: nobody's, or that of who has it to the letter."""
        for word in self.WORDS:
            peer = TestReceiver().session("MAIL FROM:<>")
            self.assertTrue(peer.say(f"RCPT TO:<{word}@example.org>").startswith("550 5.1.1"), word)
            receiver = TestReceiver(directory=DictDirectory({f"{word}@example.org": (f"{word}@example.org",)}))
            peer = receiver.session(f"MAIL FROM:<{word}@elsewhere.example>", f"RCPT TO:<{word}@example.org>", "DATA")
            peer.say("", ".")
            (mail,) = receiver.queue.mails
            self.assertEqual(mail.recipients, [f"{word}@example.org"])
            self.assertEqual(mail.envelope.reverse_path, Address(word, "elsewhere.example"))
            self.assertIn(f"for <{word}@example.org>".encode(), mail.header)

    def test_no_library(self) -> None:
        """No module of the node reads an address or a header with the standard library's ``email`` package."""
        readers = {"parseaddr", "getaddresses", "decode_header", "message_from_bytes", "message_from_string",
                   "BytesParser", "Parser", "BytesFeedParser", "FeedParser", "collapse_rfc2231_value"}  # fmt: skip
        wrong = []
        for path in sorted(Path(twisted_mail_node.__file__).parent.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "email":
                    wrong += [(path.name, alias.name) for alias in node.names if alias.name in readers]
                if isinstance(node, ast.Attribute) and node.attr in readers:
                    wrong.append((path.name, node.attr))
        self.assertEqual(wrong, [])
