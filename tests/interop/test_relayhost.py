"""A node signs in at a relayhost, which is another node's submission listener, over real TLS."""

from __future__ import annotations

from pathlib import Path

from tests.interop.mails import plain
from tests.interop.node import Node, NodeTest
from tests.interop.secure import PASSWORD, SecureNode, write_secret
from tests.interop.wire import send

WRONG = "not the password 42"


class RelayhostTest(NodeTest):
    """A relays what joe writes through B, which wants AUTH."""

    def setUp(self) -> None:
        (there,) = self.shared(lambda: (SecureNode(),))
        assert isinstance(there, SecureNode)
        self.there = there

    def here(self, password: str = PASSWORD, tls: str = "verified", *, trusted: bool = True, more: str = "") -> Node:
        """Start A."""
        node = Node(domain="away.test")
        self.addCleanup(node.close)
        self.file = Path(node.state / "secrets" / "relayhost")
        self.file.parent.mkdir(parents=True)
        write_secret(self.file, password.encode() + b"\n")
        trust = f'[tls]\ntrusted = "{self.there.authority.root}"\n' if trusted else ""
        node.write(
            top='relay_from = ["127.0.0.0/8"]',
            tables=f'{trust}[[route]]\ndomain = "here.test"\nsenders = ["joe@here.test"]\n'
            f'next_hop = "[127.0.0.1]:{self.there.ports["starttls"]}"\ntls = "{tls}"\n'
            f'username = "joe@here.test"\npassword_file = "secrets/relayhost"\n{more}',
        )
        return node.start()

    def send(self, node: Node, subject: str) -> str:
        """A mail of joe's."""
        return send(
            node.port,
            plain(subject).replace(b"someone@client.test", b"joe@here.test"),
            ["ann@here.test"],
            sender="joe@here.test",
        )

    def assert_secret(self, node: Node) -> None:
        """T40: no password in anything that the nodes wrote or say, but in its file."""
        texts = [node.running.out, node.running.err, node.command("status", "--json"), node.command("queue", "list")]
        for one in (node, self.there):
            texts += [
                path.read_bytes().decode("latin-1")
                for path in one.state.rglob("*")
                if path.is_file() and path != self.file
            ]
        for text in texts:
            for secret in (PASSWORD, WRONG):
                self.assertNotIn(secret, text)

    def test_signed_in(self) -> None:
        """The mail arrives as that of the account, over TLS, by the best mechanism, bound to the session."""
        node = self.here()
        queue_id = self.send(node, "relayhost")
        event = node.wait_event("recipient-relayed", queue_id=queue_id)
        self.assertIn(", verified", event["tls"])
        mail = self.there.wait_mail("ann", b"Subject: relayhost")
        self.assertIn(b" with ESMTPSA ", mail)
        self.there.wait_event("signed-in", client="127.0.0.1", account="joe@here.test", mechanism="SCRAM-SHA-256-PLUS")
        self.assert_secret(node)
        self.assertEqual(node.stop(), 0)

    def test_wrong_password(self) -> None:
        """A wrong password delays, in words for the operator; when the file is put right the mail goes, without a
        reload."""
        node = self.here(WRONG)
        queue_id = self.send(node, "mended")
        event = node.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual((event["reason"], event["status"]), ("sign-in-refused", "4.7.8"))
        self.assertIn("127.0.0.1 refused to sign joe@here.test in", event["words"])
        self.assertIn("535 5.7.8", event["words"])
        self.assertIn("see route[1]", event["words"])
        self.assertIn("sign-in-refused", node.command("queue", "show", queue_id))
        self.assertEqual(node.events("recipient-failed"), [])
        write_secret(self.file, PASSWORD.encode() + b"\n")
        node.command("queue", "retry", queue_id)
        self.there.wait_mail("ann", b"Subject: mended")
        self.assert_secret(node)
        self.assertEqual(node.stop(), 0)

    def test_not_trusted(self) -> None:
        """A relayhost whose certificate nobody vouches for is not signed in at where the route wants it verified."""
        node = self.here(trusted=False)
        queue_id = self.send(node, "stranger")
        event = node.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(event["reason"], "tls-failed")
        self.assertEqual(node.stop(), 0)

    def test_source(self) -> None:
        """The connection comes from the route's pool; the log tells the address."""
        more = 'source = "out"\n[[source]]\npool = "out"\naddress = "127.0.0.9"\nhostname = "out.away.test"\n'
        node = self.here(more=more)
        queue_id = self.send(node, "source")
        event = node.wait_event("recipient-relayed", queue_id=queue_id)
        self.assertEqual(event["source"], "127.0.0.9")
        mail = self.there.wait_mail("ann", b"Subject: source")
        self.assertIn(b"out.away.test", mail)
        self.there.wait_event("signed-in", client="127.0.0.9")
        self.assertEqual(node.stop(), 0)

    def test_wide_mode(self) -> None:
        """A password that others can read is refused at the start, with what to do."""
        node = self.here()
        self.assertEqual(node.stop(), 0)
        self.file.chmod(0o644)
        self.assertNotEqual(node.launch().wait(), 0)
        self.assertIn("route[1]: others can read password_file", node.running.err + node.running.out)
