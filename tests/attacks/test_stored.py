"""Attacks by what is stored (T14, T17 to T19): envelopes, SQL, damaged files and paths."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.inbound.receiving import TestReceiver
from twisted_mail_node.delivery.mailbox import Mailbox
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.events import SpoolDamaged
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.settings import Account, Domain, Settings, SettingsError, parse
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.mail import Change, Filter, State
from twisted_mail_node.spool.spool import Spool
from twisted_mail_node.spool.sqlite import NewMail, Store

reactor: Any = _reactor

EVIL = ("' OR 1=1--", "'; DROP TABLE mail;--", '" OR ""="', "%", "_", "\\", "?", ":1", "$1", "/* */", "a'b\"c`d",
        "\x00x", "null", "[1", '{"a":1}', "0x41", "1e999", "é'", "\U0001f4a3")  # fmt: skip
TEXT = st.one_of(st.sampled_from(EVIL), st.text(st.characters(codec="utf-8"), max_size=20))
ADDRESSES = st.builds(Address, TEXT, TEXT)
RECIPIENTS = st.builds(
    Recipient, ADDRESSES, ADDRESSES, st.lists(st.sampled_from(["NEVER", "SUCCESS", "DELAY"])).map(tuple), TEXT
)
ENVELOPES = st.builds(
    Envelope, st.none() | ADDRESSES, st.lists(RECIPIENTS, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["7BIT", "8BITMIME", "BINARYMIME"]), st.booleans(), st.sampled_from([None, "FULL", "HDRS"]),
    TEXT, TEXT, TEXT, TEXT, TEXT, TEXT,
)  # fmt: skip


class StoreCase(SynchronousTestCase):
    """A spool on the disk."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.store = Store(self.directory)
        self.addCleanup(lambda: self.store.close())
        self._number = 0

    def keep(self, envelope: Envelope, content: bytes = b"x\r\n") -> str:
        """Put a mail into it; gives its queue id."""
        self._number += 1
        number = self._number
        row = (number, 1.0, encode_envelope(envelope), b"Received: x\r\n", len(content), 0, content)
        mail = NewMail(row, tuple(map(encode_recipient, envelope.recipients)), State.DELAYED)
        self.store.transaction(lambda: self.store.insert([mail]))
        return f"{number:014x}"


class EnvelopeTests(StoreCase):
    """T14: an envelope survives the spool unchanged."""

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(ENVELOPES)
    def test_unchanged(self, envelope: Envelope) -> None:
        """Any values, however odd, come out as they went in."""
        queue_id = self.keep(envelope)
        (mail,) = self.store.find(Filter((queue_id,)))
        self.assertEqual(mail.envelope, envelope)
        self.store.remove([queue_id])


class RealSpoolTests(TestCase):
    """T14 from the wire to the disk: a session with the real spool behind it."""

    async def test_from_the_wire(self) -> None:
        """What a client said in its parameters is what is read after the next start."""
        directory = Path(self.mktemp()).absolute()
        spool = Spool(directory, reactor, reactor.seconds)
        receiver = TestReceiver(queue=spool, relay_from=["192.0.2.0/24"])
        peer = receiver.session(
            "MAIL FROM:<\"' OR 1=1--\"@elsewhere.example> SMTPUTF8 BODY=8BITMIME RET=FULL ENVID=a+2B'--+3B",
            "RCPT TO:<\";id;'\"@elsewhere.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;'+20OR+201+3D1--",
            "RCPT TO:<jürgen@example.org> ORCPT=utf-8;jürgen'@example.org",
            "DATA",
        )
        self.assertEqual(peer.say("Subject: x", "", "."), "")
        await spool.record([])
        self.assertTrue(peer.said().startswith("250 2.0.0"))
        spool.close()
        again = Store(directory)
        self.addCleanup(again.close)
        (mail,) = again.find(Filter())
        envelope = mail.envelope
        self.assertEqual(envelope.reverse_path, Address("' OR 1=1--", "elsewhere.example"))
        self.assertEqual((envelope.ret, envelope.envid, envelope.body), ("FULL", "a+'--;", "8BITMIME"))
        first, second = envelope.recipients
        self.assertEqual(first.address, Address(";id;'", "elsewhere.example"))
        self.assertEqual((first.notify, first.orcpt), (("SUCCESS", "DELAY"), "rfc822;' OR 1=1--"))
        self.assertEqual((second.address.local_part, second.orcpt), ("jürgen", "utf-8;jürgen'@example.org"))


class SqlTests(StoreCase):
    """T17: SQL in every value that reaches the store."""

    def setUp(self) -> None:
        super().setUp()
        joe = Recipient(Address("joe", "example.org"), Address("joe", "example.org"))
        for _ in range(3):
            self.keep(Envelope(Address("a", "elsewhere.example"), (joe,)))

    def count(self) -> int:
        """Mails in the store."""
        return len(self.store.find(Filter()))

    def test_filters(self) -> None:
        """A filter is text to look for and nothing else: it finds no mail that does not hold it, and changes none."""
        for evil in EVIL:
            for wanted in (Filter(sender=evil), Filter(recipient=evil), Filter(destination=evil), Filter((evil,))):
                found = self.store.find(wanted)
                self.assertEqual(found, [], wanted)
        self.assertEqual((self.count(), len(self.store.find(Filter(sender="a@elsewhere")))), (3, 3))

    def test_found_by_their_own_text(self) -> None:
        """A mail whose addresses look so is found by them."""
        for evil in ("' or 1=1--", "%", "a'b\"c`d"):
            recipient = Recipient(Address(evil, "example.org"), Address(evil, "example.org"))
            queue_id = self.keep(Envelope(Address(evil, "elsewhere.example"), (recipient,)))
            for wanted in (Filter(sender=evil), Filter(recipient=evil)):
                self.assertEqual([mail.queue_id for mail in self.store.find(wanted)], [queue_id], wanted)

    def test_orders(self) -> None:
        """Orders for queue ids that are none change nothing and find nothing."""
        self.assertEqual(self.store.hold(EVIL), [])
        self.assertEqual(self.store.release(EVIL, 0.0), [])
        self.assertEqual(self.store.remove(EVIL), [])
        self.assertEqual(self.count(), 3)
        self.assertEqual({entry.state for mail in self.store.find(Filter()) for entry in mail.entries}, {State.DELAYED})

    def test_changes(self) -> None:
        """A destination that looks so is kept to the letter."""
        for evil in EVIL:
            change = Change(f"{1:014x}", 0, State.DELAYED, 5.0, 1, evil)
            self.store.transaction(lambda change=change: self.store.change([change]))  # type: ignore[misc]
            (mail,) = self.store.find(Filter((f"{1:014x}",)))
            self.assertEqual((mail.entries[0].destination, self.count()), (evil, 3))


class DamageTests(StoreCase):
    """T18: a damaged spool or settings file."""

    def test_spool(self) -> None:
        """A database that is cut or overwritten is set aside, whole, and the next one works; nothing is deleted."""
        joe = Recipient(Address("joe", "example.org"), Address("joe", "example.org"))
        for _ in range(20):
            self.keep(Envelope(None, (joe,)), b"x" * 3000)
        self.store.close()
        good = (self.directory / "spool.sqlite").read_bytes()
        noise = Random(1).randbytes(len(good))
        for octets in (noise, good[:100], good[:1024], good[:4096], good[: len(good) // 2], noise[:4096] + good[4096:],
                       b"not a database" * 100):  # fmt: skip
            with tempfile.TemporaryDirectory() as place:
                directory = Path(place)
                (directory / "spool.sqlite").write_bytes(octets)
                store = Store(directory)
                store.recover(1.0)
                assert store.damaged is not None
                self.assertEqual((store.damaged.path / "spool.sqlite").read_bytes()[: len(octets)], octets)
                self.assertTrue(SpoolDamaged(str(store.damaged.path), store.damaged.words).words)
                self.assertEqual(store.find(Filter()), [])
                store.close()
        self.store = Store(self.directory)
        self.assertEqual(len(self.store.find(Filter())), 20)

    def test_one_mail(self) -> None:
        """A row that cannot be understood keeps no other mail from going out."""
        joe = Recipient(Address("joe", "example.org"), Address("joe", "example.org"))
        ids = [self.keep(Envelope(None, (joe,))) for _ in range(3)]
        self.store.connection.execute("UPDATE mail SET envelope = '[1' WHERE id = 2").fetchall()
        due = self.store.transaction(lambda: self.store.take_due(10.0, 100))
        self.assertEqual([mail.queue_id for mail in due], [ids[0], ids[2]])
        self.flushLoggedErrors()

    @settings(max_examples=100, deadline=None)
    @given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda octets: octets.decode("latin-1"))))
    def test_settings(self, text: str) -> None:
        """Any settings text is settings or a SettingsError that says what is wrong; never another exception."""
        try:
            self.assertTrue(parse(text).hostname)
        except SettingsError as error:
            self.assertTrue(str(error))


class PathTests(SynchronousTestCase):
    """T19: paths out of the store."""

    LOCALS = (
        "..", ".", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a/../../b", "\x00", "a\x00b", ".hidden", "-rf",
        "~root", "a" * 300, "ü" * 200, "%2e%2e", "%2F", "a\\b", "\n", "new", "cur", "con", " ", "",
    )  # fmt: skip

    def setUp(self) -> None:
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()

    def directory(self, *local_parts: str, template: str = "mail/{domain}/{local_part}") -> Directory:
        """A directory with these accounts."""
        return Directory(
            Settings(
                hostname="mx.example.org",
                state_dir=self.state,
                domains=(Domain(name="example.org", maildir=template),),
                accounts=tuple(Account(address=Address(local, "example.org")) for local in local_parts),
            )
        )

    def test_inside(self) -> None:
        """Mail for any local-part is written inside the store, each in a Maildir of its own."""
        paths = set()
        for local in self.LOCALS:
            path = self.directory(local).maildir_path(Address(local, "example.org"))
            root = self.state / "mail" / "example.org"
            self.assertEqual(path.parent, root, local)
            self.assertNotIn(path.name, ("", ".", ".."))
            self.assertLessEqual(len(os.fsencode(path.name)), 255)
            mailbox = Mailbox(str(path))
            mailbox.write("1.test", [b"x"], durable=False)
            mailbox.close()
            self.assertEqual(len(list((path / "new").iterdir())), 1)
            paths.add(path)
        self.assertEqual(len(paths), len(self.LOCALS))
        self.assertEqual([entry.name for entry in self.state.iterdir()], ["mail"])
        self.assertEqual([entry.name for entry in (self.state / "mail").iterdir()], ["example.org"])

    @given(st.text(max_size=300))
    def test_any(self, local: str) -> None:
        """Any local-part whatever."""
        path = self.directory().maildir_path(Address(local, "example.org"))
        self.assertEqual(path.parent, self.state / "mail" / "example.org")
        self.assertNotIn("/", path.name)
        self.assertNotIn("\x00", path.name)

    def test_guests(self) -> None:
        """Where nobody has the address, no address makes a mailbox."""
        directory = self.directory("joe")
        for local in self.LOCALS:
            self.assertFalse(directory.mailbox_exists(Address(local, "example.org")), local)

    def test_symbolic_links(self) -> None:
        """A Maildir, or its tmp or new, that is a symbolic link is not followed; nothing is written where it leads."""
        outside = self.state / "outside"
        (outside / "new").mkdir(parents=True)
        (outside / "tmp").mkdir()
        for name in ("", "new", "tmp"):
            path = self.state / f"joe{name}"
            if name:
                path.mkdir()
                (path / name).symlink_to(outside / name)
            else:
                path.symlink_to(outside)
            self.assertRaises(OSError, Mailbox, str(path))
        self.assertEqual(list((outside / "new").iterdir()), [])
        self.assertEqual(sorted(entry.name for entry in outside.iterdir()), ["new", "tmp"])
