"""``mailnode test``: sends a mail through the running node by SMTP and follows it to where it lies.

Every step is printed with its time since the beginning; what fails is said with what to do about it.
"""

from __future__ import annotations

import smtplib
import socket
import time
from collections.abc import Callable
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from twisted_mail_node.admin.control_client import ControlClient, ControlError, NodeNotRunning
from twisted_mail_node.admin.following import EventLogTail, Step, by_log, by_queue
from twisted_mail_node.admin.looks import cut, duration
from twisted_mail_node.admin.mails import NodeMails
from twisted_mail_node.message.address import Address
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.directory.directory import Directory
    from twisted_mail_node.settings import Settings

#: Seconds the node may take for one reply.
REPLY_TIME = 30.0
#: The node's sentence before the queue id in its reply to the content.
_QUEUED = "queued as "


class Place(NamedTuple):
    """Where a listener can be reached."""

    host: str
    port: int


class TestFailed(Exception):
    """The mail did not arrive; the sentences say why and what to do."""

    __test__ = False


def place_of(endpoint: str) -> Place | None:
    """Where a listener's endpoint string can be reached from this machine; ``None`` when that is not in it."""
    from twisted_mail_node.settings_endpoint import split

    try:
        (kind, *positional), named = split(endpoint)
        port = int(named.get("port") or positional[0])
    except (ValueError, IndexError):
        return None
    if kind not in ("tcp", "tcp6") or not port:
        return None
    interface = named.get("interface") or ""
    if interface in ("", "0.0.0.0", "::"):
        interface = "127.0.0.1" if kind == "tcp" else "::1"
    return Place(interface, port)


class TestMail:
    """One test of a node.

    :param recipient: whom to send to; without it the first account there is.
    :param host: where to connect; without it where the node's first ``mx`` listener is.
    :param wait: seconds to follow the mail after it was accepted.
    :param say: prints one line.
    """

    __test__ = False

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], object],
        recipient: str | None = None,
        sender: str | None = None,
        host: str | None = None,
        port: int | None = None,
        wait: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._say = say
        self._recipient = recipient
        self._sender = sender if sender is not None else f"postmaster@{settings.hostname}"
        self._host = host
        self._port = port
        self._wait = wait
        self._sleep = sleep
        self._client = ControlClient(settings.state_dir)
        self._message_id = make_msgid(domain=settings.hostname)
        self._begin = time.time()

    def run(self) -> int:
        """Do it; gives the exit code."""
        try:
            directory = self._directory()
            recipient = self._recipient or self._first_account(directory)
            place = self._place()
            log = self._log()
            reply = self._send(place, recipient)
            self._follow(reply, log, directory)
        except TestFailed as failure:
            self._say(f"\nIt did not work. {failure}")
            return 1
        return 0

    # ---- what is needed before

    def _directory(self) -> Directory:
        from twisted_mail_node.directory.directory import Directory

        try:
            return Directory(self._settings)
        except ValueError as error:
            raise TestFailed(f"The accounts cannot be read: {error}") from error

    def _first_account(self, directory: Directory) -> str:
        for account in directory.accounts():
            return str(account.address)
        raise TestFailed(
            "Nobody has an account here yet. Say whom to write to (--to), or: mailnode account add ADDRESS"
        )

    def _place(self) -> Place:
        if self._port is not None:
            return Place(self._host or "127.0.0.1", self._port)
        endpoints = [one.endpoint for one in self._settings.listeners if one.kind == "mx"]
        endpoints += [one.endpoint for one in self._settings.listeners if one.kind != "mx"]
        for place in map(place_of, endpoints):
            if place is not None:
                return place if self._host is None else Place(self._host, place.port)
        raise TestFailed("The settings do not say at which port the node listens; give --host and --port.")

    def _log(self) -> EventLogTail | None:
        path = self._settings.log.path
        return None if path == "-" else EventLogTail(self._settings.state_dir / path)

    # ---- the mail goes in

    def _send(self, place: Place, recipient: str) -> str:
        """Send it; gives the node's reply to the content."""
        self._begin = time.time()
        smtp = smtplib.SMTP(timeout=REPLY_TIME)
        try:
            greeting = smtp.connect(place.host, place.port)
            self._tell(f"connected to {place.host}:{place.port}")
            self._expect("the greeting", greeting)
            self._expect("EHLO", smtp.ehlo("test.localhost"))
            options = [] if (self._sender + recipient).isascii() else ["SMTPUTF8"]
            if options:
                smtp.command_encoding = "utf-8"
            self._expect(f"MAIL FROM:<{self._sender}>", smtp.mail(self._sender, options))
            self._expect(f"RCPT TO:<{recipient}>", smtp.rcpt(recipient))
            reply = self._expect("the content", smtp.data(self._content(recipient)))
            smtp.quit()
            return reply
        except ConnectionRefusedError:
            raise TestFailed(self._nobody_listens(place)) from None
        except smtplib.SMTPServerDisconnected:
            raise TestFailed("The node closed the connection; its log says why.") from None
        except TimeoutError:
            raise TestFailed(f"The node said nothing for {REPLY_TIME:g} s.") from None
        except (OSError, socket.gaierror) as error:
            raise TestFailed(f"{place.host}:{place.port} cannot be reached: {error}") from None
        finally:
            smtp.close()

    def _nobody_listens(self, place: Place) -> str:
        try:
            running = self._client.is_running()
        except ControlError as error:
            return f"Nobody listens on {place.host}:{place.port}, and {error}."
        if running:
            return f"A node is running, but nobody listens on {place.host}:{place.port}; see: mailnode status"
        return (
            f"No node is running here: nobody listens on {place.host}:{place.port}. Start one in another terminal: "
            "mailnode run"
        )

    def _content(self, recipient: str) -> bytes:
        return (
            f"From: <{self._sender}>\r\n"
            f"To: <{recipient}>\r\n"
            "Subject: A test of this mail node\r\n"
            f"Date: {formatdate(localtime=True)}\r\n"
            f"Message-ID: {self._message_id}\r\n"
            "\r\n"
            "mailnode test sent this mail to see whether mail arrives. It may be deleted.\r\n"
        ).encode()

    def _expect(self, step: str, answer: tuple[int, bytes]) -> str:
        code, octets = answer
        text = printable(octets.decode("utf-8", "replace").replace("\n", " "))
        self._tell(f"{step}: {code} {cut(text, 100)}")
        if 200 <= code < 300:
            return text
        words = f"The node refused {step} with {code} {cut(text, 300)}"
        if "5.1.1" in text:
            raise TestFailed(f"{words}. Nobody has that address; give it an account: mailnode account add ADDRESS")
        if "5.7.1" in text:
            raise TestFailed(f"{words}. To relay for this client, put its network into relay_from of the settings.")
        raise TestFailed(f"{words}." + (" It may work later." if 400 <= code < 500 else ""))

    # ---- the mail goes its way

    def _follow(self, reply: str, log: EventLogTail | None, directory: Directory) -> None:
        at = reply.lower().rfind(_QUEUED)
        if at < 0:
            self._say("\nThe node took the mail, but named no queue id to follow it by.")
            return
        queue_id = reply[at + len(_QUEUED) :].split()[0]
        until = time.time() + self._wait
        by = f"mailnode queue show {queue_id}"
        try:
            if log is not None:
                steps = by_log(log, queue_id, until, self._sleep)
            else:
                steps = by_queue(NodeMails(self._client), queue_id, until, self._sleep)
            for step in steps:
                self._tell_step(step, directory)
                if step.kind == "mail-finished":
                    arrived = "has arrived" if log is not None else "has left the queue"
                    self._say(f"\nThe mail {arrived}, {duration(step.when - self._begin)} after the first octet.")
                    return
        except NodeNotRunning:
            self._say(
                "\nThe node took the mail. It has no control socket here, so the mail cannot be followed further."
            )
            return
        except ControlError as error:
            raise TestFailed(f"The node took the mail, but cannot be asked about it: {error}") from None
        raise TestFailed(f"The mail is safe in the spool, but did not arrive within {self._wait:g} s. See: {by}")

    def _tell_step(self, step: Step, directory: Directory) -> None:
        facts = {key: printable(str(value)) for key, value in step.facts.items()}
        recipient = facts.get("recipient", "")
        if step.kind == "recipient-delivered":
            self._tell(f"delivered to {recipient}", step.when)
            file = self._file(recipient, directory)
            if file is not None:
                self._say(f"{'':11}{file}")
        elif step.kind == "recipient-relayed":
            host = f"{facts.get('host')} [{facts.get('address')}]"
            self._tell(f"relayed for {recipient} to {host}: {facts.get('reply')}", step.when)
        elif step.kind == "recipient-delayed":
            next_time = duration(max(0.0, float(facts["due"]) - time.time()))
            self._tell(f"{recipient} must wait: {facts.get('words')}; the next attempt is in {next_time}", step.when)
            raise TestFailed("The mail is safe in the spool and will be tried again. See: mailnode queue list")
        elif step.kind == "recipient-failed":
            self._tell(f"{recipient} failed: {facts.get('words')}", step.when)
            raise TestFailed("The mail was given up; a DSN goes to its sender.")
        elif step.kind == "mail-held":
            self._tell(f"held: {facts.get('words')}", step.when)
            raise TestFailed("The mail waits for an operator. See: mailnode queue release --help")

    def _file(self, recipient: str, directory: Directory) -> Path | None:
        """The mail's file in the Maildir, found by its Message-ID."""
        local_part, _, domain = recipient.rpartition("@")
        wanted = self._message_id.encode()
        try:
            new = directory.maildir_path(Address(local_part.strip('"'), domain)) / "new"
            files = sorted(new.iterdir(), key=lambda file: file.name, reverse=True)
            for file in files[:1000]:
                with open(file, "rb") as mail:
                    if wanted in mail.read(4096):
                        return file
        except (OSError, ValueError):
            pass
        return None

    def _tell(self, words: str, when: float | None = None) -> None:
        passed = ((when or time.time()) - self._begin) * 1000
        self._say(f"{max(0.0, passed):7.1f} ms {words}")
