"""The whole life of a key over real sockets: a name server on loopback takes updates, and shows what it took."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.dns.zones import ZoneServer
from tests.signing.receiver import KEY_FILE, Receiver
from twisted_mail_node.dns.resolver import StubResolver
from twisted_mail_node.dns.transport import SocketTransport
from twisted_mail_node.events import Event
from twisted_mail_node.settings import Domain, Settings
from twisted_mail_node.settings_signing import DkimSettings
from twisted_mail_node.signing import rotation
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.publishing import updates_of
from twisted_mail_node.signing.rotation import Rotation
from twisted_mail_node.signing.shown import NameServers

#: Seconds the whole may take.
TIME = 20.0


class LoopbackTest(TestCase):
    """Nobody does anything but give two orders."""

    timeout = TIME

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name)
        (self.state / "update.key").write_text(KEY_FILE)
        (self.state / "update.key").chmod(0o600)
        self.zone = Receiver(
            {
                "example.org": {"NS": ["ns.example.org."], "SOA": []},
                "ns.example.org": {"A": ["127.0.0.1"]},
            }
        )
        self.server = ZoneServer(self.zone, reactor)
        self.server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.stop()))
        self.events: list[Event] = []
        self.patch(rotation, "FIRST_LOOK", 0.01)
        self.patch(rotation, "LOOK_EVERY", 0.05)
        settings = Settings(
            hostname="mx.example.org",
            state_dir=self.state,
            domains=(Domain(name="example.org"),),
            dkim=DkimSettings(
                update_server=("127.0.0.1", self.server.port), update_key_file="update.key", retire_after=0.2
            ),
        )
        self.keys = SigningKeys.loaded(settings)
        resolver = StubResolver(servers=[("127.0.0.1", self.server.port)], reactor=reactor, hosts="/nonexistent")
        transport = SocketTransport(reactor, reactor)
        self.rotation = Rotation(
            settings,
            self.keys,
            servers=NameServers.over(resolver, reactor, self.server.port),
            updates=updates_of(settings.dkim, self.state, transport, reactor),
            reactor=reactor,
            publish=self.events.append,
        )
        self.addCleanup(self.rotation.stop)
        self.rotation.start()

    async def until(self, there: Callable[[], object]) -> None:
        while not there():
            await deferLater(reactor, 0.01)

    def signing(self) -> list[str]:
        return [key.selector for key in self.keys.of("example.org")]

    def shown(self) -> list[str]:
        return sorted(name.partition(".")[0] for name in self.zone.table if "_domainkey" in name)

    def test_check(self) -> Deferred[None]:
        """The command line asks name servers by itself while the node is down."""
        return Deferred.fromCoroutine(self._check())

    async def _check(self) -> None:
        self.rotation.stop()
        config = self.state / "settings.toml"
        config.write_text(
            f'hostname = "mx.example.org"\nstate_dir = "{self.state}"\n[[listener]]\nkind = "mx"\nendpoint = "tcp:0"\n'
            f'[[domain]]\nname = "example.org"\n[resolver]\nservers = ["127.0.0.1:{self.server.port}"]\n'
        )
        command = ["-m", "twisted_mail_node.admin.cli", "dkim"]
        for words in (["create", "example.org", "--kind", "ed25519", "--selector", "k"], ["list", "--check"]):
            output, errors, code = await getProcessOutputAndValue(
                sys.executable, [*command, *words], {**os.environ, "MAILNODE_SETTINGS": str(config)}
            )
            self.assertEqual(code, 0, errors)
        # Where the name servers are asked (port 53 of this machine) there is nobody, or somebody without the record.
        self.assertIn(b"ns.example.org (127.0.0.1) ", output)
        self.assertIn(("example.org", "NS"), self.zone.asked)

    def test_life(self) -> Deferred[None]:
        """Made, published with TSIG, seen, used, replaced, and taken out of the DNS again."""
        return Deferred.fromCoroutine(self._life())

    async def _life(self) -> None:
        await self.rotation.create("example.org", ["rsa"], selector="old")
        self.assertEqual(self.signing(), [])
        await self.until(self.signing)
        self.assertEqual((self.signing(), self.shown()), (["old"], ["old"]))
        (new,) = (await self.rotation.rotate("example.org")).made
        await self.until(lambda: self.signing() == [new.selector])
        await self.until(lambda: self.shown() == [new.selector])
        self.assertEqual(
            [type(event).__name__ for event in self.events],
            ["DkimKeyCreated", "DkimKeyActivated", "DkimKeyCreated", "DkimKeyActivated", "DkimKeyRetired"],
        )
        await self.until(lambda: self.rotation._looking is None)
        self.rotation.stop()
        resolver_asked = [name for name, rdtype in self.zone.asked if rdtype == "NS"]
        self.assertEqual([name for name in resolver_asked if "_domainkey" in name], [])
