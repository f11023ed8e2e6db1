"""The lines of the control socket: what is understood, and how a mail looks in them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import Content, mail
from twisted_mail_node.admin.messages import (
    HEADER_MAX,
    RequestError,
    decode,
    encode,
    filter_as_shape,
    filter_from,
)
from twisted_mail_node.admin.shapes import chosen, mail_as_shape, read_header
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.spool.mail import Entry, Filter, Mail, State


class ChosenTest(SynchronousTestCase):
    """Which mails an order for many goes to."""

    def test_held_back(self) -> None:
        """Orders for many never send early what a sender holds back; they may hold or remove it."""
        address = Address("ann", "there.example")
        waiting = Entry(0, Recipient(address, address), State.DELAYED, 9000.0)
        kept = [
            mail("back", waiting, release_at=9000.0),
            mail("back-and-held", waiting._replace(state=State.HELD), release_at=9000.0),
            mail("sent-early", waiting._replace(due=5500.0, attempts=1), release_at=9000.0),
            mail("held", waiting._replace(state=State.HELD)),
            mail("delayed"),
        ]
        self.assertEqual(chosen("retry", kept, 5000.0), ["sent-early", "delayed"])
        self.assertEqual(chosen("release", kept, 5000.0), ["sent-early", "held", "delayed"])
        self.assertEqual(chosen("retry", kept, 9000.0), ["back", "sent-early", "delayed"])
        for order in ("hold", "remove"):
            self.assertEqual(len(chosen(order, kept, 5000.0)), 5)


class LinesTest(SynchronousTestCase):
    """Objects in lines."""

    @given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
    def test_back_and_forth(self, message: dict[str, object]) -> None:
        """Whatever is said stays one line of ASCII, and is understood as it was meant."""
        line = encode(message)
        self.assertEqual((line.count(b"\n"), line.isascii()), (1, True))
        self.assertEqual(decode(line), message)

    @given(st.binary())
    def test_any_octets(self, line: bytes) -> None:
        """Any octets are an object or a RequestError."""
        try:
            self.assertIsInstance(decode(line), dict)
        except RequestError as error:
            self.assertIn("JSON", str(error))

    def test_deep(self) -> None:
        """A line of brackets is refused like any other nonsense."""
        self.assertRaises(RequestError, decode, b"[" * 60_000)


class FilterTest(SynchronousTestCase):
    """Filters in requests."""

    def test_back_and_forth(self) -> None:
        """A filter comes back from its shape unchanged."""
        for wanted in (Filter(), Filter(("a", "b"), "d", "<>", "r", State.HELD, 5)):
            self.assertEqual(filter_from(json.loads(encode(filter_as_shape(wanted)))), wanted)

    def test_wrong(self) -> None:
        """A value of the wrong kind or size is refused with the key's name."""
        for key, value in (
            ("ids", "x"),
            ("ids", [1]),
            ("ids", ["x"] * 501),
            ("ids", ["x" * 401]),
            ("limit", 0),
            ("limit", True),
            ("limit", 10**9),
            ("limit", "5"),
            ("sender", 5),
            ("recipient", ["x"]),
            ("destination", "x" * 401),
            ("state", "lost"),
        ):
            error = self.assertRaises(RequestError, filter_from, {key: value})
            self.assertIn(repr(key), str(error))


class MailTest(SynchronousTestCase):
    """A mail in JSON."""

    def test_delayed(self) -> None:
        """A delayed recipient shows its due time and what the last attempt came to."""
        shape = mail_as_shape(mail("q1"))
        (recipient,) = shape["recipients"]
        self.assertEqual((shape["queue_id"], shape["reverse_path"]), ("q1", "joe@here.example"))
        self.assertEqual((recipient["state"], recipient["due"], recipient["attempts"]), ("delayed", 2000.0, 3))
        self.assertEqual(recipient["last"]["words"], "connection refused")
        self.assertEqual((recipient["cause"], recipient["next_hop"]), ("connect-failed", ""))
        entry = mail("q1").entries[0]._replace(cause="connect-failed", next_hop="mx.example.com")
        (recipient,) = mail_as_shape(mail("q1", entry))["recipients"]
        self.assertEqual((recipient["cause"], recipient["next_hop"]), ("connect-failed", "mx.example.com"))

    def test_active(self) -> None:
        """A recipient that is not delayed has no due time; the null reverse-path is empty; an alias shows."""
        ann, sales = Address("ann", "a.example"), Address("sales", "b.example")
        shape = mail_as_shape(mail("q1", Entry(0, Recipient(ann, sales, ("NEVER",), "rfc822;x")), sender=None))
        (recipient,) = shape["recipients"]
        self.assertEqual(shape["reverse_path"], "")
        self.assertEqual((recipient["due"], recipient["last"]), (None, None))
        self.assertEqual(
            (recipient["original"], recipient["notify"], recipient["orcpt"]), ("sales@b.example", ["NEVER"], "rfc822;x")
        )

    def test_header(self) -> None:
        """The header is our trace fields and the content's header, and nothing of the body."""

        def header(content: bytes) -> str:
            found = mail("q1")
            kept = Content(content)
            return read_header(Mail("q1", found.envelope, b"T: t\r\n", kept, 0.0, found.entries))  # type: ignore[arg-type]

        self.assertEqual(header(b"A: a\r\nB: b\r\n\r\nC: c\r\n"), "T: t\r\nA: a\r\nB: b\r\n")
        self.assertEqual(header(b"\r\nbody\r\n\r\n"), "T: t\r\n")
        self.assertEqual(header(b"A: a\r\n"), "T: t\r\nA: a\r\n")
        self.assertEqual(header(b"A: \xff\r\n\r\n"), "T: t\r\nA: \ufffd\r\n")
        self.assertEqual(len(header(b"A" * 3_000_000)), HEADER_MAX)
