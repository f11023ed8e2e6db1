"""The composition root: the node's parts are started in order, stopped in order, and given back when a start fails."""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ProcessDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mail_node.delivery.batch import BatchWriter
from twisted_mail_node.delivery.frames import Frames, decode_job, encode_result
from twisted_mail_node.dns.exchangers import Exchanger
from twisted_mail_node.events import Event
from twisted_mail_node.interfaces import IMailObserver
from twisted_mail_node.outbound.need import Demand, Found
from twisted_mail_node.service import MailNode
from twisted_mail_node.settings import Settings, load
from twisted_mail_node.settings_spelling import address

#: Seconds to wait for a thread of the node: one commit, one file.
THREAD_TIME = 10.0
HALF_A_MAIL = b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<joe@here.test>\r\nDATA\r\nSubject: x\r\n"
NOW = 1_800_000_000.0

SETTINGS = """hostname = "mx.here.test"
state_dir = "{state}"
relay_from = ["192.0.2.0/24"]
{top}
[[listener]]
kind = "mx"
endpoint = "tcp:2525:interface=127.0.0.1"
[[listener]]
kind = "submission"
endpoint = "tcp:2587:interface=127.0.0.1"
[[domain]]
name = "here.test"
[[account]]
address = "joe@here.test"
[verification]
enabled = false
{tables}
"""


class _Pool:
    """A thread pool that works at once."""

    def callInThreadWithCallback(
        self, result: Callable[[bool, Any], None], function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        try:
            found = function(*args, **kwargs)
        except BaseException:
            result(False, Failure())
        else:
            result(True, found)


class WritingProcess:
    """The process that writes Maildirs, without a process: it works at once, and is heard of like a thread."""

    def __init__(self, reactor: Reactor, protocol: Any, hostname: str) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._frames = Frames()
        self._writer = BatchWriter(hostname, "fsync")
        protocol.makeConnection(self)

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def write(self, octets: bytes) -> None:
        for frame in self._frames.feed(octets):
            if not frame:
                self._writer.close()
                self._reactor.callFromThread(self._protocol.processEnded, Failure(ProcessDone(0)))
                return
            for number, each in self._writer.write([decode_job(frame)]):
                self._reactor.callFromThread(self._protocol.outReceived, encode_result(number, each))

    def closeStdin(self) -> None:
        """Nothing follows the goodbye."""


class Reactor(MemoryReactorClock):
    """No network and no time of its own; what threads ask it to call is called by ``until``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()
        self.taken: int | None = None
        self.advance(NOW)

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        self.asked.put((function, args))

    def spawnProcess(self, protocol: Any, executable: str, arguments: list[str], **_: Any) -> Any:
        return WritingProcess(self, protocol, arguments[-2])

    def getThreadPool(self) -> Any:
        return _Pool()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port == self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return super().listenTCP(port, factory, backlog, interface)  # type: ignore[no-untyped-call]

    def until(self, there: Callable[[], object]) -> None:
        """Let calls from threads and short delays pass until something is there."""
        end = time.monotonic() + THREAD_TIME
        while not there():
            if time.monotonic() > end:
                raise AssertionError("what was waited for did not come")
            self.advance(0.01)
            try:
                function, args = self.asked.get(timeout=0.01)
            except Empty:
                continue
            function(*args)


@implementer(IMailObserver)
class Observer:
    """Keeps events."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def observe(self, event: Event) -> None:
        self.seen.append(event)

    def names(self) -> list[str]:
        """Their classes."""
        return [type(event).__name__ for event in self.seen]


class NodeCase(SynchronousTestCase):
    """A node in a directory of its own."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        # a node sets up the collector for itself; the tests that follow have theirs
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        self.place = Path(place.name)
        self.state = self.place / "var"
        self.config = self.place / "settings.toml"
        self.reactor = Reactor()
        self.observer = Observer()

    content = b"Subject: hello\r\n\r\nHello.\r\n"

    def write(self, top: str = "", tables: str = "") -> Settings:
        """Write the settings; gives what they say."""
        self.config.write_text(SETTINGS.format(state=self.state, top=top, tables=tables), "utf-8")
        return load(self.config)

    def make(self, top: str = "", tables: str = "") -> MailNode:
        """A node that is not started; it is stopped in the end."""
        node = MailNode(self.write(top, tables), self.reactor, self.config, (self.observer,))
        self.addCleanup(self.stop, node)
        return node

    def start(self, top: str = "", tables: str = "") -> MailNode:
        """A node that runs."""
        node = self.make(top, tables)
        self.successResultOf(node.startService())
        return node

    def stop(self, node: MailNode) -> None:
        """Stop it and wait."""
        stopped = node.stopService()
        done: list[object] = []
        stopped.addBoth(done.append)
        self.reactor.until(lambda: done)
        self.assertEqual(done, [None])

    def fails(self, node: MailNode) -> BaseException:
        """Its start fails; gives why, once all is given back."""
        done: list[BaseException] = []

        def failed(failure: Failure) -> None:
            assert failure.value is not None
            done.append(failure.value)

        node.startService().addErrback(failed)
        self.reactor.until(lambda: done)
        self.assertFalse(node.running)
        return done[0]

    def is_free(self) -> bool:
        """Nobody holds the state directory."""
        fd = os.open(self.state / "node.lock", os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def connect(self, listener: int = 0, client: str = "198.51.100.7") -> tuple[Any, StringTransport]:
        """A client's connection to a listener: its protocol and what it was sent."""
        factory: Any = self.reactor.tcpServers[listener][1]
        transport = StringTransport(peerAddress=Address(client))
        protocol: Any = factory.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        return protocol, transport

    def mail(self, listener: int = 0, to: str = "joe@here.test", client: str = "198.51.100.7") -> bytes:
        """Bring a mail; gives all replies."""
        protocol, transport = self.connect(listener, client)
        content = self.content
        protocol.dataReceived(
            b"EHLO client.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n%sQUIT\r\n"
            % (to.encode(), len(content), content)
        )
        self.reactor.until(lambda: transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        replies: bytes = transport.value()
        return replies


class Address:
    """Where a client comes from."""

    def __init__(self, host: str) -> None:
        self.host = host


class StartTest(NodeCase):
    """startService."""

    def test_listens(self) -> None:
        """Every listener listens where the settings say, the control socket for its owner only; it is announced."""
        node = self.start()
        self.assertEqual([(server[0], server[3]) for server in self.reactor.tcpServers],
                         [(2525, "127.0.0.1"), (2587, "127.0.0.1")])  # fmt: skip
        ((path, _, _, mode, _),) = self.reactor.unixServers
        self.assertEqual((path, mode), (str(self.state / "control.sock"), 0o600))
        _, started = self.observer.seen
        self.assertEqual(started[0], "mx.here.test")
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o700)
        self.assertTrue(node.running)
        self.assertFalse(self.is_free())

    def test_a_mail(self) -> None:
        """A mail goes the straight line: in, kept, delivered, finished, each with its event."""
        self.start()
        self.assertIn(b"250 2.0.0 Queued as ", self.mail())
        self.reactor.until(lambda: "MailFinished" in self.observer.names())
        story = ["CertificatesLoaded", "NodeStarted", "SessionOpened", "MailAccepted", "SessionClosed"]
        self.assertEqual(self.observer.names(), [*story, "RecipientDelivered", "MailFinished"])
        (file,) = (self.state / "mail" / "here.test" / "joe" / "new").iterdir()
        self.assertTrue(file.read_bytes().endswith(b"Subject: hello\n\nHello.\n"))

    def test_submission(self) -> None:
        """The submission listener takes mail from relay_from only, the other one none for elsewhere from others."""
        self.start()
        self.assertIn(b"530 5.7.0", self.mail(listener=1))
        self.assertIn(b"550 5.7.1", self.mail(to="someone@elsewhere.test"))
        self.assertIn(b"250 2.0.0 Queued as", self.mail(listener=1, client="192.0.2.5"))

    def test_port_in_use(self) -> None:
        """A port that is taken: the start fails with it, and all that was taken is given back."""
        self.reactor.taken = 2587
        node = self.make()
        self.assertIsInstance(self.fails(node), CannotListenError)
        self.assertTrue(self.is_free())
        self.assertEqual(self.observer.names(), ["CertificatesLoaded"])
        self.reactor.taken = None
        self.start()

    def test_second_node(self) -> None:
        """Two nodes never share a state directory: the second is refused in a sentence, the first keeps its lock."""
        self.start()
        second = MailNode(load(self.config), Reactor(), self.config)
        error = self.fails(second)
        self.assertEqual(str(error), f"another node runs with the state directory {self.state}")
        self.assertFalse(self.is_free())
        self.successResultOf(second.stopService())

    def test_no_spool(self) -> None:
        """A spool that cannot be opened fails the start, and the state directory is free again."""
        self.state.mkdir(mode=0o700)
        (self.state / "spool").write_text("in the way")
        node = self.make()
        self.fails(node)
        self.assertTrue(self.is_free())
        self.assertEqual(self.reactor.tcpServers, [])

    def test_damaged_spool(self) -> None:
        """A spool that is damaged is set aside, and said; the node runs with a new one (attack T18)."""
        (self.state / "spool").mkdir(parents=True, mode=0o700)
        self.state.chmod(0o700)
        (self.state / "spool" / "spool.sqlite").write_bytes(b"this is no database " * 1000)
        self.start()
        self.assertEqual(self.observer.names(), ["SpoolDamaged", "CertificatesLoaded", "NodeStarted"])
        self.assertIn(b"250 2.0.0 Queued as", self.mail())

    def test_damaged_state(self) -> None:
        """What was learned and cannot be read any more is set aside, and said; the node runs without it."""
        self.state.mkdir(parents=True, mode=0o700)
        (self.state / "state.sqlite").write_bytes(b"this is no database " * 1000)
        self.start()
        self.assertEqual(self.observer.names(), ["StateDamaged", "CertificatesLoaded", "NodeStarted"])
        self.assertIn(b"250 2.0.0 Queued as", self.mail())

    def test_recovered(self) -> None:
        """What a node left in its spool is counted at the next start, and tried."""
        node = self.start(tables='[[route]]\ndomain = "*"\nnext_hop = "[127.0.0.1]:2500"\n')
        self.assertIn(b"Queued as", self.mail(to="ann@elsewhere.test", client="192.0.2.5"))
        self.stop(node)
        self.observer.seen.clear()
        self.start(tables='[[route]]\ndomain = "*"\nnext_hop = "[127.0.0.1]:2500"\n')
        _, started = self.observer.seen
        self.assertEqual(started[-1], 1)

    def test_no_policy(self) -> None:
        """A policy that is not installed is a ValueError at once: no node without it."""
        settings = self.write(tables='[[policy]]\nname = "nobody-wrote-this"\n')
        with self.assertRaisesRegex(ValueError, "nobody-wrote-this"):
            MailNode(settings, self.reactor)


class StopTest(NodeCase):
    """stopService."""

    def test_idle_session(self) -> None:
        """An idle session is told 421; then the node is gone: no socket, no lock, its end in the log."""
        node = self.start()
        protocol, transport = self.connect()
        protocol.dataReceived(b"EHLO client.test\r\n")
        stopped: Deferred[None] = node.stopService()
        self.assertIn(b"421 4.3.2 ", transport.value())
        self.assertTrue(transport.disconnecting)
        self.assertNoResult(stopped)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.until(lambda: stopped.called)
        self.assertEqual(self.observer.names()[-1], "NodeStopped")
        self.assertTrue(self.is_free())
        self.assertIn("node-stopped", (self.state / "log" / "mail.jsonl").read_text())

    def test_mail_in_transfer(self) -> None:
        """A mail whose content is coming is waited for, acknowledged, and not lost."""
        node = self.start()
        protocol, transport = self.connect()
        protocol.dataReceived(HALF_A_MAIL)
        stopped = node.stopService()
        self.reactor.advance(5)
        self.assertFalse(transport.disconnecting)
        protocol.dataReceived(b"\r\nHello.\r\n.\r\n")
        self.reactor.until(lambda: transport.disconnecting)
        replies = transport.value().split(b"\r\n")
        self.assertTrue(replies[-3].startswith(b"250 2.0.0 Queued as"), replies)
        self.assertTrue(replies[-2].startswith(b"421 4.3.2"), replies)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.until(lambda: stopped.called)
        # it came so late that it may be left for the next start
        if "RecipientDelivered" not in self.observer.names():
            self.start()
            self.reactor.until(lambda: "MailFinished" in self.observer.names())
        self.assertEqual(len(list((self.state / "mail" / "here.test" / "joe" / "new").iterdir())), 1)

    def test_late_client(self) -> None:
        """A client that does not finish its mail is cut off after a time, and the node ends."""
        node = self.start()
        protocol, transport = self.connect()
        protocol.dataReceived(HALF_A_MAIL)
        stopped = node.stopService()
        self.reactor.advance(29)
        self.assertFalse(transport.disconnected)
        self.reactor.advance(2)
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.until(lambda: stopped.called)

    def test_not_started(self) -> None:
        """Stopping a node that does not run, and stopping twice, is nothing."""
        node = self.make()
        self.successResultOf(node.stopService())
        self.successResultOf(node.startService())
        self.stop(node)
        self.successResultOf(node.stopService())
        self.assertEqual(self.observer.names(), ["CertificatesLoaded", "NodeStarted", "NodeStopped"])


class ReloadTest(NodeCase):
    """reload."""

    ALIAS = '[[alias]]\naddress = "sales@here.test"\nto = ["joe@here.test"]\n'

    def refused(self, command: bytes = b"RCPT TO:<sales@here.test>") -> bytes:
        """The reply to a command after MAIL."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\n" + command + b"\r\n")
        reply: bytes = transport.value().split(b"\r\n")[-2]
        protocol.connectionLost(Failure(ConnectionDone()))
        return reply

    def test_good(self) -> None:
        """New aliases, limits, routes and relay_from are in force at once."""
        node = self.start()
        self.assertTrue(self.refused().startswith(b"550 5.1.1"))
        self.write(tables=self.ALIAS + "[limits]\nrecipients = 1\n")
        node.reload()
        self.assertTrue(self.refused().startswith(b"250"))
        twice = self.refused(
            b"RCPT TO:<sales@here.test>\r\nRCPT TO:<joe+x@here.test>\r\nRCPT TO:<postmaster@here.test>"
        )
        self.assertTrue(twice.startswith(b"452 4.5.3"), twice)
        self.assertEqual(node.settings.limits.recipients, 1)
        self.assertIn("SettingsLoaded", self.observer.names())

    def test_way_out(self) -> None:
        """What is asked of the way to others follows the settings; what was reached there outlives the node."""
        node = self.start(tables='[outbound]\npin = ["there.test"]\n')
        node.tls_levels.reached("there.test", "verified")

        def need() -> tuple[str, str]:
            security = node._parts.way_out.domain_tls.security
            exchanger = Exchanger("mx.there.test", 0, ())
            found = Found("there.test", 25, True, exchanger, node._parts.way_out.limits.of("there.test"))
            asked = security.need(Demand("there.test", "opportunistic", False), found, "")
            found_need = self.successResultOf(Deferred.fromCoroutine(asked))
            return found_need.level, found_need.source

        self.assertEqual(need(), ("verified", "outbound.pin"))
        self.write(tables='[[destination]]\ndomains = ["there.test"]\ntls = "required"\n')
        node.reload()
        self.assertEqual(need(), ("required", "destination[1]"))
        self.stop(node)
        node = self.start(tables='[outbound]\npin = [".test", "there.test"]\n')
        self.assertEqual(need(), ("verified", "outbound.pin"))

    def test_wrong(self) -> None:
        """Wrong settings are refused with words, and all stays as it was."""
        node = self.start(tables=self.ALIAS)
        before = node.settings
        for wrong in ("hostname = 5", '[[listener]]\nkind = "mix"', "", "[[[", None):
            with self.subTest(wrong=wrong):
                if wrong is None:
                    self.config.unlink()
                else:
                    self.config.write_text(wrong, "utf-8")
                self.assertRaises(ValueError, node.reload)
                self.assertEqual(self.observer.names()[-1], "SettingsRefused")
                self.assertTrue(self.refused().startswith(b"250"))
        self.assertIs(node.settings, before)

    def test_policy(self) -> None:
        """A policy that is not installed is refused like everything wrong."""
        node = self.start()
        self.write(tables='[[policy]]\nname = "nobody-wrote-this"\n' + self.ALIAS)
        self.assertIn("nobody-wrote-this", str(self.assertRaises(ValueError, node.reload)))
        self.assertTrue(self.refused().startswith(b"550 5.1.1"))

    def test_files_of_the_settings(self) -> None:
        """Settings that name a file that is not there are refused whole: their aliases do not count either."""
        node = self.start()
        for wrong in (
            '[tls]\ntrusted = "missing.pem"\n',
            '[oauth]\njwks = "missing.json"\naudience = "here"\n',
            '[[route]]\nnext_hop = "[a.test]"\nusername = "joe"\npassword_file = "missing.password"\n',
        ):
            with self.subTest(wrong=wrong):
                self.write(tables=self.ALIAS + wrong)
                self.assertIn("missing.", str(self.assertRaises(ValueError, node.reload)))
                self.assertEqual(self.observer.names()[-1], "SettingsRefused")
                self.assertTrue(self.refused().startswith(b"550 5.1.1"))

    def test_routes(self) -> None:
        """New routes, message stores, destinations and sources are in force at once."""
        node = self.start()

        def told(text: str) -> Any:
            answer = Deferred.fromCoroutine(node.inquiry.answer(address(text), None, ""))
            return self.successResultOf(answer)["targets"][0]

        self.assertEqual(told("joe@here.test")["route"]["agent"], "maildir")
        self.write(
            tables='[[domain]]\nname = "store.test"\nlmtp = "unix:/run/lmtp"\n'
            '[[account]]\naddress = "ann@store.test"\n'
            '[[route]]\ndomain = "there.test"\nnext_hop = "[192.0.2.7]:26"\nsource = "out"\n'
            '[[destination]]\ndomains = ["192.0.2.7"]\nconnections = 3\n'
            '[[source]]\npool = "out"\naddress = "198.51.100.7"\n'
        )
        node.reload()
        self.assertEqual(told("ann@store.test")["route"]["next_hop"], "unix:/run/lmtp")
        way = told("x@there.test")["way"]
        self.assertEqual((way["exchangers"][0]["host"], way["limit"]["connections"]), ("192.0.2.7", 3))
        self.assertEqual(way["source"], {"pool": "out", "addresses": ["198.51.100.7"]})

    def test_damaged_accounts(self) -> None:
        """An accounts file that cannot be read is refused, too."""
        node = self.start()
        (self.state / "accounts.json").write_text("{", "utf-8")
        self.assertRaises(ValueError, node.reload)
        self.assertEqual(self.observer.names()[-1], "SettingsRefused")

    def test_at_start(self) -> None:
        """What counts from the next start only stays whole as it was: name, listeners, and where mail is kept."""
        node = self.start()
        text = self.config.read_text("utf-8").replace('"mx.here.test"', '"other.here.test"')
        text = text.replace(str(self.state), str(self.place / "elsewhere")).replace("tcp:2525", "tcp:2626")
        self.config.write_text(text, "utf-8")
        node.reload()
        self.assertEqual((node.settings.hostname, node.settings.state_dir), ("mx.here.test", self.state))
        self.assertEqual(len(self.reactor.tcpServers), 2)
        self.assertIn(b"220 mx.here.test ESMTP", self.mail())
        self.reactor.until(lambda: "MailFinished" in self.observer.names())
        self.assertFalse((self.place / "elsewhere").exists())
        self.assertEqual(len(list((self.state / "mail" / "here.test" / "joe" / "new").iterdir())), 1)

    def test_destinations(self) -> None:
        """Rules for destinations are in force at once."""
        node = self.start()
        self.assertEqual(node._parts.way_out.limits.of("example.net").connections, 20)
        self.write(tables='[[destination]]\ndomains = ["example.net"]\nconnections = 3\nrates = ["5/m"]\n')
        node.reload()
        limit = node._parts.way_out.limits.of("example.net")
        self.assertEqual((limit.connections, [str(rate) for rate in limit.rates]), (3, ["5/m"]))

    def test_log(self) -> None:
        """The event log is opened anew, for whoever renames it."""
        node = self.start()
        log = self.state / "log" / "mail.jsonl"
        self.reactor.advance(1)
        log.rename(log.with_suffix(".1"))
        node.reload()
        self.reactor.advance(1)
        self.assertIn("settings-loaded", log.read_text())
        self.assertIn("node-started", log.with_suffix(".1").read_text())


class FreezeTest(NodeCase):
    """Frozen destinations."""

    def test_restart(self) -> None:
        """They are frozen in the next process, too."""
        node = self.start()
        node.queue.freeze("example.net", "not now")
        (frozen,) = node.queue.frozen()
        self.stop(node)
        after = self.start()
        self.assertEqual(after.queue.frozen(), [frozen])
        self.assertEqual(after.status()["queue"]["destinations"][0]["state"], "frozen")

    def test_no_database(self) -> None:
        """A database that cannot be opened fails the start with words, and gives everything back."""
        self.state.mkdir()
        (self.state / "state.sqlite").mkdir()
        self.assertIn("state.sqlite", str(self.fails(self.make())))
        self.assertTrue(self.is_free())


class StatusTest(NodeCase):
    """status."""

    def test_status(self) -> None:
        """It names the node, its listeners with their sessions, the queue and the destinations."""
        node = self.start()
        self.connect()
        self.reactor.advance(5)
        status = node.status()
        self.assertEqual((status["hostname"], status["seconds"]), ("mx.here.test", 5.0))
        self.assertEqual((status["state_dir"], status["settings"]), (str(self.state), str(self.config)))
        self.assertEqual(
            [(one["kind"], one["sessions"]) for one in status["listeners"]], [("mx", 1), ("submission", 0)]
        )
        self.assertEqual(status["queue"]["mails"], 0)
        self.assertIn("relay", status)
        for protocol in list(node._factories[0].connections):
            protocol.connectionLost(Failure(ConnectionDone()))
