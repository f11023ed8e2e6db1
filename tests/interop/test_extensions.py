"""What a sender who signed in asks for with MAIL: to be held back, in time, before others, over TLS only."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple, cast

from aiosmtpd.controller import Controller

from tests.interop.between import Between
from tests.interop.node import Node, NodeTest, free_port, wait_for
from tests.interop.secure import PASSWORD, SecureNode, write_secret
from tests.interop.session import Session
from tests.interop.wire import Client, ScriptedServer

#: Seconds that mail is held back, and that it may take.
HELD = 3
BY = 2


class Here(SecureNode):
    """The node the tests submit to. It trusts its authority also on its way out.

    :ivar there: a node that offers REQUIRETLS. :ivar down: a port where nobody listens. :ivar busy: another.
    :ivar plain: a server without TLS. :ivar weak: one with TLS, and without REQUIRETLS.
    """

    def __init__(self) -> None:
        self.there = Node(domain="there.test", tables=_catch_all("sure.test", "busy.test", "late.test"))
        self.down, self.busy, self.weak_port = free_port(), free_port(), free_port()
        self.plain = ScriptedServer()
        super().__init__()
        chain, key, _ = self.authority.issue("localhost")
        (self.there.state / "tls").mkdir(parents=True)
        write_secret(self.there.state / "tls" / "there.pem", chain + key)
        self.weak = Controller(
            _Keeps(), hostname="127.0.0.1", port=self.weak_port, tls_context=_context(self.place, chain + key)
        )

    def write(self, *, top: str = "", tables: str = "") -> None:
        """See Node."""
        hops = {
            "down.test": self.down, "busy.test": self.busy, "sure.test": self.there.port, "plain.test": self.plain.port,
            "weak.test": self.weak_port,
        }  # fmt: skip
        routes = "".join(
            f'[[route]]\ndomain = "{domain}"\nnext_hop = "[127.0.0.1]:{port}"\n' for domain, port in hops.items()
        )
        root = self.place / "test-authority.pem"
        tables = tables.replace("[tls]\n", f'[tls]\ntrusted = "{root}"\n')
        queue = '[queue]\nretry = ["1s"]\nconnections_per_destination = 1\nmails_per_connection = 1\n'
        super().write(top=top, tables=tables + routes + queue)

    def start(self, *words: Any, **more: Any) -> Node:
        """Start it and the others."""
        if self.there.process is None:
            self.there.start()
            self.weak.start()
        return super().start(*words, **more)

    def close(self) -> None:
        """End all."""
        super().close()
        self.there.close()
        self.plain.close()
        self.weak.stop(no_assert=True)


class _Keeps:
    """A server that takes everything."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 2.0.0 kept"


class Report(NamedTuple):
    """A DSN (RFC 3464)."""

    text: str
    recipient: EmailMessage
    whole: EmailMessage


def _catch_all(*domains: str) -> str:
    return "".join(f'[[domain]]\nname = "{domain}"\ncatch_all = "demo@there.test"\n' for domain in domains)


def _context(place: Path, pem: bytes) -> ssl.SSLContext:
    file = place / "weak.pem"
    write_secret(file, pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def letter(subject: str) -> bytes:
    """A mail of ann's."""
    return (
        f"From: ann@here.test\r\nSubject: {subject}\r\nMessage-ID: <{subject.replace(' ', '.')}@here.test>\r\n"
        "Date: Tue, 03 Mar 2026 10:11:12 +0000\r\n\r\nHello\r\n"
    ).encode()


class ExtensionsTest(NodeTest):
    """ann asks."""

    def setUp(self) -> None:
        self.here = cast(Here, self.shared(lambda: (Here(),))[0])

    def session(self, tls: str = "implicit", listener: str = "implicit") -> Session:
        """ann has signed in."""
        session = Session(self.here.ports[listener], self.here.authority.root, tls)
        self.addCleanup(session.close)
        self.assertTrue(session.plain("ann@here.test", PASSWORD).startswith("235"))
        return session

    def report(self, subject: str, status: str) -> Report:
        """The DSN about a mail, with this status in its machine part."""
        octets = self.here.wait_mail("ann", having=f"Subject: {subject}\n".encode())
        whole = message_from_bytes(octets, policy=policy.default)
        self.assertEqual(whole.get_content_type(), "multipart/report")
        self.assertEqual(whole.get_param("report-type"), "delivery-status")
        self.assertEqual(whole["Return-Path"], "<>")
        parts = cast("list[EmailMessage]", list(whole.iter_parts()))
        self.assertEqual([part.get_content_type() for part in parts[:2]], ["text/plain", "message/delivery-status"])
        _, recipient = cast("list[EmailMessage]", parts[1].get_payload())
        self.assertEqual(recipient["Status"], status, octets.decode())
        self.assertEqual([part.defects for part in whole.walk() if part.defects], [])
        return Report(" ".join(parts[0].get_content().split()), recipient, whole)

    def test_offered(self) -> None:
        """Over TLS, signed in, a client is offered all four."""
        offered = self.session().ask("EHLO client.test").splitlines()
        for word in ("FUTURERELEASE 2592000 ", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS"):
            self.assertTrue([line for line in offered if line[4:].startswith(word)], f"{word} in {offered}")

    def test_held_back(self) -> None:
        """HOLDFOR and HOLDUNTIL: in the list, not before the time, over a restart, and then at once."""
        began = time.time()
        until = int(began) + HELD + 1
        spelt = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        session = self.session()
        ids = {
            "held for": session.bring(letter("held for"), parameters=f" HOLDFOR={HELD}"),
            "held until": session.bring(letter("held until"), parameters=f" HOLDUNTIL={spelt}"),
            "held out": session.bring(letter("held out"), ["x@sure.test"], parameters=f" HOLDFOR={HELD}"),
        }
        session.close()
        listed = {mail["queue_id"]: mail for mail in self.here.queue() if mail["queue_id"] in ids.values()}
        self.assertEqual(set(listed), set(ids.values()))
        for name, queue_id in ids.items():
            at = until if name == "held until" else began + HELD
            self.assertLess(abs(listed[queue_id]["release_at"] - at), 1.0)
            (recipient,) = listed[queue_id]["recipients"]
            self.assertEqual((recipient["state"], recipient["attempts"]), ("delayed", 0))
        self.assertIn(
            "held back by its sender until", " ".join(self.here.command("queue", "show", *ids.values()).split())
        )
        self.assertEqual(self.here.stop(), 0)
        self.here.start()
        for name, queue_id in ids.items():
            node, who = (self.here.there, "demo") if name == "held out" else (self.here, "joe")
            node.wait_mail(who, having=f"Subject: {name}\n".encode())
            finished = self.here.wait_event("mail-finished", queue_id=queue_id)
            at = until if name == "held until" else began + HELD
            lasted = (until - began) if name == "held until" else HELD
            self.assertGreaterEqual(finished["seconds"], lasted - 0.5)
            self.assertLess(time.time() - at, 5.0)

    def test_held_too_long(self) -> None:
        """Longer than the node holds mail, or until a time that is over: refused with a sentence."""
        session = self.session()
        reply = session.ask("MAIL FROM:<ann@here.test> HOLDFOR=2592001")
        self.assertEqual(reply, "501 5.5.4 A mail can be held back here for at most 2592000 seconds (30 days)")
        reply = session.ask("MAIL FROM:<ann@here.test> HOLDUNTIL=2020-01-01T00:00:00Z")
        self.assertEqual(reply, "501 5.5.4 HOLDUNTIL names a time that is over; name a later one, or leave it out")

    def test_in_time(self) -> None:
        """BY with R: the mail comes back when its time has passed. With N: a notice, once, and it is tried further."""
        session = self.session()
        returned = session.bring(letter("or back"), ["x@down.test"], parameters=f" BY={BY};R")
        told = session.bring(letter("or tell"), ["x@down.test"], parameters=f" BY={BY};N")
        began = time.monotonic()
        report = self.report("or back", "5.4.7")
        self.assertGreater(time.monotonic() - began, BY - 1)
        self.assertEqual(
            (report.recipient["Action"], report.recipient["Final-Recipient"]), ("failed", "rfc822;x@down.test")
        )
        self.assertEqual(self.here.wait_event("recipient-failed", queue_id=returned)["reason"], "not-in-time")
        report = self.report("or tell", "4.4.7")
        self.assertEqual(report.recipient["Action"], "delayed")
        self.assertIn("x@down.test", report.text)
        self.tried_again(told)
        (mail,) = [mail for mail in self.here.queue() if mail["queue_id"] == told]
        self.assertTrue(mail["recipients"][0]["told"])
        self.assertIn("the sender was told that it is late", " ".join(self.here.command("queue", "show", told).split()))
        sent = [event for event in self.here.events("notification-sent") if event["queue_id"] == told]
        self.assertEqual([event["action"] for event in sent], ["delayed"])
        self.here.command("queue", "remove", told)

    def tried_again(self, queue_id: str) -> None:
        """An operator has a mail tried at once, and it comes to nothing again."""

        def attempts() -> int:
            return max(
                int(one["attempts"]) for one in self.here.events("recipient-delayed") if one["queue_id"] == queue_id
            )

        before = attempts()
        self.here.command("queue", "retry", queue_id)
        wait_for(lambda: attempts() > before, "one more attempt")

    def test_no_time(self) -> None:
        """BY with R must leave some time; a time that ends while the mail is held back is refused with a sentence."""
        session = self.session()
        self.assertTrue(session.ask("MAIL FROM:<ann@here.test> BY=0;R").startswith("501 5.5.4 "))
        reply = session.ask("MAIL FROM:<ann@here.test> BY=5;R HOLDFOR=10")
        self.assertIn("By the time that BY names the mail would still be held back", reply)

    def test_priority(self) -> None:
        """A mail with priority 9 is the first to go when a host comes back for which others wait."""
        session = self.session()
        waiting = [session.bring(letter(f"waiting {number}"), ["x@busy.test"]) for number in range(4)]
        for queue_id in waiting:
            self.here.wait_event("recipient-delayed", queue_id=queue_id)
        urgent = session.bring(letter("urgent"), ["x@busy.test"], parameters=" MT-PRIORITY=9")
        self.here.wait_event("recipient-delayed", queue_id=urgent)
        shown = self.here.command("queue", "show", urgent)
        self.assertIn("priority 9", shown)
        self.here.wait_event("destination-changed", destination=f"[127.0.0.1]:{self.here.busy}", state="suspended")
        between = Between(self.here.there.port, own_port=self.here.busy)
        self.addCleanup(between.close)
        self.here.command("queue", "retry", "--recipient", "busy.test")
        for queue_id in (*waiting, urgent):
            self.here.wait_event("mail-finished", queue_id=queue_id)
        order = [one["queue_id"] for one in self.here.events("recipient-relayed") if one["recipient"] == "x@busy.test"]
        self.assertEqual(order[0], urgent)
        self.assertEqual(set(order[1:]), set(waiting))
        self.assertIn(b"PRIORITY 9;", self.here.there.wait_mail("demo", having=b"Subject: urgent\n"))

    def test_require_tls(self) -> None:
        """REQUIRETLS: on to a host that offers it over TLS that is verified; to any other not one octet of it."""
        session = self.session()
        sure = session.bring(letter("sure"), ["x@sure.test"], parameters=" REQUIRETLS")
        session.bring(letter("weak"), ["x@weak.test"], parameters=" REQUIRETLS")
        session.bring(letter("plain"), ["x@plain.test"], parameters=" REQUIRETLS")
        relayed = self.here.wait_event("recipient-relayed", queue_id=sure)
        self.assertTrue(relayed["tls"].endswith(", verified"), relayed)
        self.here.there.wait_mail("demo", having=b"Subject: sure\n")
        for name, status, words in (
            ("weak", "5.7.30", "127.0.0.1 does not offer REQUIRETLS"),
            ("plain", "5.7.10", "127.0.0.1 offers no STARTTLS"),
        ):  # fmt: skip
            with self.subTest(host=name):
                report = self.report(name, status)
                self.assertEqual(report.recipient["Action"], "failed")
                asked = "the mail's sender asked for REQUIRETLS; without it the mail can be sent again"
                self.assertIn(f"{words}; {asked}", report.text)
                self.assertIn(f"x@{name}.test", report.text)
        self.assertEqual(cast(_Keeps, self.here.weak.handler).mails, [])
        self.assertEqual(
            (self.here.plain.mails, [c for c in self.here.plain.commands if c.startswith("MAIL")]), ([], [])
        )

    def test_require_tls_without(self) -> None:
        """REQUIRETLS is neither offered nor taken on a session without TLS."""
        with Client(self.here.port) as client:
            self.assertNotIn("REQUIRETLS", client.offered)
            reply = client.ask("MAIL FROM:<someone@client.test> REQUIRETLS")
        self.assertEqual(reply, "555 5.5.4 The parameter REQUIRETLS is offered after STARTTLS only")
