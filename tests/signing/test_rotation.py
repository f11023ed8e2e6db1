"""Tests of how keys come and go while the node runs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import dns.rcode
from twisted.internet.defer import Deferred

from tests.dns.fake import FakeResolver
from tests.signing.receiver import KEY_FILE, MemoryTransport, Receiver
from tests.signing.test_keys import NOW
from tests.signing.test_keys import Case as KeysCase
from tests.threads import ThreadsAtOnce
from twisted_mail_node.dns.answer import DNSError, Record
from twisted_mail_node.dns.transport import Server
from twisted_mail_node.events import Event
from twisted_mail_node.events_signing import DkimKeyActivated, DkimKeyCreated, DkimKeyRetired, DkimKeyWaiting
from twisted_mail_node.settings import Settings
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.life import FORGET_AFTER
from twisted_mail_node.signing.publishing import Updates, read_update_key
from twisted_mail_node.signing.rotation import EAGER, FIRST_LOOK, LATE, LOOK_EVERY, PATIENT, Rotation
from twisted_mail_node.signing.shown import NameServers

DAY = 86400.0


class Case(KeysCase):
    """A node whose clock is turned, and two name servers."""

    #: Whether the node publishes.
    publishes = False

    def setUp(self) -> None:
        super().setUp()
        self.clock = ThreadsAtOnce()
        self.clock.advance(NOW)
        self.events: list[Event] = []
        self.zones: dict[str, dict[str, list[Record] | DNSError]] = {"192.0.2.1": {}, "192.0.2.2": {}}
        self.asked = 0
        world: dict[str, Mapping[str, Sequence[Record]]] = {
            "example.org": {"NS": ["ns1.example.net", "ns2.example.net"]},
            "ns1.example.net": {"A": ["192.0.2.1"]},
            "ns2.example.net": {"A": ["192.0.2.2"]},
        }
        self.resolver = FakeResolver(world)
        self.receiver = Receiver({})
        self.transport = MemoryTransport(self.receiver)
        self.state.mkdir(mode=0o700)
        (self.state / "update.key").write_text(KEY_FILE)
        (self.state / "update.key").chmod(0o600)
        self.rotation = self.begin()

    def begin(self, settings: Settings | None = None) -> Rotation:
        """Another process begins, with what is on the disk."""
        chosen = settings or self.settings()
        self.keys = SigningKeys.loaded(chosen)
        rotation = Rotation(
            chosen,
            self.keys,
            servers=NameServers(self.resolver, self.direct, lambda ip: True),
            updates=self.updates(),
            reactor=self.clock,
            publish=self.events.append,
        )
        self.addCleanup(rotation.stop)
        rotation.start()
        return rotation

    def updates(self) -> Updates | None:
        if not self.publishes:
            return None
        key = read_update_key(self.state / "update.key", None)
        return Updates(Server("192.0.2.53", 53), key, self.transport, self.clock)

    def direct(self, ip: str) -> FakeResolver:
        """Who asks the name server at an address."""
        self.asked += 1
        zone = self.zones[ip]
        return FakeResolver({name: one if isinstance(one, DNSError) else {"TXT": one} for name, one in zone.items()})

    def done(self, work: Awaitable[Any]) -> Any:
        async def doing() -> Any:
            return await work

        return self.successResultOf(Deferred.fromCoroutine(doing()))

    def show(self, *ips: str) -> None:
        """These name servers show the records of all keys that are known."""
        for ip in ips or self.zones:
            for key in self.files.read("example.org"):
                self.zones[ip][f"{key.selector}._domainkey.example.org"] = [key.record.encode()]

    def create(self, *kinds: Any, **more: Any) -> None:
        self.done(self.rotation.create("example.org", kinds or ("ed25519",), **more))

    def told(self, kind: type[Any]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def signing(self) -> list[str]:
        """What signs now."""
        return [key.selector for key in self.keys.of("example.org")]

    def turn(self, seconds: float, step: float = LOOK_EVERY) -> None:
        """Let time pass."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step


class WaitingTest(Case):
    """A key waits until it is seen."""

    def test_created(self) -> None:
        """A new key signs nothing; its event has the record for the zone file."""
        self.create()
        self.turn(600)
        self.assertEqual(self.states(), {"20261128e": "new"})
        self.assertEqual(self.signing(), [])
        (event,) = self.told(DkimKeyCreated)
        self.assertEqual(event[:3], ("example.org", "20261128e", "ed25519-sha256"))
        self.assertIn('20261128e._domainkey.example.org. 3600 IN TXT "v=DKIM1; k=ed25519; p=', event.words)

    def test_seen(self) -> None:
        """It signs within a minute of the last name server showing it, and not while one does not."""
        self.create()
        self.show("192.0.2.1")
        self.turn(120)
        self.assertEqual(self.signing(), [])
        self.show()
        self.turn(61)
        self.assertEqual(self.signing(), ["20261128e"])
        self.assertEqual(
            self.told(DkimKeyActivated), [DkimKeyActivated("example.org", "20261128e", "ed25519-sha256", "")]
        )

    def test_each_by_itself(self) -> None:
        """Of two kinds each becomes active when it is seen."""
        self.create("ed25519")
        self.show()
        self.create("rsa")
        self.turn(61)
        self.assertEqual(self.states(), {"20261128e": "active", "20261128-2r": "new"})

    def test_restart(self) -> None:
        """A key that waits goes on waiting in the next process."""
        self.create()
        self.rotation.stop()
        self.rotation = self.begin()
        self.turn(10)
        self.assertEqual(self.signing(), [])
        self.show()
        self.turn(61)
        self.assertEqual(self.signing(), ["20261128e"])

    def test_back_off(self) -> None:
        """Name servers are asked each minute at first, then less and less, at last each quarter of an hour."""
        self.create()
        self.turn(FIRST_LOOK + EAGER * LOOK_EVERY)
        self.assertGreaterEqual(self.asked, 2 * EAGER)
        self.asked = 0
        self.turn(DAY / 2)
        self.assertLessEqual(self.asked, 2 * (DAY / 2 / PATIENT + 6))
        self.assertGreaterEqual(self.asked, 2 * (DAY / 2 / (PATIENT + LOOK_EVERY) - 6))

    def test_late(self) -> None:
        """After a day without it there is an event that says who does not show it, and what to publish; one a day."""
        self.create()
        self.show("192.0.2.1")
        self.zones["192.0.2.2"]["20261128e._domainkey.example.org"] = DNSError("no answer")
        self.turn(LATE - 600)
        self.assertEqual(self.told(DkimKeyWaiting), [])
        self.turn(600 + PATIENT + LOOK_EVERY)
        (event,) = self.told(DkimKeyWaiting)
        self.assertIn("ns2.example.net (192.0.2.2) cannot be asked: no answer", event.words)
        self.assertIn("publish this record in the zone of example.org: 20261128e._domainkey", event.words)
        self.assertNotIn("ns1", event.words)
        self.turn(2 * DAY, 300.0)
        self.assertEqual(len(self.told(DkimKeyWaiting)), 3)

    def test_at_once(self) -> None:
        """With --now nobody waits."""
        self.create(at_once=True)
        self.assertEqual(self.signing(), ["20261128e"])
        self.assertEqual(len(self.told(DkimKeyActivated)), 1)
        self.assertEqual(self.asked, 0)

    def test_listed(self) -> None:
        """A list says who does not show the record, as far as they were asked; with check they are asked now."""
        self.create()
        (one,) = self.done(self.rotation.listed())
        self.assertEqual((one["state"], one["missing"], one["looked"]), ("new", None, None))
        self.show("192.0.2.2")
        self.turn(3)
        (one,) = self.done(self.rotation.listed("example.org"))
        self.assertEqual(one["missing"], ["ns1.example.net (192.0.2.1) does not show it"])
        self.assertEqual(one["looked"], self.clock.seconds())
        self.show()
        (one,) = self.done(self.rotation.listed(check=True))
        self.assertEqual((one["missing"], one["state"]), ([], "new"))

    def test_checked(self) -> None:
        """What a check has seen counts soon, even where a key has waited so long that it is seldom looked for."""
        self.create()
        self.turn(DAY)
        self.show()
        self.done(self.rotation.listed(check=True))
        self.turn(FIRST_LOOK)
        self.assertEqual(self.signing(), ["20261128e"])

    def test_unusable(self) -> None:
        """A key whose private part cannot be used does not become active, and the list says why; once it can, it does.
        What signed before goes on."""
        self.create(selector="old", at_once=True)
        self.create(selector="k")
        self.show()
        path = self.files.place("example.org") / "k.pem"
        path.chmod(0o644)
        self.turn(FIRST_LOOK)
        self.assertEqual((self.signing(), self.states()["k"]), (["old"], "new"))
        self.assertIn("others may use", self.done(self.rotation.listed())[-1]["trouble"])
        path.chmod(0o600)
        self.turn(61)
        self.assertEqual(sorted(self.signing()), ["k", "old"])

    def test_often(self) -> None:
        """Who checks every second does not put off for ever what follows from it."""
        self.create()
        self.show()
        for _ in range(3):
            self.done(self.rotation.listed(check=True))
            self.turn(1)
        self.assertEqual(self.signing(), ["20261128e"])

    def test_meanwhile(self) -> None:
        """What is ordered while name servers are being asked is looked at soon after that."""
        waiting: Deferred[None] = Deferred()

        async def look() -> None:
            await waiting

        patch = self.patch(self.rotation, "look", look)
        self.turn(FIRST_LOOK)
        patch.restore()
        self.create()
        self.show()
        waiting.callback(None)
        self.turn(FIRST_LOOK)
        self.assertEqual(self.signing(), ["20261128e"])

    def test_given_up(self) -> None:
        """A new key that is retired does not become active, even when it is seen in that moment."""
        self.create()
        self.show()
        self.done(self.rotation.retire("example.org", "20261128e"))
        self.turn(120)
        self.assertEqual(self.states(), {"20261128e": "retired"})
        self.assertEqual(len(self.told(DkimKeyRetired)), 1)

    def test_by_hand(self) -> None:
        """What a command changed on the disk while the node was starting counts within a minute."""
        self.now = self.clock.seconds()
        self.custody().create("example.org", ["ed25519"], selector="mine", at_once=True)
        self.turn(61)
        self.assertEqual(self.signing(), ["mine"])

    def test_broken(self) -> None:
        """What breaks for one domain is logged, and the others are looked after; the next look comes."""
        self.now = self.clock.seconds()
        self.custody().create("shop.example.org", ["ed25519"], selector="s")
        self.create(selector="k")
        self.show()
        shown = self.rotation._servers.shown

        async def breaking(selector: str, domain: str, record: str) -> Any:
            if domain == "shop.example.org":
                raise RuntimeError("broken")
            return await shown(selector, domain, record)

        self.patch(self.rotation._servers, "shown", breaking)
        self.turn(120)
        self.assertEqual(self.signing(), ["k"])
        self.assertGreaterEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        (self.state / "dkim" / "example.org" / "keys.json").write_text("{")
        self.turn(120)
        self.assertEqual(self.signing(), ["k"])
        self.assertGreaterEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopped(self) -> None:
        """Once it is stopped nothing is asked any more, and no timer is left."""
        self.create()
        self.turn(3)
        self.rotation.stop()
        self.asked = 0
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.turn(600)
        self.assertEqual(self.asked, 0)


class RotationTest(Case):
    """One key after the other."""

    def setUp(self) -> None:
        super().setUp()
        self.create(selector="old", at_once=True)
        self.show()

    def test_rotated(self) -> None:
        """The old key signs until the new one is seen; its record is needed for a while longer, then it is gone."""
        self.turn(DAY)
        self.done(self.rotation.rotate("example.org"))
        self.turn(600)
        self.assertEqual(self.signing(), ["old"])
        self.show()
        self.turn(61)
        self.assertEqual(self.signing(), ["20261129e"])
        self.assertEqual(self.told(DkimKeyActivated)[-1].words, "it replaces old")
        self.assertEqual(self.states(), {"old": "retiring", "20261129e": "active"})
        self.assertTrue((self.state / "dkim" / "example.org" / "old.pem").exists())
        self.turn(7 * DAY - 600)
        self.assertEqual(self.states(), {"old": "retiring", "20261129e": "active"})
        self.turn(700)
        self.assertEqual(self.states(), {"old": "retired", "20261129e": "active"})
        self.assertFalse((self.state / "dkim" / "example.org" / "old.pem").exists())
        words = "its record, TXT of old._domainkey.example.org, can be taken out of the DNS"
        self.assertEqual(self.told(DkimKeyRetired), [DkimKeyRetired("example.org", "old", words)])
        self.turn(FORGET_AFTER, 3600.0)
        self.assertEqual(self.states(), {"20261129e": "active"})

    def test_by_age(self) -> None:
        """With rotate_every a key that is old enough is replaced by itself, once at a time."""
        self.rotation.stop()
        self.rotation = self.begin(self.settings(rotate_every=30 * DAY))
        self.turn(30 * DAY - 600, 3600.0)
        self.assertEqual(self.states(), {"old": "active"})
        self.turn(1200)
        (made,) = [name for name in self.states() if name != "old"]
        self.assertEqual(self.states(), {"old": "active", made: "new"})
        self.turn(5 * DAY, 3600.0)
        self.assertEqual(len(self.states()), 2)
        self.show()
        self.turn(1200)
        self.assertEqual(self.signing(), [made])
        self.turn(29 * DAY, 3600.0)
        self.assertEqual([state for state in self.states().values() if state == "new"], [])
        self.turn(DAY, 3600.0)
        self.assertEqual([state for state in self.states().values() if state == "new"], ["new"])

    def test_reload(self) -> None:
        """Other settings count from the next look."""
        self.done(self.rotation.retire("example.org", "old"))
        self.rotation.configure(self.settings(retire_after=60.0), None)
        self.turn(200)
        self.assertEqual(self.states(), {"old": "retired"})


class PublishingTest(Case):
    """The node publishes."""

    publishes = True

    def seen(self) -> None:
        """The name servers show what the zone has now."""
        for zone in self.zones.values():
            zone.clear()
            for name, node in self.receiver.table.items():
                zone[name] = ["".join(one.split('"')[1::2]).encode() for one in node["TXT"]]

    def test_whole_life(self) -> None:
        """A key's record goes into the DNS, is waited for, and goes again, nobody doing anything."""
        self.create(selector="old")
        self.turn(3)
        self.assertEqual(list(self.receiver.table), ["old._domainkey.example.org"])
        self.assertIn("the node publishes its record at 192.0.2.53:53", self.told(DkimKeyCreated)[0].words)
        self.assertEqual(self.signing(), [])
        self.seen()
        self.turn(61)
        self.assertEqual(self.signing(), ["old"])
        self.done(self.rotation.rotate("example.org"))
        self.turn(3)
        self.assertEqual(len(self.receiver.table), 2)
        self.seen()
        self.turn(61)
        self.assertEqual(self.signing(), ["20261128e"])
        self.turn(7 * DAY + 61, 3600.0)
        self.assertEqual(list(self.receiver.table), ["20261128e._domainkey.example.org"])
        self.assertEqual(self.told(DkimKeyRetired)[0].words, "its record is taken out of the DNS")
        self.assertEqual(self.receiver.updates, 3)

    def test_refused(self) -> None:
        """A server that refuses is told of at once, and asked again each minute; other words are told, too."""
        self.receiver.refuse = dns.rcode.REFUSED
        self.create(selector="k")
        self.turn(300)
        (event,) = self.told(DkimKeyWaiting)
        self.assertIn("the record was not published: 192.0.2.53:53 refused the update: REFUSED", event.words)
        (one,) = self.done(self.rotation.listed())
        self.assertIn("REFUSED", one["trouble"])
        self.receiver.refuse = dns.rcode.SERVFAIL
        self.turn(120)
        self.assertEqual(len(self.told(DkimKeyWaiting)), 2)
        self.receiver.refuse = dns.rcode.NOERROR
        self.turn(61)
        self.seen()
        self.turn(61)
        self.assertEqual(self.signing(), ["k"])

    def test_crash(self) -> None:
        """A process that ended between writing down and sending: the next one sends."""
        self.transport.silent = True
        self.create(selector="k")
        self.turn(3)
        self.rotation.stop()
        self.assertEqual(self.receiver.table, {})
        self.assertTrue(self.files.read("example.org")[0].published)
        self.transport.silent = False
        self.rotation = self.begin()
        self.turn(3)
        self.assertEqual(list(self.receiver.table), ["k._domainkey.example.org"])

    def test_lost(self) -> None:
        """A record that the name server lost, or never showed, is sent again each day."""
        self.create(selector="k")
        self.turn(3)
        self.receiver.table.clear()
        self.turn(LATE + PATIENT + 2 * LOOK_EVERY)
        self.assertEqual(list(self.receiver.table), ["k._domainkey.example.org"])
        self.assertEqual(self.receiver.updates, 2)

    def test_no_longer(self) -> None:
        """Where the node may not publish any more, records are the operator's: keys are forgotten in time."""
        self.create(selector="k")
        self.turn(3)
        self.done(self.rotation.retire("example.org", "k"))
        self.rotation.configure(self.settings(), None)
        self.turn(120)
        self.assertFalse(self.files.read("example.org")[0].published)
        self.turn(FORGET_AFTER, 3600.0)
        self.assertEqual(self.states(), {})

    def test_given_up(self) -> None:
        """The record of a key that was given up goes, however long the server does not take that."""
        self.create(selector="k")
        self.turn(3)
        self.receiver.refuse = dns.rcode.SERVFAIL
        self.done(self.rotation.retire("example.org", "k"))
        self.turn(FORGET_AFTER + DAY, 3600.0)
        self.assertEqual(self.states(), {"k": "retired"})
        self.assertIn("was not taken out", self.told(DkimKeyWaiting)[0].words)
        self.receiver.refuse = dns.rcode.NOERROR
        self.turn(2 * PATIENT)
        self.assertEqual(self.receiver.table, {})
        self.turn(120)
        self.assertEqual(self.states(), {})
