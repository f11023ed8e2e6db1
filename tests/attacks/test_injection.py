"""Attacks by what stands inside a value (T13 to T16, T20): another protocol, xtext, commands, shells, terminals."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import twisted_mail_node
from tests.attacks.wire import Sender, in_any_packets
from tests.inbound.receiving import EPOCH, DictDirectory, TestReceiver
from twisted_mail_node.admin import looks
from twisted_mail_node.admin.queue_show import lines_of
from twisted_mail_node.eventlog import EventLog
from twisted_mail_node.events import CommandRefused, SessionClosed
from twisted_mail_node.message import dsn
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.header import fields
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp import client

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
JOE = Address("joe", "example.org")
#: Line ends of every kind, escapes of a terminal, marks that turn the direction of writing.
EVIL = "\r\nX-Evil: yes\r\n\x1b[2J\x00\x07\x85\u2028\u2029\u202e\u2066\x9b31m"
#: What must never reach a log line, a header field of ours or a terminal.
BAD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class OtherProtocolTests(SynchronousTestCase):
    """T13: clients that speak another protocol, made to do so by a browser or a mistake."""

    @in_any_packets
    def test_closed(self, sender: Sender) -> None:
        """Closed at the first line, with one reply; the commands in the body of the request never run."""
        body = b"EHLO evil.example\r\nMAIL FROM:<boss@example.org>\r\nRCPT TO:<joe@example.org>\r\n"
        body += b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        for first in (b"POST / HTTP/1.1\r\nHost: mx.example.org:25\r\nContent-Length: 500\r\n\r\n",
                      b"GET / HTTP/1.0\r\n\r\n", b"PUT /x HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n",
                      b"CONNECT mx:25 HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x\r\n",
                      b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                      b"\x16\x03\x01\x02\x00\r\nEHLO x\r\n", b"\x16\n\x00\r\n"):  # fmt: skip
            receiver = TestReceiver()
            peer = receiver.connect()
            peer.said()
            self.assertEqual(sender.send(peer, first + body), [421], first)
            self.assertTrue(peer.closed)
            self.assertEqual((receiver.queue.begun, receiver.connections), ([], 0))
            self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.NOT_SMTP)


class XtextTests(SynchronousTestCase):
    """T14: xtext that hides a line end (CVE-2020-28021, CVE-2020-28026)."""

    @in_any_packets
    def test_control_characters(self, sender: Sender) -> None:
        """ENVID and ORCPT with a control character are 501; AUTH is not offered and 555; nothing of them is kept."""
        for code in ("0A", "0D", "00", "0D+0A", "1B", "7F", "C2+85", "E2+80+A8"):
            receiver = TestReceiver(errors=100)
            peer = sender.session(receiver)
            self.assertEqual(sender.send(peer, f"MAIL FROM:<> ENVID=a+{code}b\r\n".encode()), [501], code)
            self.assertEqual(sender.send(peer, f"MAIL FROM:<> AUTH=a+{code}b\r\n".encode()), [555], code)
            self.assertEqual(sender.send(peer, b"MAIL FROM:<>\r\n"), [250])
            for kind in ("rfc822", "utf-8"):
                line = f"RCPT TO:<joe@example.org> ORCPT={kind};a+{code}b\r\n".encode()
                self.assertIn(sender.send(peer, line)[0], (501, 250) if kind == "utf-8" else (501,), line)

    def test_utf8_form(self) -> None:
        """The UTF-8 form of ORCPT has its own way to write characters; control characters are refused there, too."""
        peer = TestReceiver(errors=100).session("MAIL FROM:<> SMTPUTF8")
        for code in ("0A", "0D", "00", "1B", "85", "2028"):
            self.assertTrue(peer.say(f"RCPT TO:<joe@example.org> ORCPT=utf-8;a\\x{{{code}}}b").startswith("501"), code)


class ClientTests(SynchronousTestCase):
    """T15: values that would end one of our own commands early."""

    @given(st.sampled_from("\r\n\x00 <>\x7f\x85\u2028\t"), st.text("ab.", max_size=3), st.text("ab.", max_size=3))
    def test_before_the_first_octet(self, evil: str, before: str, after: str) -> None:
        """An error before the first octet, wherever the value stands."""
        text = before + evil + after
        for address in (Address(text, "example.org"), Address("joe", text)):
            self.assertRaises(ValueError, client.mail, address, smtputf8=True)
            self.assertRaises(ValueError, client.rcpt, Recipient(address, address), smtputf8=True)
        self.assertRaises(ValueError, client.ehlo, text)

    @given(st.text(max_size=30))
    def test_parameters(self, text: str) -> None:
        """ENVID and ORCPT of any text are one word on one line, or an error."""
        commands: list[Callable[[], bytes]] = [
            lambda: client.mail(None, envid=text),
            lambda: client.rcpt(Recipient(JOE, JOE, (), f"rfc822;{text}"), dsn=True),
            lambda: client.rcpt(Recipient(JOE, JOE, (), f"utf-8;{text}"), dsn=True, smtputf8=True),
        ]
        for command in commands:
            try:
                line = command()
            except (ValueError, UnicodeError):
                continue
            self.assertTrue(line.endswith(b"\r\n"))
            self.assertIsNone(re.search(rb"[\x00-\x1f\x7f]", line[:-2]))
            self.assertLessEqual(line.count(b" "), 2)


class ShellTests(SynchronousTestCase):
    """T16: no shell anywhere (CVE-2020-7247)."""

    FORBIDDEN_MODULES = frozenset({"subprocess", "pty", "commands", "popen2", "pickle", "marshal", "shelve", "dbm"})
    FORBIDDEN_CALLS = frozenset({"eval", "exec", "compile", "__import__", "system", "popen", "getoutput"})

    def test_source(self) -> None:
        """No module of the node can start a shell, unpickle or evaluate text: it imports and calls nothing for it."""
        wrong = []
        for path in sorted(Path(twisted_mail_node.__file__).parent.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = {alias.name.partition(".")[0] for alias in node.names} & self.FORBIDDEN_MODULES
                elif isinstance(node, ast.ImportFrom):
                    names = {(node.module or "").partition(".")[0]} & self.FORBIDDEN_MODULES
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    names = {node.func.id} & self.FORBIDDEN_CALLS
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    # re.compile is no compile
                    names = {node.func.attr} & (self.FORBIDDEN_CALLS - {"compile", "exec"})
                else:
                    continue
                wrong += [(path.name, node.lineno, name) for name in names]
        self.assertEqual(wrong, [])

    def test_addresses(self) -> None:
        """Such local-parts are addresses like any other: nobody's here, or somebody's, to the letter."""
        locals_ = (
            ";id;",
            "$(id)",
            "|id",
            "`id`",
            "${run{id}}",
            "&&id",
            "../id",
            ";for i in 0 1 2 3;do read r;done;sh;exit 0;",
        )
        people = {f"{local}@example.org": (f"{local}@example.org",) for local in locals_}
        for local in locals_:
            path = str(Address(local, "example.org"))
            self.assertTrue(TestReceiver().session("MAIL FROM:<>").say(f"RCPT TO:<{path}>").startswith("550 5.1.1"))
            receiver = TestReceiver(directory=DictDirectory(people))
            peer = receiver.session(f"MAIL FROM:<{path}>", f"RCPT TO:<{path}>", "DATA")
            peer.say("", ".")
            (mail,) = receiver.queue.mails
            self.assertEqual(mail.envelope.recipients[0].address.local_part, local)
            assert mail.envelope.reverse_path is not None
            self.assertEqual(mail.envelope.reverse_path.local_part, local)


class OneLineTests(SynchronousTestCase):
    """T20: what others say never makes a second line, a second field, or a command for a terminal."""

    @in_any_packets
    def test_session(self, sender: Sender) -> None:
        """HELO, addresses and unknown commands with such characters: each event is one line of printable ASCII."""
        receiver = TestReceiver(errors=100)
        peer = receiver.connect()
        for line in (f"EHLO {EVIL}", f"EHLO x{EVIL[17:]}", "EHLO x\u202ey\u2066", "EHLO ok\u2028z", f"{EVIL[17:]} x",
                     "WH\x1b[31mAT", "MAIL FROM:<\u202ejoe\u2066@elsewhere.example> SMTPUTF8",
                     "RCPT TO:<\u202eann\u2028@example.org>", 'RCPT TO:<"a\x1b[2Jb"@example.org>',
                     "RCPT TO:<joe@example.org>", "VRFY \x1b]0;evil\x07"):  # fmt: skip
            sender.send(peer, line.encode() + b"\r\n")
        octets: list[bytes] = []

        def write(view: memoryview) -> int:
            octets.append(bytes(view))
            return len(view)

        log = EventLog(write, Clock())
        for event in receiver.events:
            log.observe(event)
        log.close()
        lines = b"".join(octets).split(b"\n")
        self.assertEqual(lines.pop(), b"")
        self.assertEqual(len(lines), len(receiver.events))
        self.assertTrue(receiver.of(CommandRefused))
        for one in lines:
            self.assertTrue(one.isascii() and one.decode().isprintable(), one)
            self.assertIn("event", json.loads(one))

    def test_replies(self) -> None:
        """No reply says again what could end its line or turn it."""
        receiver = TestReceiver(errors=100)
        peer = receiver.session()
        for line in ("WH\x1b[31mAT", "EHLO a\x1bb", "MAIL FROM:<> \x1b=\u202e", "MAIL FROM:<> X\u202e=1",
                     "MAIL FROM:<\x1b[2J>", "MAIL FROM:<a@[\x1b]>", "MAIL FROM:<> BODY=\u2028"):  # fmt: skip
            said = peer.say(line)
            self.assertEqual(said.count("\r\n"), 1)
            self.assertIsNone(BAD.search(said.replace("\r\n", "")), said)

    def test_trace_field(self) -> None:
        """Received is built from HELO and recipient; it stays one field of printable ASCII lines."""
        for helo in ("x\u202ey", "a\u2028X-Evil:z", "(comment)", "a;b", "x" * 255, "[\u2066]", 'a\\b"c'):
            receiver = TestReceiver(directory=DictDirectory({"a\x00b@example.org": ()}))
            receiver.factory.directory = DictDirectory()
            peer = receiver.connect()
            peer.say(f"EHLO {helo}", *MAIL)
            peer.say("", ".")
            header = receiver.queue.mails[0].header
            self.assertEqual([field.name for field in fields(header)], [b"Received"], helo)
            self.assertTrue(header.isascii())
            self.assertIsNone(BAD.search(header.decode().replace("\r\n", "")))
            self.assertTrue(all(len(line) <= 998 for line in header.split(b"\r\n")))

    def test_report(self) -> None:
        """A DSN about a host and a recipient that say such things: the same parts, and no field more."""
        receiver = TestReceiver()
        receiver.session(*MAIL).say("Subject: x", "", ".")
        envelope = receiver.queue.mails[0].envelope

        def report(words: str, local: str) -> bytes:
            address = Address(local, "elsewhere.example")
            status = DeliveryStatus(Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED, words, words, words, True)
            outcome = dsn.Outcome(Recipient(address, address, (), f"rfc822;{words}"), status)
            return dsn.build(
                hostname="mx.example.org",
                queue_id="Q2",
                when=EPOCH,
                envelope=envelope,
                arrived=EPOCH,
                outcomes=[outcome],
                header=b"Subject: x\r\n\r\n",
                original_queue_id="Q1",
            ).content

        def shape(octets: bytes) -> list[tuple[bytes, bytes]]:
            return re.findall(rb"(?m)^([A-Za-z]+(?:-[A-Za-z]+)*):[ \r]|^(--.*)", octets)

        plain = report("550 5.1.1 no such user", "joe")
        self.assertIn((b"Diagnostic-Code", b""), shape(plain))
        for evil in (EVIL[17:], "\r\n\r\n--Q2\r\nX-Evil: yes", "x\nAction: delivered", "a\rb", "\u2028Status: 2.0.0"):
            found = report(f"550 {evil}", evil)
            self.assertEqual(
                [names for names in shape(found) if names[0]], [names for names in shape(plain) if names[0]]
            )
            self.assertEqual(len(shape(found)), len(shape(plain)))
            self.assertIsNone(re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", found))

    def test_command_line(self) -> None:
        """``mailnode queue show`` of a mail full of such values: as many lines as for a plain one, all printable."""

        def shown(evil: str) -> list[str]:
            status = {"status": "5.1.1", "reason": "x", "words": evil, "remote_host": evil, "remote_address": ""}
            mail = {
                "queue_id": "0a", "received": EPOCH, "reverse_path": evil, "size": 1, "client": "192.0.2.9",
                "helo": evil,
                "protocol": "ESMTP", "session": "1", "body": "7BIT", "smtputf8": False, "ret": None, "envid": evil,
                "recipients": [{"recipient": evil, "original": evil, "state": "delayed", "attempts": 1, "due": EPOCH,
                                "destination": evil, "last": status, "cause": evil, "next_hop": evil}],
                "tried": [{**status, "when": EPOCH, "number": 0, "destination": evil, "tls": evil, "cause": evil}],
                "header": f"Received: x\r\n\tby y\r\nSubject: {evil}\r\n\r\n",
            }  # fmt: skip
            return [line for text in lines_of(mail, EPOCH) for line in text.split("\n")]

        self.assertEqual(len(shown(EVIL[17:])), len(shown("plain")))
        for line in shown(EVIL):
            self.assertIsNone(BAD.search(line), line)
            self.assertEqual(line.splitlines(), [line])
        for text in (looks.path(EVIL), looks.cut(EVIL, 200), *looks.facts({EVIL: EVIL, "list": [EVIL]})):
            self.assertIsNone(BAD.search(text), text)
            self.assertNotIn("\n", text)
