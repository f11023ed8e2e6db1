"""Runs the SMTP dialogues of ``tests/dialogues`` (its README says how they are written), and those of Apache James."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import STRANGER, DictDirectory, Kept, TestReceiver
from tests.smtp.vectors import vector
from twisted_mail_node.events import SignedIn
from twisted_mail_node.message.address import Address

DIALOGUES = Path(__file__).parent / "dialogues"
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)")
_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


class Step(NamedTuple):
    """One line of a dialogue."""

    number: int
    kind: str
    text: str


class Dialogue(NamedTuple):
    """A dialogue as its file says it."""

    settings: dict[str, str]
    steps: list[Step]


def read(path: Path) -> Dialogue:
    """A dialogue. :raises ValueError: a line is none of those the README names."""
    settings: dict[str, str] = {}
    steps: list[Step] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([CS][:|~]|set|secure|closed|wait|kept|envelope|content|header)(?: (.*))?", line)
        if match is None:
            raise ValueError(f"{path.name}:{number}: what is {line!r}?")
        kind, text = match[1], match[2] or ""
        if kind == "set":
            name, _, value = text.partition(" ")
            settings[name] = value
        else:
            steps.append(Step(number, kind, text))
    return Dialogue(settings, steps)


def octets_of(text: str) -> bytes:
    """The octets a ``C|`` line means."""
    found = b""
    at = 0
    for match in _ESCAPE.finditer(text):
        found += text[at : match.start()].encode()
        at = match.end()
        found += bytes([int(match[1][1:], 16)]) if match[1][0] == "x" else _ESCAPES[match[1]]
    return found + text[at:].encode()


def receiver_of(settings: dict[str, str]) -> TestReceiver:
    """The receiver a dialogue asks for."""
    values: dict[str, Any] = {name: int(text) if text.isdigit() else text for name, text in settings.items()}
    for name in ("client", "whole"):
        values.pop(name, None)
    for name in ("relay_from", "full"):
        if name in values:
            values[name] = values[name].split()
    return TestReceiver(**values)


def path_text(address: Address | None) -> str:
    """An address in angle brackets."""
    return "<>" if address is None else f"<{address}>"


def envelope_text(mail: Kept) -> str:
    """An envelope as dialogues write it."""
    envelope = mail.envelope
    words = [path_text(envelope.reverse_path), "->"]
    for recipient in envelope.recipients:
        words.append(path_text(recipient.address))
        if recipient.notify:
            words.append(f"NOTIFY={','.join(recipient.notify)}")
        if recipient.orcpt:
            words.append(f"ORCPT={recipient.orcpt}")
    words.append(f"BODY={envelope.body}")
    if envelope.smtputf8:
        words.append("SMTPUTF8")
    if envelope.ret:
        words.append(f"RET={envelope.ret}")
    if envelope.envid:
        words.append(f"ENVID={envelope.envid}")
    return " ".join(words)


#: How a group of lines is cut into packets.
Cut = Callable[[list[bytes]], list[bytes]]


def as_written(lines: list[bytes]) -> list[bytes]:
    """One packet for the group."""
    return [b"".join(lines)]


def line_by_line(lines: list[bytes]) -> list[bytes]:
    """One packet for each line."""
    return lines


def octet_by_octet(lines: list[bytes]) -> list[bytes]:
    """One packet for each octet."""
    return [bytes([octet]) for octet in b"".join(lines)]


class Run:
    """A dialogue being run."""

    def __init__(self, test: SynchronousTestCase, name: str, dialogue: Dialogue, cut: Cut) -> None:
        self._test = test
        self._name = name
        self._steps = dialogue.steps
        self._cut = cut
        self._receiver = receiver_of(dialogue.settings)
        self._peer = self._receiver.connect(dialogue.settings.get("client", STRANGER))
        self._group: list[bytes] = []
        self._lines: list[str] = []
        self._where = name

    def run(self) -> None:
        """Run it to its end, and look at what is left."""
        for step in self._steps:
            self._where = f"{self._name}:{step.number} ({self._cut.__name__})"
            self._do(step)
        self._expect_nothing()
        self._peer.vanish()
        test, receiver = self._test, self._receiver
        test.assertEqual(receiver.connections, 0, "a connection is still counted")
        states = {incoming.state for incoming in receiver.queue.begun}
        test.assertLessEqual(states, {"kept", "aborted"}, "a mail was begun and not ended")

    def _do(self, step: Step) -> None:
        test, text = self._test, step.text
        if step.kind[0] == "C":
            if not self._group:
                self._expect_nothing()
            self._group.append(text.encode() + b"\r\n" if step.kind == "C:" else octets_of(text))
            return
        self._send()
        match step.kind:
            case "S:" if text == "...":
                while self._next()[3:4] == "-":
                    pass
            case "S:":
                line = self._next()
                test.assertTrue(line.startswith(text), f"{self._where}: the server said {line!r}, not {text!r}")
            case "S~":
                line = self._next()
                test.assertRegex(line, f"\\A(?:{text})\\Z", self._where)
            case "secure":
                self._peer.secure()
            case "closed":
                test.assertTrue(self._peer.closed, f"{self._where}: the connection is open")
            case "wait":
                self._receiver.wait(float(text))
            case "kept":
                test.assertEqual(len(self._receiver.queue.mails), int(text), self._where)
            case "envelope":
                found = envelope_text(self._last())
                test.assertTrue(f"{found} ".startswith(f"{text} "), f"{self._where}: the envelope is {found}")
            case "content":
                test.assertIn(text.encode(), self._last().content.split(b"\r\n"), self._where)
            case _:
                test.assertIn(text, [line.strip() for line in self._last().header.decode().split("\r\n")], self._where)

    def _send(self) -> None:
        if self._group:
            for packet in self._cut(self._group):
                self._peer.send(packet)
            self._group = []

    def _hear(self) -> None:
        said = self._peer.said()
        self._test.assertTrue(not said or said.endswith("\r\n"), f"{self._where}: half a line: {said!r}")
        self._lines += said.split("\r\n")[:-1]

    def _next(self) -> str:
        self._hear()
        if not self._lines:
            self._test.fail(f"{self._where}: the server said nothing more")
        return self._lines.pop(0)

    def _expect_nothing(self) -> None:
        self._send()
        self._hear()
        self._test.assertEqual(self._lines, [], f"{self._where}: the server said more than the dialogue knows of")

    def _last(self) -> Kept:
        self._test.assertTrue(self._receiver.queue.mails, f"{self._where}: no mail was accepted")
        return self._receiver.queue.mails[-1]


class DialogueTests(SynchronousTestCase):
    """Every dialogue in ``tests/dialogues``, a test for each file."""

    def test_there_are_some(self) -> None:
        """The dialogues are found, and each begins by saying what it shows."""
        paths = sorted(DIALOGUES.glob("*.txt"))
        self.assertGreaterEqual(len(paths), 25)
        for path in paths:
            self.assertTrue(path.read_text(encoding="utf-8").startswith("# "), path.name)

    def test_escapes(self) -> None:
        """The raw form of the client's octets."""
        self.assertEqual(octets_of(r"a\r\n\x00\\n\t\0ü"), b"a\r\n\x00\\n\t\0\xc3\xbc")


def _add(path: Path) -> None:
    def test(self: DialogueTests) -> None:
        dialogue = read(path)
        cuts: list[Cut] = [as_written] if "whole" in dialogue.settings else [as_written, line_by_line, octet_by_octet]
        for cut in cuts:
            Run(self, path.name, dialogue, cut).run()

    test.__doc__ = path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    test.__name__ = f"test_{path.stem}"
    setattr(DialogueTests, test.__name__, test)


for _path in sorted(DIALOGUES.glob("*.txt")):
    _add(_path)


class JamesTests(SynchronousTestCase):
    """The SMTP dialogues of Apache James' protocol tester, compared by the codes of the replies."""

    def replay(self, name: str) -> TestReceiver:
        """Run one; EHLO's lines and the words of the replies are the host's own."""
        receiver = self.receiver()
        peer = receiver.connect()
        for client, server in exchanges(vector(f"smtp/james-mpt-smtp/{name}.test")):
            if client:
                peer.send(b"".join(line + b"\r\n" for line in client))
            self.assertEqual(peer.codes(), server)
        return receiver

    def receiver(self, **settings: Any) -> TestReceiver:
        """The host of the dialogues."""
        receiver = TestReceiver(**settings)
        people = {f"{local}@mydomain.tld": (f"{local}@mydomain.tld",) for local in ("bob", "starttls")}
        receiver.factory.directory = DictDirectory(people)
        return receiver

    def steps(self, name: str) -> list[tuple[list[bytes], list[int]]]:
        """What a dialogue says after its greeting."""
        (greeting, *steps) = exchanges(vector(f"smtp/james-mpt-smtp/{name}.test"))
        self.assertEqual(greeting, ([], [220]))
        return steps

    def test_helo(self) -> None:
        """A mail by a pipelined group."""
        self.check(self.replay("helo"), b"subject: test\r\n\r\ncontent\r\n")

    def test_content_starts_with_starttls(self) -> None:
        """The word in the content is no command."""
        self.check(self.replay("data_starts_with_starttls"), b"subject: test\r\n\r\nstarttls content\r\n")

    def test_content_with_starttls(self) -> None:
        """The same in the middle of a line."""
        self.check(self.replay("data_with_starttls"), b"subject: test\r\n\r\ncontent starttls content\r\n")

    def test_recipient_with_starttls(self) -> None:
        """The word as a local-part."""
        receiver = self.replay("rcpt_with_starttls")
        self.assertEqual(receiver.queue.mails[0].recipients, ["starttls@mydomain.tld"])

    def check(self, receiver: TestReceiver, content: bytes) -> None:
        """Exactly one mail was accepted."""
        self.assertEqual([mail.content for mail in receiver.queue.mails], [content])

    def test_starttls(self) -> None:
        """STARTTLS after EHLO."""
        peer = self.receiver(tls_mode="starttls").connect()
        peer.said()
        for client, server in self.steps("starttls"):
            peer.send(b"".join(line + b"\r\n" for line in client))
            self.assertEqual(peer.codes(), server)
        self.assertTrue(peer.wire.handshaking)

    def test_authplain(self) -> None:
        """AUTH LOGIN: James takes it from a client that said neither EHLO nor STARTTLS, we after both."""
        receiver = self.receiver(kind="submission", tls_mode="starttls")
        peer = receiver.secured()
        peer.said()
        for client, server in self.steps("authplain"):
            peer.send(b"".join(line + b"\r\n" for line in client))
            self.assertEqual(peer.codes(), server)
        (event,) = receiver.of(SignedIn)
        self.assertEqual(event.account, "bob@mydomain.tld")

    def test_session_fixation(self) -> None:
        """STARTTLS in a transaction is refused, by James with 501 and by us with 503: nothing of it gets into TLS."""
        steps = self.steps("starttls_session_fixation")
        signing_in = self.receiver(kind="submission", tls_mode="starttls").secured()
        in_clear = self.receiver(tls_mode="starttls", relay_from=["192.0.2.9/32"]).session()
        for peer, part in ((signing_in, steps[:4]), (in_clear, steps[4:])):
            peer.said()
            for client, server in part:
                peer.send(b"".join(line + b"\r\n" for line in client))
                self.assertEqual(peer.codes(), [503 if code == 501 else code for code in server])
        self.assertFalse(in_clear.wire.handshaking)

    def test_injection(self) -> None:
        """STARTTLS with a command behind it in one packet: James says 451, we 421 and close; neither carries it out."""
        receiver = self.receiver(tls_mode="starttls")
        peer = receiver.session()
        peer.said()
        *_, (client, server) = self.steps("starttls_with_injection")
        self.assertEqual(server, [451])
        peer.send(b"".join(line.replace(b"\\r\\n", b"\r\n") for line in client))
        self.assertEqual(peer.codes(), [421])
        self.assertTrue(peer.closed)
        self.assertFalse(peer.wire.handshaking)


def exchanges(path: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    """What the client sends, and the codes of the replies to it."""
    client: list[bytes] = []
    server: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        kind, _, text = line.partition(":")
        if kind == "C":
            if server:
                yield client, _codes(server)
                client, server = [], []
            client.append(text.removeprefix(" ").encode())
        elif kind == "S":
            server.append(text.strip())
    yield client, _codes(server)


def _codes(lines: list[str]) -> list[int]:
    # "250.*" stands for the first line of EHLO's reply; the others of it follow
    return [int(line[:3]) for line in lines if line[3:4] == " "]
