"""A blocking SMTP client that says exactly what a test wants, and scripted servers that answer as a test wants."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from typing import Self

from twisted_mail_node.smtp.stuffing import stuffed

#: Seconds for one reply.
REPLY_TIME = 30.0
#: What a node puts before a mail: trace fields of final delivery, and an empty line where the content has no header.
_ADDED = re.compile(
    rb"(?:(?:Return-Path|Delivered-To|Authentication-Results|Received): [^\n]*\n(?:[ \t][^\n]*\n)*)+\n?\Z"
)


class Client:
    """One session with a server on this machine."""

    def __init__(self, port: int, helo: str = "client.test", extended: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), REPLY_TIME)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self.greeting = self.reply()
        self.offered = self.ask(f"{'EHLO' if extended else 'HELO'} {helo}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self._file.close()
        self._socket.close()

    def reply(self) -> str:
        """The next reply, its lines with LF between them. ``""``: the server closed the connection."""
        lines = []
        while line := self._file.readline().decode("utf-8"):
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(octets)

    def ask(self, command: str) -> str:
        """A command and its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def must(self, command: str, code: str = "2") -> str:
        """A command whose reply must begin so."""
        reply = self.ask(command)
        if not reply.startswith(code):
            raise AssertionError(f"{command}: {reply}")
        return reply

    def open(self, recipients: Sequence[str], sender: str = "someone@client.test", parameters: str = "") -> None:
        """MAIL and RCPT."""
        self.must(f"MAIL FROM:<{sender}>{parameters}")
        for recipient in recipients:
            self.must(f"RCPT TO:<{recipient}>")

    def data(self, content: bytes) -> str:
        """The content by DATA; gives the last reply."""
        self.must("DATA", "354")
        self.send(stuffed(content))
        return self.reply()

    def bdat(self, content: bytes, size: int = 1 << 20) -> str:
        """The content by BDAT, in chunks of at most ``size`` octets; gives the last reply."""
        pieces = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
        for piece in pieces[:-1]:
            self.send(b"BDAT %d\r\n" % len(piece) + piece)
            reply = self.reply()
            if not reply.startswith("250"):
                return reply
        self.send(b"BDAT %d LAST\r\n" % len(pieces[-1]) + pieces[-1])
        return self.reply()


def send(
    port: int,
    content: bytes,
    recipients: Sequence[str] = ("joe@here.test",),
    *,
    sender: str = "someone@client.test",
    parameters: str = "",
    chunks: int = 0,
) -> str:
    """Bring one mail; gives its queue id.

    :param chunks: by BDAT in chunks of so many octets, not by DATA.
    """
    with Client(port) as client:
        client.open(recipients, sender, parameters)
        reply = client.bdat(content, chunks) if chunks else client.data(content)
        if not reply.startswith("250 2.0.0 Queued as "):
            raise AssertionError(reply)
        client.must("QUIT", "221")
        return reply.split()[-1]


def added_to(mail: bytes, content: bytes, binary: bool = False) -> bytes:
    """What a node put before ``content`` in a Maildir's file. :raises AssertionError: the content is not there
    octet for octet (LF for CRLF), or what stands before it is something else than trace fields.

    :param binary: only the header section has lines.
    """
    kept = content.replace(b"\r\n", b"\n")
    if binary:
        header, border, body = content.partition(b"\r\n\r\n")
        kept = header.replace(b"\r\n", b"\n") + b"\n\n" + body if border else kept
    if not mail.endswith(kept):
        raise AssertionError(f"the content is not as it was sent: {mail[:2000]!r}")
    added = mail[: len(mail) - len(kept)]
    if not _ADDED.match(added):
        raise AssertionError(f"not only trace fields stand before the content: {added!r}")
    return added


class ScriptedServer:
    """A plain SMTP server that answers each verb from a table, one session after the other; it keeps what it got.

    :param answers: verb → reply; what is not in it is answered with 250. ``END`` is the end of the content.
    :ivar mails: (reverse-path command, forward-path commands, content with its dots as on the wire).
    :ivar commands: every command line it was given.
    """

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self._answers = {"DATA": "354 go on", "QUIT": "221 bye", **(answers or {})}
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.commands: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, verb: str, reply: str) -> None:
        """Answer a verb so from now on."""
        self._answers[verb] = reply

    def close(self) -> None:
        """Listen no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(REPLY_TIME)
                try:
                    self._session(connection)
                except OSError:
                    pass

    def _session(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")

        def say(verb: str) -> None:
            connection.sendall(self._answers.get(verb, "250 ok").encode() + b"\r\n")

        mail, recipients = "", list[str]()
        connection.sendall(b"220 plain.test\r\n")
        while line := reader.readline():
            command = line.decode("utf-8").rstrip("\r\n")
            verb = command[:4].upper()
            self.commands.append(command)
            say(verb)
            if verb == "MAIL":
                mail, recipients = command, []
            elif verb == "RCPT":
                recipients.append(command)
            elif verb == "DATA" and self._answers["DATA"].startswith("354"):
                content = b""
                while (line := reader.readline()) != b".\r\n":
                    if not line:
                        return
                    content += line
                self.mails.append((mail, recipients, content))
                say("END ")
            elif verb == "QUIT":
                return


#: Knows nothing of ESMTP (RFC 821).
HELO_ONLY = {"EHLO": "502 not here"}
