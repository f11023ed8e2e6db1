"""Mail goes to the mail exchangers that the DNS names: real questions, a real name server, real connections."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

from tests.interop.node import Node, NodeTest
from tests.interop.wire import ScriptedServer, send
from tests.interop.zone import NameServer

CONTENT = b"From: <joe@here.test>\r\nSubject: by MX\r\n\r\nHello\r\n"


class ExchangerTest(NodeTest):
    """A node that relays by MX."""

    def relay(self, names: NameServer, port: int, tables: str = "") -> Node:
        """A node that asks this name server, and connects to this port instead of 25."""
        routes = "".join(
            f'[[route]]\ndomain = "{domain}"\nnext_hop = "{domain}:{port}"\n'
            for domain in ("two.test", "host.test", "null.test", "none.test", "loop.test", "seven.test", "down.test")
        )
        settings = (
            f'[resolver]\nservers = ["127.0.0.1:{names.port}"]\ntimeout = 1\n'
            "[queue]\nloopback_exchangers = true\nconnect_time = 2\n"
        )
        return self.node(top='relay_from = ["127.0.0.0/8"]', tables=settings + routes + tables).start()

    def failure(self, node: Node, having: bytes) -> tuple[Message, str]:
        """The DSN that came: its machine part for the recipient, and all its text."""
        octets = node.wait_mail("joe", having=having)
        report = message_from_bytes(octets)
        self.assertEqual(report.get_content_type(), "multipart/report")
        parts = report.get_payload()
        assert isinstance(parts, list)
        machine = parts[1]
        assert isinstance(machine, Message)
        fields = machine.get_payload()
        assert isinstance(fields, list)
        recipient = fields[1]
        assert isinstance(recipient, Message)
        self.assertEqual(recipient["Action"], "failed")
        return recipient, octets.decode()

    def test_order(self) -> None:
        """The lowest preference is tried first; where nobody answers, the next takes it (RFC 5321 section 5.1)."""
        zone = {
            "two.test": {"MX": ["10 dead.two.test.", "20 live.two.test."]},
            "dead.two.test": {"A": ["127.0.0.9"]},
            "live.two.test": {"A": ["127.0.0.1"]},
        }
        there = self.node(domain="two.test").start()
        with NameServer(zone) as names:
            here = self.relay(names, there.port)
            queue_id = send(here.port, CONTENT, ["demo@two.test"], sender="joe@here.test")
            relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
            failed = here.wait_event("attempt-failed")
        self.assertEqual((relayed["host"], failed["host"]), ("live.two.test", "dead.two.test"))
        self.assertEqual(failed["reason"], "connect-failed")
        self.assertIn(b"Subject: by MX", there.wait_mail("demo"))

    def test_implicit(self) -> None:
        """A domain without MX is its own exchanger."""
        there = self.node(domain="host.test").start()
        with NameServer({"host.test": {"A": ["127.0.0.1"]}}) as names:
            here = self.relay(names, there.port)
            send(here.port, CONTENT, ["demo@host.test"], sender="joe@here.test")
            self.assertIn(b"Subject: by MX", there.wait_mail("demo"))

    def test_null_mx(self) -> None:
        """A null MX is a failure at once, 5.1.10, and the sender is told why (RFC 7505)."""
        with NameServer({"null.test": {"MX": ["0 ."]}}) as names:
            here = self.relay(names, 1)
            send(here.port, CONTENT, ["demo@null.test"], sender="joe@here.test")
            recipient, _ = self.failure(here, b"null.test")
        self.assertEqual(recipient["Status"], "5.1.10")

    def test_no_such_domain(self) -> None:
        """A domain that does not exist is a failure at once, 5.1.2."""
        with NameServer({}) as names:
            here = self.relay(names, 1)
            send(here.port, CONTENT, ["demo@none.test"], sender="joe@here.test")
            recipient, _ = self.failure(here, b"none.test")
        self.assertEqual(recipient["Status"], "5.1.2")

    def test_ourselves(self) -> None:
        """An exchanger that is us is never connected to: the mail would come back (5.4.6)."""
        with NameServer({"loop.test": {"MX": ["10 mx.here.test."]}, "mx.here.test": {"A": ["127.0.0.1"]}}) as names:
            here = self.relay(names, 1)
            here.wait_event("node-started")
            hostname = here.events("node-started")[0]["hostname"]
            names._zone["loop.test"] = {"MX": [f"10 {hostname}."]}
            names._zone[hostname] = {"A": ["127.0.0.1"]}
            send(here.port, CONTENT, ["demo@loop.test"], sender="joe@here.test")
            recipient, _ = self.failure(here, b"loop.test")
        self.assertEqual(recipient["Status"], "5.4.6")

    def test_eight_bit(self) -> None:
        """8-bit content is not sent to a host without 8BITMIME: a DSN with 5.6.3, and not one octet of the content."""
        there = ScriptedServer({"EHLO": "250 plain.test"})
        self.addCleanup(there.close)
        with NameServer({"seven.test": {"A": ["127.0.0.1"]}}) as names:
            here = self.relay(names, there.port)
            content = CONTENT + "Grüße\r\n".encode()
            send(here.port, content, ["demo@seven.test"], sender="joe@here.test", parameters=" BODY=8BITMIME")
            recipient, _ = self.failure(here, b"seven.test")
        self.assertEqual(recipient["Status"], "5.6.3")

    def test_no_answer(self) -> None:
        """While the name server is silent the mail is delayed, and says so; nothing bounces."""
        with NameServer({}) as names:
            port = names.port
            names._answer = lambda octets: b"?"  # type: ignore[method-assign]
            here = self.relay(names, 1)
            send(here.port, CONTENT, ["demo@down.test"], sender="joe@here.test")
            delayed = here.wait_event("recipient-delayed")
        self.assertEqual(delayed["reason"], "dns-failed")
        self.assertIn("down.test", delayed["words"])
        self.assertIn(f"127.0.0.1:{port}", delayed["words"])
        [mail] = here.queue()
        self.assertEqual(mail["recipients"][0]["state"], "delayed")
