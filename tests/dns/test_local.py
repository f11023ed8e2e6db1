"""Tests of ``twisted_mail_node.dns.local``."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.dns.local import WatchedFile, local_answer, read_hosts, read_resolv_conf
from twisted_mail_node.dns.transport import Server
from twisted_mail_node.dns.wire import Question


class ResolvConfTests(SynchronousTestCase):
    def test_servers(self) -> None:
        """The nameserver lines count, in their order; comments, other lines and wrong addresses do not."""
        text = "# nameserver 192.0.2.9\nsearch x\nnameserver 192.0.2.1\nnameserver\t2001:DB8::1 x\nnameserver me\n"
        self.assertEqual(read_resolv_conf(text), (Server("192.0.2.1", 53), Server("2001:db8::1", 53)))

    def test_empty(self) -> None:
        """Without a server, this machine's own is asked, as resolv.conf(5) says."""
        self.assertEqual(read_resolv_conf("options edns0\n"), (Server("127.0.0.1", 53),))

    def test_many(self) -> None:
        """No more than eight are taken."""
        self.assertEqual(len(read_resolv_conf("nameserver 192.0.2.1\n" * 100)), 8)


class HostsTests(SynchronousTestCase):
    hosts = read_hosts(
        "192.0.2.1 Mail.lan mail # a comment\n2001:db8::1 mail.lan\n192.0.2.2 mail.lan\nrubbish x\n192.0.2.3\n"
    )

    def test_addresses(self) -> None:
        """A and AAAA of a name in the file come from the file; an absent family is empty."""
        self.assertEqual(
            local_answer(Question("mail.lan", "A"), self.hosts),
            Answer(("192.0.2.1", "192.0.2.2"), True, False, "mail.lan", 5),
        )
        self.assertEqual(
            local_answer(Question("mail.lan", "AAAA"), self.hosts), Answer(("2001:db8::1",), True, False, "mail.lan", 5)
        )
        self.assertEqual(local_answer(Question("mail", "AAAA"), self.hosts), Answer((), True, False, "mail", 5))

    def test_others_go_to_the_dns(self) -> None:
        """Other names, and other types of a name in the file, are asked in the DNS."""
        self.assertIdentical(local_answer(Question("x", "A"), self.hosts), None)
        self.assertIdentical(local_answer(Question("mail.lan", "MX"), self.hosts), None)

    def test_localhost(self) -> None:
        """localhost is this machine, whatever the DNS says, and has nothing but addresses (RFC 6761)."""
        self.assertEqual(
            local_answer(Question("localhost", "A"), {}), Answer(("127.0.0.1",), True, False, "localhost", 5)
        )
        self.assertEqual(
            local_answer(Question("a.localhost", "AAAA"), {}), Answer(("::1",), True, False, "a.localhost", 5)
        )
        self.assertEqual(local_answer(Question("localhost", "MX"), {}), Answer((), True, False, "localhost", 5))


class WatchedFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.clock = Clock()
        self.read: list[str] = []

    def watched(self) -> WatchedFile[str]:
        def read(text: str) -> str:
            self.read.append(text)
            return text

        return WatchedFile(self.path, read, self.clock)

    def write(self, text: str) -> None:
        with open(self.path + ".new", "w") as file:
            file.write(text)
        os.replace(self.path + ".new", self.path)

    def test_changes(self) -> None:
        """A changed file is seen after five seconds; an unchanged one is not read again."""
        self.write("one")
        watched = self.watched()
        self.assertEqual(watched.value(), "one")
        self.write("three")
        self.assertEqual(watched.value(), "one")
        self.clock.advance(5)
        self.assertEqual(watched.value(), "three")
        self.clock.advance(5)
        self.assertEqual(watched.value(), "three")
        self.assertEqual(self.read, ["", "one", "three"])

    def test_missing(self) -> None:
        """A missing file is an empty one, until it appears; one that disappears is empty again."""
        watched = self.watched()
        self.assertEqual(watched.value(), "")
        self.write("here")
        self.clock.advance(5)
        self.assertEqual(watched.value(), "here")
        os.remove(self.path)
        self.clock.advance(5)
        self.assertEqual(watched.value(), "")

    def test_too_large(self) -> None:
        """A huge file is not read; it would hold the node up."""
        self.write("x" * 300000)
        self.assertEqual(self.watched().value(), "")

    def test_unreadable(self) -> None:
        """What is no file leaves what was known."""
        self.write("one")
        watched = self.watched()
        watched.value()
        os.remove(self.path)
        os.mkdir(self.path)
        self.clock.advance(5)
        self.assertEqual(watched.value(), "one")
