"""A whole node: the keys of SRS at its start and at a reload, and the way back of bounces."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.test_service import NodeCase
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.service import MailNode

ALIAS = '[[alias]]\naddress = "sales@here.test"\nto = ["far@elsewhere.test"]\n'
SENDER = Address("ann", "example.net")
FORWARDED = Recipient(Address("far", "elsewhere.test"), Address("sales", "here.test"))


class ForwardingTests(NodeCase):
    """``[srs]``."""

    def rewritten(self, node: MailNode) -> Address | None:
        """What the next hop of a forwarded mail is told."""
        rewrite = node.queue._attempts._rewrite
        assert rewrite is not None
        return rewrite(Envelope(SENDER), FORWARDED)

    def answer(self, address: Address, sender: str = "") -> bytes:
        """The reply to RCPT."""
        protocol, transport = self.connect()
        lines = ("EHLO c.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{address}>", "")
        protocol.dataReceived("\r\n".join(lines).encode())
        reply: bytes = transport.value().split(b"\r\n")[-2]
        protocol.connectionLost(Failure(ConnectionDone()))
        return reply

    def test_start(self) -> None:
        """The key is made at the first start and read at the next; bounces find their way, other mail does not."""
        node = self.start(tables=ALIAS)
        address = self.rewritten(node)
        assert address is not None
        self.assertEqual((self.state / "srs.key").stat().st_mode & 0o777, 0o600)
        self.assertTrue(self.answer(address).startswith(b"250"))
        self.assertTrue(self.answer(address, "spam@example.com").startswith(b"550 5.7.1"))
        forged = address._replace(local_part=address.local_part.replace("ann", "bob"))
        self.assertTrue(self.answer(forged).startswith(b"550 5.1.1"))

    def test_reload(self) -> None:
        """A new key counts from the reload on, and the old one is believed while it is there; a file that others may
        read is refused, and all stays as it was."""
        node = self.start(tables=ALIAS)
        path = self.state / "srs.key"
        old = self.rewritten(node)
        assert old is not None
        path.write_bytes(b"0123456789abcdef\n" + path.read_bytes())
        node.reload()
        new = self.rewritten(node)
        self.assertNotEqual(new, old)
        self.assertTrue(self.answer(old).startswith(b"250"))
        path.chmod(0o644)
        self.assertIn("chmod 600", str(self.assertRaises(ValueError, node.reload)))
        self.assertEqual(self.rewritten(node), new)
        path.chmod(0o600)
        self.write(tables=ALIAS + '[tls]\ntrusted = "missing.pem"\n[srs]\nenabled = false\n')
        self.assertRaises(ValueError, node.reload)
        self.assertEqual(self.rewritten(node), new)
        self.write(tables=ALIAS + "[srs]\nenabled = false\n")
        node.reload()
        self.assertIsNone(self.rewritten(node))
        self.assertTrue(self.answer(old).startswith(b"550 5.1.1"))

    def test_wrong_key_file(self) -> None:
        """With a key file that others may read the node does not start."""
        node = self.make(tables=ALIAS)
        self.state.mkdir()
        (self.state / "srs.key").write_bytes(b"0123456789abcdef\n")
        (self.state / "srs.key").chmod(0o644)
        self.assertIn("chmod 600", str(self.fails(node)))
