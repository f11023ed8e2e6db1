"""Mail for other domains goes on octet for octet, to whatever kind of server is there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from tests.interop.mails import CHUNKED, SAMPLES, Sample, plain
from tests.interop.node import Node, NodeTest, Process, free_port, greeting_of, wait_for
from tests.interop.wire import HELO_ONLY, ScriptedServer, added_to, send

SMTP_SINK = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin")
_RECEIVED = re.compile(rb"(?:Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*)+(?:\r\n)?\Z")

#: What every server can be given: lines of at most 998 octets.
SHORT_LINES = tuple(sample for sample in SAMPLES if max(map(len, sample.content.split(b"\r\n"))) <= 998)


def relay_to(port: int, **settings: Any) -> Node:
    """A node that relays for everyone on this machine, all to one server."""
    tables = settings.pop("tables", "")
    route = f'[[route]]\ndomain = "*"\nnext_hop = "[127.0.0.1]:{port}"\n'
    return Node(top='relay_from = ["127.0.0.0/8"]', tables=route + tables, **settings)


class _Keeping:
    """What aiosmtpd does with a mail: keeps it."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 2.0.0 kept"


class RelayingTest(NodeTest):
    """A node that passes mail on."""

    def bring(self, here: Node, samples: Sequence[Sample], to: str = "demo@there.test") -> list[str]:
        """Send all to the relaying node, by BDAT; gives their queue ids there."""
        ids = []
        for sample in samples:
            body = " BODY=BINARYMIME" if sample.binary else " BODY=8BITMIME" if sample.eight_bit else ""
            ids.append(send(here.port, sample.content, [to], parameters=body, chunks=1 << 30))
        return ids

    def relayed(self, here: Node, queue_id: str) -> None:
        """Wait until the next hop has the mail, and the queue does not have it any more."""
        here.wait_event("recipient-relayed", queue_id=queue_id)
        here.wait_event("mail-finished", queue_id=queue_id)

    def test_chunking(self) -> None:
        """To a node like ours, by CHUNKING: everything, also binary and what ends without a newline."""
        there = self.node(domain="there.test").start()
        here = relay_to(there.port)
        self.addCleanup(here.close)
        here.start()
        samples = (*SAMPLES, *CHUNKED)
        for sample, queue_id in zip(samples, self.bring(here, samples), strict=True):
            with self.subTest(sample=sample.name):
                self.relayed(here, queue_id)
                mail = there.wait_mail("demo", having=b" id " + queue_id.encode())
                added = added_to(mail, sample.content, sample.binary)
                self.assertEqual(added.count(b"Received: "), 2)
        self.assertEqual(here.queue(), [])
        self.assertEqual((here.stop(), there.stop()), (0, 0))

    def test_smtp_sink(self) -> None:
        """To Postfix's smtp-sink, by PIPELINING and DATA: it dumps what it was sent."""
        port = free_port()
        here = relay_to(port)
        self.addCleanup(here.close)
        dump = here.place / "dump"
        program = [SMTP_SINK or "", "-u", "root", "-D", str(dump), f"127.0.0.1:{port}", "100"]
        sink = Process(program, here.place, "sink")
        self.addCleanup(sink.kill)
        wait_for(lambda: greeting_of(port), "smtp-sink's greeting")
        here.start()
        for sample, queue_id in zip(SAMPLES, self.bring(here, SAMPLES), strict=True):
            with self.subTest(sample=sample.name):
                self.relayed(here, queue_id)
                got = dump.read_bytes().split(b"X-Client-Addr: ")
                (mail,) = [one for one in got if b" id " + queue_id.encode() in one]
                kept = sample.content.replace(b"\r\n", b"\n")
                self.assertTrue(mail.endswith(kept + b"\n"), mail[-500:])
                self.assertEqual(mail.count(b"X-Rcpt-Args: <demo@there.test>"), 1)

    def test_aiosmtpd(self) -> None:
        """To aiosmtpd, by DATA without PIPELINING, with SIZE, 8BITMIME and SMTPUTF8."""
        keeping = _Keeping()
        controller = Controller(keeping, hostname="127.0.0.1", port=free_port(), enable_SMTPUTF8=True, ready_timeout=20)
        controller.start()
        self.addCleanup(controller.stop)
        here = relay_to(controller.port)
        self.addCleanup(here.close)
        here.start()
        for sample, queue_id in zip(SHORT_LINES, self.bring(here, SHORT_LINES), strict=True):
            with self.subTest(sample=sample.name):
                self.relayed(here, queue_id)
                (mail,) = [one for one in keeping.mails if queue_id.encode() in bytes(one.original_content or b"")]
                self.compare(bytes(mail.original_content or b""), sample.content)
                self.assertEqual((mail.mail_from, mail.rcpt_tos), ("someone@client.test", ["demo@there.test"]))
        self.assertGreater(len(keeping.mails), 5)

    def compare(self, got: bytes, content: bytes) -> None:
        """What a server got ends in the content; only our trace fields stand before it."""
        self.assertTrue(got.endswith(content), got[-500:])
        self.assertTrue(_RECEIVED.match(got[: len(got) - len(content)]), got[:1000])

    def test_helo_only(self) -> None:
        """To a server that knows HELO only: 7-bit mail as it is; 8-bit mail is not sent, and a DSN says why."""
        server = ScriptedServer(HELO_ONLY)
        self.addCleanup(server.close)
        here = relay_to(server.port)
        self.addCleanup(here.close)
        here.start()
        samples = [sample for sample in SAMPLES if not sample.eight_bit]
        for sample, queue_id in zip(samples, self.bring(here, samples), strict=True):
            with self.subTest(sample=sample.name):
                self.relayed(here, queue_id)
                ((mail, recipients, wire),) = [one for one in server.mails if queue_id.encode() in one[2]]
                self.assertEqual((mail, recipients), ("MAIL FROM:<someone@client.test>", ["RCPT TO:<demo@there.test>"]))
                lines = [line[1:] if line.startswith(b".") else line for line in wire.split(b"\r\n")]
                self.compare(b"\r\n".join(lines), sample.content)
        eight = next(sample for sample in SAMPLES if sample.eight_bit)
        before = len(server.mails)
        send(here.port, eight.content, ["demo@there.test"], sender="ann@here.test", parameters=" BODY=8BITMIME")
        report = here.wait_mail("ann", having=b"delivery-status")
        self.assertIn(b"8BITMIME", report)
        self.assertEqual(len(server.mails), before)

    def test_utf8_address(self) -> None:
        """An address outside ASCII goes to a host with SMTPUTF8 as it is (RFC 6531)."""
        keeping = _Keeping()
        controller = Controller(keeping, hostname="127.0.0.1", port=free_port(), enable_SMTPUTF8=True, ready_timeout=20)
        controller.start()
        self.addCleanup(controller.stop)
        here = relay_to(controller.port)
        self.addCleanup(here.close)
        here.start()
        queue_id = send(here.port, plain("wide"), ["grüße@there.test"], parameters=" SMTPUTF8 BODY=8BITMIME")
        self.relayed(here, queue_id)
        self.assertEqual(keeping.mails[0].rcpt_tos, ["grüße@there.test"])
        self.assertTrue(keeping.mails[0].smtp_utf8)

    def test_many_recipients(self) -> None:
        """250 recipients at one next hop, of which it refuses one: each has one mail, and one DSN names the other."""
        there = self.node(domain="there.test", tables='[[domain]]\nname = "all.test"\ncatch_all = "demo@there.test"\n')
        there.start()
        here = relay_to(there.port)
        self.addCleanup(here.close)
        here.start()
        recipients = [f"r{number}@all.test" for number in range(249)] + ["nobody@there.test"]
        queue_id = send(here.port, plain("to many"), recipients, sender="joe@here.test")
        here.wait_event("mail-finished", queue_id=queue_id)
        relayed = {event["recipient"] for event in here.events("recipient-relayed")}
        self.assertEqual(relayed, set(recipients[:-1]))
        report = here.wait_mail("joe", having=b"delivery-status")
        self.assertIn(b"Final-Recipient: rfc822;nobody@there.test", report)
        self.assertEqual(report.count(b"Final-Recipient: "), 1)
        self.assertTrue(there.mails("demo"))

    def test_open_relay(self) -> None:
        """Nobody is relayed for but those the settings name: loopback is no licence (attack T28)."""
        here = self.node().start()
        for address in ("joe@elsewhere.test", "joe%elsewhere.test@here.test", '"joe@elsewhere.test"@here.test'):
            with self.subTest(address=address), self.assertRaisesRegex(AssertionError, ": 55[0-9] 5"):
                send(here.port, plain("no"), [address])
        self.assertEqual(here.queue(), [])

    if SMTP_SINK is None:
        test_smtp_sink.skip = "Postfix's smtp-sink is not installed"  # type: ignore[attr-defined]
