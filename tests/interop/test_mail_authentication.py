"""Signed, checked, forwarded and sealed: real nodes, a real name server, keys made by ``mailnode dkim``."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.interop.node import Node, NodeTest
from tests.interop.wire import Client, send
from tests.interop.zone import NameServer

CONTENT = (
    b"From: Joe <joe@here.test>\r\nTo: someone\r\nSubject: signed\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <1@here.test>\r\n\r\nHello\r\n..\r\n"
)
#: Everything is checked, though it comes from this machine.
CHECKED = "[verification]\nexempt = []\n"


class AuthenticationTest(NodeTest):
    """``here.test`` signs; ``lists.test`` forwards to ``there.test``."""

    def setUp(self) -> None:
        super().setUp()
        self.zone: dict[str, dict[str, list[str]]] = {
            "here.test": {"TXT": ['"v=spf1 ip4:127.0.0.1 -all"']},
            "_dmarc.here.test": {"TXT": ['"v=DMARC1; p=reject"']},
            "lists.test": {"TXT": ['"v=spf1 ip4:127.0.0.1 -all"']},
            "1.0.0.127.in-addr.arpa": {"PTR": ["mx.here.test."]},
            "mx.here.test": {"A": ["127.0.0.1"]},
        }
        names = NameServer(self.zone)
        names.__enter__()
        self.addCleanup(names.__exit__)
        self.resolver = f'[resolver]\nservers = ["127.0.0.1:{names.port}"]\ntimeout = 1\n'

    def here(self, *next_hops: tuple[str, Node]) -> Node:
        """The node that signs, with routes to others; its keys are published."""
        routes = "".join(
            f'[[route]]\ndomain = "{domain}"\nnext_hop = "[127.0.0.1]:{node.port}"\n' for domain, node in next_hops
        )
        here = self.node(top='relay_from = ["127.0.0.0/8"]', tables=self.resolver + routes).start()
        self.publish(here, "here.test")
        return here

    def publish(self, node: Node, domain: str) -> None:
        """Make keys of a domain, and put their records into the zone."""
        node.command("dkim", "create", domain, "--now")
        for key in json.loads(node.command("dkim", "list", domain, "--json")):
            text: str = key["record"]
            self.zone[key["name"]] = {"TXT": [" ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))]}

    def there(self, tables: str = "") -> Node:
        """The node where mail ends."""
        return self.node(domain="there.test", tables=self.resolver + CHECKED + tables).start()

    def lists(self, there: Node) -> Node:
        """The node that forwards, and seals."""
        lists = self.node(
            domain="lists.test",
            tables=self.resolver
            + CHECKED
            + f'[[route]]\ndomain = "there.test"\nnext_hop = "[127.0.0.1]:{there.port}"\n'
            '[[alias]]\naddress = "all@lists.test"\nto = ["demo@there.test"]\n',
        ).start()
        self.publish(lists, "lists.test")
        return lists

    def checked(self, node: Node) -> dict[str, Any]:
        """What the node found out about the mail that came."""
        return node.wait_event("mail-checked")

    def test_signed(self) -> None:
        """A mail of ours passes everywhere: two signatures, SPF, iprev, DMARC; its first field says so."""
        there = self.there()
        here = self.here(("there.test", there))
        send(here.port, CONTENT, ["demo@there.test"], sender="joe@here.test")
        mail = there.wait_mail("demo", having=b"Subject: signed")
        found = self.checked(there)
        for method in ("iprev", "spf", "dkim", "dmarc"):
            self.assertEqual(found[method], "pass", found)
        results = re.search(rb"^Authentication-Results: mx\.there\.test;(?:[^\n]|\n[ \t])*", mail, re.MULTILINE)
        assert results is not None
        self.assertEqual(results[0].count(b"dkim=pass"), 2, "RSA and Ed25519")
        self.assertLess(mail.index(b"Authentication-Results"), mail.index(b"Received:"))
        rows = json.loads(there.command("dmarc-report", "show", "--json"))
        self.assertEqual(
            [(row["domain"], row["mails"], row["disposition"]) for row in rows], [("here.test", 1, "none")]
        )

    def test_forwarded(self) -> None:
        """A mail signed by us and forwarded by another node passes at a third: the signature is whole, and so is the
        seal."""
        there = self.there()
        lists = self.lists(there)
        here = self.here(("lists.test", lists))
        send(here.port, CONTENT, ["all@lists.test"], sender="joe@here.test")
        mail = there.wait_mail("demo", having=b"Subject: signed")
        found = self.checked(there)
        self.assertEqual((found["dkim"], found["dmarc"], found["arc"]), ("pass", "pass", "pass"), found)
        self.assertIn(b"ARC-Authentication-Results: i=1; mx.lists.test", mail)
        self.assertEqual(self.checked(lists)["dmarc"], "pass")

    def test_vouched(self) -> None:
        """Without a signature the forwarded mail fails DMARC: it is refused, unless the forwarder is trusted."""
        del self.zone["_dmarc.here.test"]
        self.zone["_dmarc.plain.test"] = {"TXT": ['"v=DMARC1; p=reject"']}
        self.zone["plain.test"] = {"TXT": ['"v=spf1 ip4:127.0.0.1 -all"']}
        content = CONTENT.replace(b"joe@here.test>", b"joe@plain.test>")
        trusting = self.there('trusted_sealers = ["lists.test"]\n')
        lists = self.lists(trusting)
        send(lists.port, content, ["all@lists.test"], sender="joe@plain.test")
        trusting.wait_mail("demo", having=b"Subject: signed")
        found = self.checked(trusting)
        self.assertEqual((found["dmarc"], found["arc"], found["action"]), ("fail", "pass", "note"), found)
        wary = self.there()
        lists = self.lists(wary)
        send(lists.port, content, ["all@lists.test"], sender="joe@plain.test")
        failed = lists.wait_event("recipient-failed")
        self.assertIn("550 5.7.26 DMARC of plain.test asks to reject: spf=pass for lists.test", failed["words"])

    def test_quarantine(self) -> None:
        """A domain that asks for quarantine gets it: the folder, and the field."""
        self.zone["_dmarc.here.test"] = {"TXT": ['"v=DMARC1; p=quarantine"']}
        self.zone["here.test"] = {"TXT": ['"v=spf1 -all"']}
        there = self.there('[delivery]\njunk_folder = "Junk"\n')
        with Client(there.port) as client:
            client.open(["demo@there.test"], sender="joe@here.test")
            self.assertTrue(client.data(CONTENT).startswith("250"))
        there.wait_event("recipient-delivered")
        (path,) = (there.maildir("demo") / ".Junk" / "new").iterdir()
        self.assertIn(b"\nX-Quarantine: dmarc; DMARC of here.test asks to quarantine", path.read_bytes())
        self.assertEqual(there.mails("demo"), [])

    def test_refused(self) -> None:
        """A forged mail is refused in the session, with words that say why."""
        self.zone["here.test"] = {"TXT": ['"v=spf1 exp=why.here.test -all"']}
        self.zone["why.here.test"] = {"TXT": ['"%{i} is none of ours"']}
        there = self.there(
            '[[check]]\nmethod = "spf"\nresults = ["fail"]\nrecipients = ["none.test"]\naction = "note"\n'
        )
        with Client(there.port) as client:
            client.open(["demo@there.test"], sender="joe@here.test")
            self.assertEqual(
                client.data(CONTENT),
                "550 5.7.26 DMARC of here.test asks to reject: spf=fail (client 127.0.0.1), dkim=none",
            )
        there.write(
            tables=self.resolver + CHECKED + '[[check]]\nmethod = "spf"\nresults = ["fail"]\naction = "refuse"\n'
        )
        there.command("reload")
        with Client(there.port) as client:
            client.open(["demo@there.test"], sender="joe@here.test")
            self.assertEqual(
                client.data(CONTENT),
                "550 5.7.23 SPF of here.test does not let 127.0.0.1 send for the reverse-path (-all); here.test says: "
                "127.0.0.1 is none of ours",
            )
