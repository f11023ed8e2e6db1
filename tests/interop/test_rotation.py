"""Keys come and go at real name servers: BIND takes the node's updates (RFC 2136), a second BIND gets the zone later.

Whoever checks the mails asks unbound, which asks either server and remembers for a quarter of an hour that there was no
record: a node that signs a moment too early fails here as it would out there.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.interop.named import Named
from tests.interop.node import NodeTest, wait_for
from tests.interop.unbound import Unbound
from tests.interop.wire import send

ZONE = {"here.test": {"here.test": {"MX": ["10 mx.here.test."]}, "mx.here.test": {"A": ["127.0.0.1"]}}}


class Case(NodeTest):
    """``here`` signs and publishes; ``there`` gets its mail, and checks it."""

    timeout = 240

    def setUp(self) -> None:
        super().setUp()
        self.names = Named(ZONE)
        self.names.__enter__()
        self.addCleanup(self.names.__exit__)
        servers = {"here.test": [self.names.primary, self.names.secondary]}
        resolver = Unbound({}, unsigned={"test": {}}, elsewhere=servers)
        resolver.__enter__()
        self.addCleanup(resolver.__exit__)
        self.resolver = f'[resolver]\nservers = ["127.0.0.1:{resolver.port}"]\n'
        self.there = self.node(domain="there.test", tables=f"{self.resolver}[verification]\nexempt = []\n").start()
        self.here = self.node(top='relay_from = ["127.0.0.0/8"]', tables=self.tables())
        self.here.state.mkdir(mode=0o700)
        self.write_key(self.names.key_text)
        self.here.start()
        self.sent = 0

    def tables(self, update_server: str = "") -> str:
        """The settings of ``here``."""
        return (
            f'{self.resolver}[[route]]\ndomain = "there.test"\nnext_hop = "[127.0.0.1]:{self.there.port}"\n'
            f'[dkim]\nupdate_server = "{update_server or self.names.primary}"\nupdate_key_file = "update.key"\n'
            'retire_after = "5s"\n'
        )

    def write_key(self, text: str) -> None:
        """The key of updates."""
        path = self.here.state / "update.key"
        path.write_text(text, "ascii")
        path.chmod(0o600)

    def mail(self) -> set[str]:
        """Send a mail; every signature it has is checked there and passes. Gives the selectors."""
        self.sent += 1
        subject = f"mail {self.sent}."
        content = f"From: <joe@here.test>\r\nTo: demo\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()
        send(self.here.port, content, ["demo@there.test"], sender="joe@here.test")
        return self.arrived(self.there.wait_mail("demo", having=subject.encode()))

    def arrived(self, mail: bytes) -> set[str]:
        """What signed a mail that ``there`` took."""
        text = mail.decode("ascii")
        signed = re.findall(r"^DKIM-Signature:(?:[^\n]|\n[ \t])*?\bs=([^;\s]+)", text, re.MULTILINE)
        results = re.search(r"^Authentication-Results: mx\.there\.test;(?:[^\n]|\n[ \t])*", text, re.MULTILINE)
        assert results is not None, text
        self.assertEqual(results[0].count("dkim=pass"), len(signed), results[0])
        return set(signed)

    def keys(self, *words: str) -> list[dict[str, Any]]:
        """``mailnode dkim list``."""
        found: list[dict[str, Any]] = json.loads(self.here.command("dkim", "list", *words, "--json"))
        return found

    def in_state(self, state: str) -> set[str]:
        """The selectors in a state."""
        return {one["selector"] for one in self.keys() if one["state"] == state}

    def shown(self, address: str, selectors: set[str]) -> set[str]:
        """Those whose records a name server shows."""
        return {one for one in selectors if self.names.ask(address, f"{one}._domainkey.here.test", "TXT")}

    def create(self) -> set[str]:
        """Keys that are published at the primary, and not yet at the secondary."""
        made = json.loads(self.here.command("dkim", "create", "here.test", "--json"))
        selectors = {one["selector"] for one in made}
        self.assertEqual(len(selectors), 2, "RSA and Ed25519")
        wait_for(lambda: self.shown(self.names.primary, selectors) == selectors, "the update")
        return selectors

    def first(self) -> set[str]:
        """Keys that sign."""
        made = self.create()
        self.names.transfer()
        self.keys("--check")
        wait_for(lambda: self.in_state("active") == made, "keys that sign")
        return made


class RotationTest(Case):
    """New keys for old ones."""

    def test_waits(self) -> None:
        """A key is published by an update, and signs nothing while one of the two servers lacks its record; once both
        show it, it signs."""
        made = self.create()
        for one in self.keys("--check"):
            self.assertEqual(one["state"], "new")
            self.assertEqual(one["missing"], [f"ns2.here.test ({self.names.secondary}) does not show it"])
        # Nobody who remembers is asked for it, neither here: a postmaster may look as often as he likes.
        said = self.here.command("dns", "check", "here.test", code=None)
        self.assertIn(f"(new) is not published everywhere: ns2.here.test ({self.names.secondary}) does not", said)
        self.here.command("dns", "show", "here.test")
        time.sleep(3)  # longer than the node takes to do what follows from a check
        self.assertEqual(self.mail(), set())
        self.names.transfer()
        self.keys("--check")
        wait_for(lambda: self.in_state("active") == made, "keys that sign")
        self.assertEqual(self.mail(), made)
        self.assertEqual(self.here.command("dns", "check", "here.test", code=None).count("(active) is published."), 2)
        self.assertEqual(self.here.events("dkim-key-waiting"), [])

    def test_whole_life(self) -> None:
        """New keys take over, the old ones retire, their records go; killed three times on the way, the node goes on
        each time where it was. Every mail of that time passes."""
        old = self.first()
        self.assertEqual(self.mail(), old)
        kept = next(iter(self.there.mails("demo")))

        # It dies before it can publish.
        new = {one["selector"] for one in json.loads(self.here.command("dkim", "rotate", "here.test", "--json"))}
        self.here.kill()
        self.assertEqual(self.shown(self.names.primary, new), set())
        self.here.start()
        wait_for(lambda: self.shown(self.names.primary, new) == new, "the update after a crash")
        self.assertEqual(self.mail(), old)
        self.assertEqual((self.in_state("new"), self.in_state("active")), (new, old))

        # It dies while it waits for the secondary.
        self.here.kill()
        self.names.transfer()
        self.here.start()
        self.assertIn(self.mail(), (old, new))

        # It dies at the moment when the new keys take over.
        path = self.here.state / "dkim" / "here.test" / "keys.json"
        wait_for(lambda: '"retiring"' in path.read_text("ascii"), "keys that retire")
        self.here.kill()
        self.here.start()
        seen = wait_for(lambda: self.mail() if self.in_state("active") == new else set(), "the new keys")
        self.assertEqual(seen, new)

        # Mail that was under way meanwhile is checked with the old records.
        self.assertEqual(self.shown(self.names.secondary, old), old)
        signed = kept[kept.index(b"DKIM-Signature:") :].replace(b"\n", b"\r\n")
        send(self.there.port, signed, ["ann@there.test"], sender="joe@here.test")
        self.assertEqual(self.arrived(self.there.wait_mail("ann")), old)

        # The private keys go, then the records. It looks once a minute by itself; a check has it look now.
        def gone() -> bool:
            self.assertEqual(self.mail(), new)
            self.keys("--check")
            return not self.shown(self.names.primary, old)

        wait_for(gone, "the old records gone")
        self.assertEqual(self.in_state("retired"), old)
        self.assertEqual({path.stem for path in (self.here.state / "dkim" / "here.test").glob("*.pem")}, new)
        self.names.transfer()
        self.assertEqual(self.shown(self.names.secondary, old), set())
        self.assertEqual(self.mail(), new)
        wait_for(lambda: not any(one["published"] for one in self.keys() if one["state"] == "retired"), "a note of it")
        self.assertEqual({one["selector"] for one in self.here.events("dkim-key-retired")}, old)


class TroubleTest(Case):
    """A name server that does not do it says why, and the operator is told in words; once it is mended, a reload is
    enough."""

    def told(self, words: str) -> None:
        """The list comes to say this of keys that were not published."""
        wait_for(lambda: re.search(words, self.here.command("dkim", "list")), words)

    def mended(self) -> None:
        """Both keys are published."""
        made = {one["selector"] for one in self.keys()}
        self.here.command("reload")
        wait_for(lambda: self.shown(self.names.primary, made) == made, "the update")
        wait_for(lambda: not any(one["trouble"] for one in self.keys()), "an end of the trouble")

    def test_key(self) -> None:
        """A key with a name that the server does not know, and one with another secret."""
        self.write_key(self.names.key_text.replace('"mailnode"', '"other"'))
        self.here.command("reload")
        self.here.command("dkim", "create", "here.test")
        self.told(r"takes no updates with a key called other, .*BADKEY")
        self.write_key(re.sub(r'secret "...', 'secret "AAA', self.names.key_text))
        self.here.command("reload")
        self.told(r"has another secret for the key mailnode .*BADSIG")
        late = self.here.wait_event("dkim-key-waiting")
        self.assertIn("the record was not published: ", late["words"])
        self.write_key(self.names.key_text)
        self.mended()

    def test_server(self) -> None:
        """A server that knows no key, and one where nobody listens."""
        self.here.write(top='relay_from = ["127.0.0.0/8"]', tables=self.tables(self.names.secondary))
        self.here.command("reload")
        self.here.command("dkim", "create", "here.test")
        self.told(r"takes no updates with a key called mailnode, or none at all .*BADKEY.*update_server")
        self.here.write(top='relay_from = ["127.0.0.0/8"]', tables=self.tables("127.0.0.1:1"))
        self.here.command("reload")
        self.told(r"127\.0\.0\.1:1 cannot be reached by TCP: .*refused")
        self.here.write(top='relay_from = ["127.0.0.0/8"]', tables=self.tables())
        self.mended()

    def test_not_allowed(self) -> None:
        """A key that may not change that name."""
        self.names.grant("_elsewhere")
        self.here.command("dkim", "create", "here.test")
        self.told(r"refused the update: REFUSED \(update-policy does not let this key change TXT records")
        self.names.grant("_domainkey")
        self.mended()
