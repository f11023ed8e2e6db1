"""Mail goes from server to server over TLS as the route asks for it: real connections, certificates of every kind."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.interop.between import Between, Change, inject, strip_starttls
from tests.interop.mails import SECRET, letter
from tests.interop.node import Node, NodeTest, free_port, wait_for
from tests.interop.postfix import Postfix
from tests.interop.wire import Client, send
from tests.interop.zone import NameServer
from tests.net.authority import Authority

AUTHORITY = Authority()
LEVELS = ("none", "opportunistic", "required", "verified")
#: Hosts by what is wrong with them, and how A tells it. There is one node behind all of them.
HOSTS = {
    "good": "",
    "own": "the certificate is self-signed",
    "wrong": "it is for good.there.test, mx.there.test, not wrong.there.test",
    "late": "it expired on ",
    "stranger": "who signed it is not known here",
    "plain": "offers no STARTTLS",
}


class There(Node):
    """The next hop: a certificate of each kind, chosen by SNI, and a listener without TLS. Everything is for demo."""

    def __init__(self) -> None:
        self.plain_port = free_port()
        domains = "".join(
            f'[[domain]]\nname = "{host}-{level}.test"\ncatch_all = "demo@there.test"\n'
            for host in (*HOSTS, "tapped", "injected")
            for level in LEVELS
        )
        listener = f'[[listener]]\nkind = "mx"\nendpoint = "tcp:{self.plain_port}:interface=127.0.0.1"\ntls = "none"\n'
        super().__init__(domain="there.test", tables=listener + domains)
        tls = self.state / "tls"
        AUTHORITY.issue("good.there.test", "mx.there.test", "127.0.0.1").put(tls / "good.pem")
        AUTHORITY.issue("own.there.test", self_signed=True).put(tls / "own.pem")
        yesterday = datetime.now(UTC) - timedelta(days=1)
        AUTHORITY.issue("late.there.test", expires=yesterday).put(tls / "late.pem")
        Authority("Another one").issue("stranger.there.test").put(tls / "stranger.pem")


def here(routes: list[tuple[str, str, str]], more: str = "", top: str = "") -> Node:
    """A node that relays for this machine. :param routes: domain, next hop, level."""
    node = Node(top='relay_from = ["127.0.0.0/8"]' + top)
    root = AUTHORITY.put(node.place / "root.pem")
    tables = "".join(
        f'[[route]]\ndomain = "{domain}"\nnext_hop = "{hop}"\ntls = "{level}"\n' for domain, hop, level in routes
    )
    node.write(top='relay_from = ["127.0.0.0/8"]' + top, tables=f'[tls]\ntrusted = "{root}"\n{tables}{more}')
    return node


class LevelsTest(NodeTest):
    """Every level of a route with every kind of host."""

    def setUp(self) -> None:
        (there,) = self.shared(lambda: (There(),))
        assert isinstance(there, There)
        self.there = there

    def here(self, routes: list[tuple[str, str, str]], more: str = "") -> Node:
        """Start A."""
        node = here(routes, more)
        self.addCleanup(node.close)
        return node.start()

    def between(self, port: int, change: Change = bytes) -> Between:
        """Somebody on the line."""
        between = Between(port, change)
        self.addCleanup(between.close)
        return between

    def relayed(self, node: Node, queue_id: str) -> tuple[str, str, bytes]:
        """What TLS came to: as A tells it, as B tells it, and the Received field of B."""
        event = node.wait_event("recipient-relayed", queue_id=queue_id)
        mail = self.there.wait_mail("demo", having=b" id " + queue_id.encode())
        received = re.sub(rb"\n[ \t]+", b" ", mail).partition(b"Received: ")[2].partition(b"\n")[0]
        b_id = received.partition(b" id ")[2].split()[0].decode()
        accepted = self.there.wait_event("mail-accepted", queue_id=b_id)
        return event["tls"], accepted["tls"], received

    def delayed(self, node: Node, queue_id: str) -> dict[str, Any]:
        """The mail waits, because of TLS, and the operator reads why and what to do."""
        event = node.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual((event["reason"], event["status"][0]), ("tls-failed", "4"))
        shown = " ".join(node.command("queue", "show", queue_id).split())
        self.assertIn(event["words"], shown)
        self.assertRegex(
            event["words"], r'the route to \S+ asks for tls = "\w+"; tell its postmaster, or let the route'
        )
        return event

    def test_levels(self) -> None:
        """What goes, over what, and what waits, and why: 4 levels, 6 kinds of hosts."""
        tap = self.between(self.there.plain_port)
        ports = dict.fromkeys(HOSTS, self.there.port) | {"plain": self.there.plain_port}
        routes = []
        for host in HOSTS:
            for level in LEVELS:
                port = tap.port if host == "plain" and level in ("required", "verified") else ports[host]
                routes.append((f"{host}-{level}.test", f"[{host}.there.test]:{port}", level))
        zone = {f"{host}.there.test": {"A": ["127.0.0.1"]} for host in HOSTS}
        with NameServer(zone) as names:
            node = self.here(routes, f'[resolver]\nservers = ["127.0.0.1:{names.port}"]\n')
            ids = {
                (host, level): send(node.port, letter(f"{host} {level}"), [f"x@{host}-{level}.test"])
                for host in HOSTS
                for level in LEVELS
            }
            for (host, level), queue_id in ids.items():
                with self.subTest(host=host, level=level):
                    if (level == "verified" and host != "good") or (level == "required" and host == "plain"):
                        event = self.delayed(node, queue_id)
                        self.assertIn(HOSTS[host], event["words"])
                        self.assertIn(f"{host}.there.test", event["words"])
                        self.assertIn(f'tls = "{level}"', event["words"])
                        continue
                    ours, theirs, received = self.relayed(node, queue_id)
                    if host == "plain" or level == "none":
                        self.assertEqual((ours, theirs), ("", ""))
                        self.assertIn(b" with ESMTP id ", received)
                        continue
                    self.assertRegex(theirs, r"^TLSv1\.3 with TLS_\w+(, resumed)?$")
                    self.assertIn(f" with ESMTPS ({theirs}) id ".encode(), received)
                    wanted = f"{theirs}, verified" if host == "good" else f"{theirs}, not verified: {HOSTS[host]}"
                    self.assertTrue(ours.startswith(wanted), ours)
            self.assertEqual(node.stop(), 0)
        said = [line for line in tap.said.split(b"\r\n") if line]
        self.assertTrue(said)
        self.assertEqual({line.split()[0] for line in said}, {b"EHLO", b"QUIT"})
        self.assertFalse([m for m in self.there.mails("demo") if b"Subject: plain required" in m])

    def test_stripped(self) -> None:
        """Somebody takes STARTTLS out of the offer: ``required`` and ``verified`` wait, and say nothing of the mail."""
        self.attacked(strip_starttls, "tapped", r"\[127\.0\.0\.1\]|127\.0\.0\.1 offers no STARTTLS")

    def test_injected(self) -> None:
        """Somebody adds an answer to the 220 of STARTTLS: it is not taken for the host's, and nothing is said."""
        self.attacked(inject, "injected", "octets came behind its reply to STARTTLS")

    def attacked(self, change: Change, name: str, words: str) -> None:
        """Nothing of the mail passes over the line where TLS is required."""
        between = self.between(self.there.port, change)
        hop = f"[127.0.0.1]:{between.port}"
        node = self.here([(f"{name}-{level}.test", hop, level) for level in ("required", "verified")])
        for level in ("required", "verified"):
            queue_id = send(node.port, letter(f"{name} {level}"), [f"x@{name}-{level}.test"])
            self.assertRegex(self.delayed(node, queue_id)["words"], words)
        for octets in (b"MAIL", b"RCPT", b"@", b"ubject", SECRET):
            self.assertNotIn(octets, between.said)
        self.assertIn(b"EHLO mx.here.test", between.said)
        self.assertEqual(node.stop(), 0)

    def test_sealed(self) -> None:
        """Somebody who listens hears EHLO and STARTTLS, and from there on nothing that can be read."""
        between = self.between(self.there.port)
        node = self.here([("good-verified.test", f"[127.0.0.1]:{between.port}", "verified")])
        queue_id = send(node.port, letter("sealed"), ["x@good-verified.test"])
        self.relayed(node, queue_id)
        self.assertTrue(between.said.startswith(b"EHLO mx.here.test\r\nSTARTTLS\r\n\x16\x03"), between.said[:80])
        for octets in (b"MAIL FROM", b"RCPT TO", b"@good", b"sealed", SECRET):
            self.assertNotIn(octets, between.said)

    def test_injected_into_ours(self) -> None:
        """A client whose STARTTLS came with more behind it is sent away: whose words those are cannot be told."""
        with Client(self.there.port) as client:
            client.send(b"STARTTLS\r\nMAIL FROM:<thief@client.test>\r\n")
            self.assertTrue(client.reply().startswith("421 4.7.0"))
            self.assertEqual(client.reply(), "")


class PostfixTest(NodeTest):
    """TLS with Postfix, both ways."""

    def both(self, settings: str, level: str) -> tuple[Node, Postfix]:
        """A node, and a Postfix with these settings; each relays to the other."""
        node = here([])
        self.addCleanup(node.close)
        issued = AUTHORITY.issue("mx.local.test", "127.0.0.1")
        postfix = Postfix(f"smtpd_tls_received_header = yes\nsmtp_tls_loglevel = 1\n{settings}", issued, node.port)
        self.addCleanup(postfix.end)
        postfix.begin()
        local = (
            '[[domain]]\nname = "remote.test"\n[[alias]]\naddress = "u@remote.test"\nto = ["demo@here.test"]\n'
            f'[[route]]\ndomain = "local.test"\nnext_hop = "[127.0.0.1]:{postfix.port}"\ntls = "{level}"\n'
        )
        node.write(top='relay_from = ["127.0.0.0/8"]', tables=f'[tls]\ntrusted = "{node.place}/root.pem"\n{local}')
        return node.start(), postfix

    def to_postfix(self, node: Node, postfix: Postfix) -> None:
        """Our node brings a mail to Postfix, and both say that it was over TLS."""
        queue_id = send(node.port, letter("to Postfix"), ["u@local.test"])
        event = node.wait_event("recipient-relayed", queue_id=queue_id)
        self.assertRegex(event["tls"], r"^TLSv1\.3 with TLS_\w+, verified$")
        (mail,) = wait_for(postfix.mails, "a mail at Postfix")
        self.assertIn(b"(using TLSv1.3 with cipher ", mail)
        self.assertIn(b"with ESMTPS id ", mail)
        self.assertIn(SECRET, mail)

    def from_postfix(self, node: Node, postfix: Postfix) -> None:
        """Postfix brings a mail to our node, and both say that it was over TLS."""
        with Client(postfix.port) as client:
            client.open(["u@remote.test"])
            self.assertTrue(client.data(letter("from Postfix")).startswith("250 "))
        try:
            mail = node.wait_mail("demo", having=SECRET)
        except AssertionError:
            raise AssertionError(postfix.queue() + postfix.log()) from None
        accepted = node.wait_event("mail-accepted", helo="mx.local.test")
        self.assertRegex(accepted["tls"], r"^TLSv1\.3 with TLS_\w+$")
        self.assertIn(f"with ESMTPS ({accepted['tls']}) id".encode(), re.sub(rb"\n[ \t]+", b" ", mail))
        self.assertIn("TLS connection established to 127.0.0.1", postfix.log())

    def test_may(self) -> None:
        """Postfix offers TLS, and sends nothing without: ``opportunistic`` takes it, and both ways are secured."""
        node, postfix = self.both(
            "smtpd_tls_security_level = may\nsmtp_tls_security_level = encrypt\n", "opportunistic"
        )
        self.to_postfix(node, postfix)
        self.from_postfix(node, postfix)
        self.assertEqual(node.stop(), 0)

    def test_encrypt(self) -> None:
        """Postfix that takes no mail without TLS gets it by ``verified``."""
        node, postfix = self.both("smtpd_tls_security_level = encrypt\n", "verified")
        with Client(postfix.port) as client:
            self.assertTrue(client.ask("MAIL FROM:<x@client.test>").startswith("530 "))
        self.to_postfix(node, postfix)
        self.assertEqual(node.stop(), 0)
