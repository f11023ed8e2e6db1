"""Who sent a mail is found out by the running node; its settings are read again with the others."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.dns.fake import FakeResolver
from tests.test_service import SETTINGS, NodeCase
from twisted_mail_node.dns.resolver import StubResolver
from twisted_mail_node.events_checked import MailChecked
from twisted_mail_node.message.header import first
from twisted_mail_node.state.dmarc_results import DmarcRow

CONTENT = b"From: ann@b.test\r\nSubject: hello\r\n\r\nHello.\r\n"
ZONE: dict[str, Any] = {
    "_dmarc.b.test": {"TXT": [b"v=DMARC1; p=reject"]},
    "b.test": {"TXT": [b"v=spf1 ip4:198.51.100.7 -all"]},
}


class VerificationTest(NodeCase):
    """A node whose DNS is a dict."""

    def setUp(self) -> None:
        super().setUp()
        names = FakeResolver(ZONE)
        self.patch(StubResolver, "query", lambda _, name, rdtype: names.query(name, rdtype))

    def set(self, tables: str) -> None:
        """Write settings with these tables about verification."""
        text = SETTINGS.replace("[verification]\nenabled = false\n", "")
        self.config.write_text(text.format(state=self.state, top="", tables=tables), "utf-8")

    def node(self, tables: str) -> Any:
        """A running node with them."""
        node = self.start()
        self.set(tables)
        node.reload()
        return node

    def bring(self, content: bytes, client: str) -> str:
        """A client brings a mail; gives the reply to its content."""
        self.content = content
        return self.mail(client=client).decode().splitlines()[-2]

    def results(self) -> bytes | None:
        """Authentication-Results of the newest mail in the mailbox."""
        self.reactor.until(lambda: "MailFinished" in self.observer.names())
        new = self.state / "mail" / "here.test" / "joe" / "new"
        path = max(new.iterdir(), key=lambda one: one.stat().st_mtime_ns)
        return first(path.read_bytes().replace(b"\n", b"\r\n"), b"Authentication-Results")

    def test_checked(self) -> None:
        """A mail that is what it says is taken, one that is not is refused; both are counted, also over a restart."""
        node = self.node("")
        self.assertIn("250 2.0.0", self.bring(CONTENT, "198.51.100.7"))
        self.assertIn(b"dmarc=pass header.from=b.test", self.results() or b"")
        self.assertEqual(
            self.bring(CONTENT, "198.51.100.8"),
            "550 5.7.26 DMARC of b.test asks to reject: spf=fail (client 198.51.100.8), dkim=none",
        )
        self.stop(node)
        self.assertEqual(self.counted(self.start()), {"none": 1, "reject": 1})

    def counted(self, node: Any) -> dict[str, int]:
        """What was counted today, by what was done."""
        rows: list[DmarcRow] = []
        done: list[object] = []

        async def count() -> None:
            rows.extend(await node.dmarc_results.counted(int(self.reactor.seconds() // 86400)))

        Deferred.fromCoroutine(count()).addBoth(done.append)
        self.reactor.until(lambda: done)
        return {row.disposition: row.mails for row in rows}

    def test_reload(self) -> None:
        """Rules, our name in the field, hosts of ours and the switch itself count from the next mail on."""
        node = self.node("")
        for tables, reply, field in (
            ('[[check]]\nmethod = "dmarc"\nresults = ["reject"]\naction = "note"\n', "250", b"mx.here.test;"),
            ('[verification]\nexempt = ["198.51.100.0/24"]\n', "250", None),
            ('[verification]\nauthserv_id = "here.test"\n[[check]]\nmethod = "dmarc"\nresults = ["reject"]\n'
             'action = "note"\n', "250", b"here.test;"),
            ("[verification]\nenabled = false\n", "250", None),
        ):  # fmt: skip
            self.set(tables)
            node.reload()
            self.observer.seen.clear()
            self.assertIn(reply, self.bring(CONTENT, "198.51.100.8"), tables)
            found = self.results()
            self.assertEqual(found is None, field is None, tables)
            if field is not None and found is not None:
                self.assertTrue(found.startswith(field), found)

    def test_wrong(self) -> None:
        """Wrong rules are refused, and those of before stay in force."""
        node = self.node("")
        self.set('[[check]]\nmethod = "dmark"\nresults = ["reject"]\naction = "note"\n')
        self.assertRaises(ValueError, node.reload)
        self.assertIn("550 5.7.26", self.bring(CONTENT, "198.51.100.8"))
        self.assertEqual([event.action for event in self.observer.seen if isinstance(event, MailChecked)], ["refuse"])
