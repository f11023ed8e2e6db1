"""Signing in the node: whose mail is signed, what a start and a reload do with keys, what is left when it stops."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.signing.others import verified
from tests.test_service import NOW, NodeCase
from twisted_mail_node.mailauth import dkim_sign
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.header import count
from twisted_mail_node.service import MailNode
from twisted_mail_node.signing import queue as signing_queue
from twisted_mail_node.signing.custody import Custody
from twisted_mail_node.signing.files import KeyFiles
from twisted_mail_node.signing.rotation import LOOK_EVERY
from twisted_mail_node.signing.shown import NameServers, Shown

OURS = "192.0.2.9"
CONTENT = b"From: joe@here.test\r\nTo: ann@there.test\r\nSubject: hello\r\n\r\nHello.\r\n"


class SigningTest(NodeCase):
    """A node with a key."""

    def begin(self, top: str = "", tables: str = "") -> MailNode:
        settings = self.write(top, tables)
        self.files = KeyFiles(self.state)
        self.custody = Custody(settings, self.files, lambda: NOW)
        self.custody.create("here.test", ["ed25519", "rsa"], selector="k", at_once=True)
        return self.start(top, tables)

    def bring(
        self, content: bytes = CONTENT, *, to: str = "joe@here.test", listener: int = 0, client: str = OURS
    ) -> bytes:
        """Bring a mail; gives the reply to its content."""
        protocol, transport = self.connect(listener, client)
        protocol.dataReceived(
            b"EHLO client.test\r\nMAIL FROM:<joe@here.test>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n%sQUIT\r\n"
            % (to.encode(), len(CONTENT), CONTENT)
        )
        self.reactor.until(lambda: transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        replies: bytes = transport.value()
        return replies.splitlines()[-2]

    def delivered(self, mails: int = 1) -> list[bytes]:
        """What was delivered to joe, as it was in the spool."""
        self.reactor.until(lambda: self.observer.names().count("MailFinished") >= mails)
        files = sorted(
            (self.state / "mail" / "here.test" / "joe" / "new").iterdir(), key=lambda one: one.stat().st_mtime_ns
        )
        return [file.read_bytes().replace(b"\n", b"\r\n") for file in files]

    def verified(self, mail: bytes) -> list[bool]:
        """What dkimpy says of each signature."""
        return verified(mail, "here.test", self.files.read("here.test"), NOW)

    def test_own_people(self) -> None:
        """Mail of those who may relay is signed, on every listener."""
        self.begin()
        for listener in (0, 1):
            self.assertIn(b"250 2.0.0 Queued as", self.bring(listener=listener))
        for mail in self.delivered(2):
            self.assertEqual(self.verified(mail), [True, True])

    def test_strangers(self) -> None:
        """Who comes from elsewhere is not signed for, whatever From says."""
        self.begin()
        self.bring(client="198.51.100.7")
        (mail,) = self.delivered()
        self.assertEqual(count(mail, b"DKIM-Signature"), 0)

    def test_dsn(self) -> None:
        """A DSN, whose author is the host, is signed with the keys of the domain that the host is in."""
        node = self.begin()
        node.suppressions.add(Address("ann", "there.test"), "asked us to")
        self.bring(to="ann@there.test")
        (mail,) = self.delivered(2)
        self.assertIn(b"From: Mail Delivery System <mailer-daemon@mx.here.test>", mail)
        self.assertEqual(self.verified(mail), [True, True])

    def test_trouble(self) -> None:
        """Where signing fails, submission is refused for now, and a DSN goes unsigned, with its event."""

        sign = dkim_sign.sign
        breaking = [b"joe@here.test"]

        def broken(header: bytes, *arguments: Any, **more: Any) -> bytes:
            if b"From: " + breaking[0] in header:
                raise RuntimeError("broken")
            return sign(header, *arguments, **more)

        self.patch(signing_queue, "sign", broken)
        node = self.begin()
        node.suppressions.add(Address("ann", "there.test"), "asked us to")
        self.assertTrue(self.bring().startswith(b"451 4.3.0"))
        breaking[0] = b"Mail Delivery System"
        self.assertIn(b"250", self.bring(to="ann@there.test"))
        (mail,) = self.delivered(2)
        self.assertIn(b"From: Mail Delivery System", mail)
        self.assertNotIn(b"DKIM-Signature", mail.partition(b"\r\n\r\n")[0])
        self.assertIn("MailNotSigned", self.observer.names())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_disabled(self) -> None:
        """With enabled = false nothing is signed, from the next reload on."""
        node = self.begin()
        self.write(tables="[dkim]\nenabled = false\n")
        node.reload()
        self.bring()
        (mail,) = self.delivered()
        self.assertEqual(count(mail, b"DKIM-Signature"), 0)

    def test_taken_up(self) -> None:
        """Keys of a domain that a reload makes local sign from then on."""
        node = self.begin()
        self.custody = Custody(self.write(tables='[[domain]]\nname = "more.test"\n'), self.files, lambda: NOW)
        self.custody.create("more.test", ["ed25519"], at_once=True)
        keys = node._parts.way_out.signing.keys
        self.assertEqual(keys.of("more.test"), ())
        node.reload()
        self.assertEqual(len(keys.of("more.test")), 1)

    def test_wide(self) -> None:
        """With a private key that others may read (attack T40) the node does not start; a reload changes nothing."""
        node = self.begin()
        path = self.state / "dkim" / "here.test" / "kr.pem"
        path.chmod(0o640)
        self.files.change("here.test", lambda keys: (keys[0], keys[1]._replace(record=keys[1].record + ";")))
        with self.assertRaisesRegex(ValueError, f"chmod 0600 {path}"):
            node.reload()
        self.assertEqual(len(node._parts.way_out.signing.keys.of("here.test")), 2)
        self.stop(node)
        error = self.fails(self.make())
        self.assertIn(f"chmod 0600 {path}", str(error))
        self.assertTrue(self.is_free())

    def test_waits(self) -> None:
        """A key that is made while the node runs signs once it is seen; a stop leaves no timer behind."""
        shown: list[Any] = []

        async def show(servers: NameServers, selector: str, domain: str, record: str) -> Shown:
            shown.append(selector)
            return Shown("here.test", 1, ())

        self.patch(NameServers, "shown", show)
        node = self.begin()
        self.custody.create("here.test", ["ed25519"], selector="new")
        keys = node._parts.way_out.signing.keys
        self.assertEqual(len(keys.of("here.test")), 2)
        self.reactor.advance(LOOK_EVERY)
        self.reactor.until(lambda: len(keys.of("here.test")) == 3)
        self.assertEqual(shown, ["new"])
        self.stop(node)
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if "Rotation" in str(call)], [])
