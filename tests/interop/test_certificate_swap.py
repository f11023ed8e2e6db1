"""A certificate is replaced while mail comes in: nobody is disconnected, and new sessions see the new one."""

from __future__ import annotations

import smtplib
import ssl
import threading
import time

from cryptography import x509

from tests.interop.mails import plain
from tests.interop.node import NodeTest, wait_for
from tests.interop.secure import PASSWORD, SecureNode, write_secret

#: Sessions at a time; half of them stay, half are new for each mail. They come by each listener in turn.
SESSIONS = 20
SWAPS = 5
#: Seconds a new certificate may take to be in use.
SWAP_TIME = 15.0
#: Seconds between a mail's end and the next in one session: the machine is to have time for the swaps.
PAUSE = 0.05
REPLY_TIME = 60.0


class _Sender(threading.Thread):
    """Brings mail until it is told to stop.

    :ivar brought: mails that were accepted. :ivar serials: of the certificates it saw, in their order.
    :ivar failed: what went wrong.
    """

    def __init__(self, node: SecureNode, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._way = ("starttls", "implicit", "mx")[number % 3]
        self._kept = number % 2 == 0
        self._node = node
        self._context = trusting(node)
        self._stop_asked = stop
        self.brought: list[str] = []
        self.serials: list[int] = []
        self.failed = ""
        self.name = f"sender {number} ({self._way}, {'kept' if self._kept else 'new'})"

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                with connect(self._node, self._way, self._context) as client:
                    self.serials.append(serial_of(client))
                    self._bring(client)
                    while self._kept and not self._stop_asked.is_set():
                        self._bring(client)
        except Exception as error:
            self.failed = f"{self.name}, after {len(self.brought)} mails: {type(error).__name__}: {error}"

    def _bring(self, client: smtplib.SMTP) -> None:
        sender = "someone@client.test" if self._way == "mx" else "ann@here.test"
        subject = f"{self.name.replace(' ', '-')} {len(self.brought)}"
        content = plain(subject).replace(b"someone@client.test", sender.encode())
        refused = client.sendmail(sender, ["joe@here.test"], b"Date: Tue, 03 Mar 2026 10:11:12 +0000\r\n" + content)
        if refused:
            raise AssertionError(str(refused))
        self.brought.append(subject)
        self._stop_asked.wait(PAUSE)


def trusting(node: SecureNode) -> ssl.SSLContext:
    """A client's context that verifies the node's certificate."""
    return ssl.create_default_context(cafile=str(node.authority.root))


def connect(node: SecureNode, way: str, context: ssl.SSLContext) -> smtplib.SMTP:
    """A session that is secured, and signed in on a submission listener."""
    port = node.ports[way]
    if way == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, "client.test", timeout=REPLY_TIME, context=context)
    else:
        client = smtplib.SMTP("localhost", port, "client.test", timeout=REPLY_TIME)
        client.starttls(context=context)
    if way != "mx":
        client.login("ann@here.test", PASSWORD)
    return client


def serial_of(client: smtplib.SMTP) -> int:
    """Of the certificate that the server showed."""
    sock = client.sock
    assert isinstance(sock, ssl.SSLSocket)
    shown = sock.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


class CertificateSwapTest(NodeTest):
    """Certificate and key are two files, as most tools write them: for a moment they do not fit each other."""

    def test_under_load(self) -> None:
        """20 sessions send mail while the certificate changes five times: none drops, all mail arrives."""
        here = SecureNode(tables="[submission]\nmails_per_hour = 0\n")
        self.addCleanup(here.close)
        here.start()
        stop = threading.Event()
        senders = [_Sender(here, number, stop) for number in range(SESSIONS)]
        for sender in senders:
            sender.start()
        try:
            wait_for(lambda: all(one.brought or one.failed for one in senders), "a mail in every session", 60)
            serials = [here.serial, *(self.swap(here) for _ in range(SWAPS))]
            time.sleep(1)
        finally:
            stop.set()
            for sender in senders:
                sender.join(REPLY_TIME)
        self.assertEqual([one.failed for one in senders if one.failed], [])
        self.assertEqual([one.name for one in senders if one.is_alive()], [])
        for sender in senders:
            # Never back to an older one.
            places = [serials.index(serial) for serial in sender.serials]
            self.assertEqual(places, sorted(places), sender.name)
        seen = {serial for sender in senders for serial in sender.serials}
        self.assertEqual(seen, set(serials))
        self.arrived(here, senders)

    def swap(self, here: SecureNode) -> int:
        """Replace the certificate: the key, a moment later the chain. Sessions show the new one within seconds."""
        chain, key, serial = here.authority.issue("localhost", "mx.here.test")
        write_secret(here.certificates / "here.key", key)
        time.sleep(0.5)
        write_secret(here.certificates / "here.crt", chain)
        context = trusting(here)

        def shown() -> bool:
            with connect(here, "mx", context) as client:
                return serial_of(client) == serial

        wait_for(shown, "the new certificate", SWAP_TIME)
        return serial

    def arrived(self, here: SecureNode, senders: list[_Sender]) -> None:
        """Every mail that was accepted lies in the mailbox, once."""
        wanted = sorted(subject for sender in senders for subject in sender.brought)
        self.assertGreater(len(wanted), 10 * SESSIONS)

        def subjects() -> list[str]:
            lines = (line for mail in here.mails("joe") for line in mail.split(b"\n\n", 1)[0].split(b"\n"))
            return sorted(line[9:].decode() for line in lines if line.startswith(b"Subject: "))

        wait_for(lambda: len(subjects()) >= len(wanted), "the mails' arrival")
        self.assertEqual(subjects(), wanted)
