"""Delivery status notifications: read back with the standard parser and with a bounce detector."""

from __future__ import annotations

import email
import email.policy
import importlib
from email.message import EmailMessage, Message
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_mail_node.message import dsn, header
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.encoding import transfer
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

WHEN = 1_709_633_472.0
JOE = Address("joe", "example.org")
ANN = Address("ann", "example.net")
HEADER = b"Received: by mx\r\nMessage-ID: <m1@example.org>\r\nSubject: hello\r\n\r\n"
REFUSED = DeliveryStatus(
    Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED, "550 5.1.1 no such user", "mx.example.net", "192.0.2.7:25", True
)


def outcome(
    address: Address = ANN,
    status: DeliveryStatus = REFUSED,
    orcpt: str = "",
    until: float | None = None,
    tried: float | None = WHEN,
) -> dsn.Outcome:
    """What became of one recipient."""
    return dsn.Outcome(Recipient(address, address, (), orcpt), status, until, tried)


def built(
    *outcomes: dsn.Outcome,
    envelope: Envelope | None = None,
    section: bytes = HEADER,
    original: bytes | None = None,
    queue_id: str = "DSN1",
) -> dsn.Notification:
    """A DSN with defaults."""
    return dsn.build(
        hostname="mx.example.org",
        queue_id=queue_id,
        when=WHEN,
        envelope=envelope or Envelope(JOE),
        arrived=WHEN - 3600,
        outcomes=outcomes or [outcome()],
        header=section,
        original=original,
        original_queue_id="Q1",
    )


def parsed(report: dsn.Notification) -> tuple[EmailMessage, list[Message]]:
    """The DSN and its parts, without defects."""
    mail = email.message_from_bytes(report.content, policy=email.policy.default)
    parts = list(mail.iter_parts())
    assert not mail.defects, mail.defects
    return mail, cast("list[Message]", parts)


def groups(part: Message) -> list[Message]:
    """The field groups of a message/delivery-status part."""
    return cast("list[Message]", part.get_payload())


def text(part: Message) -> str:
    """A text part as a person reads it."""
    return str(cast(EmailMessage, part).get_content()).replace("\r\n", "\n")


class ShapeTests(SynchronousTestCase):
    """The whole DSN."""

    def test_top(self) -> None:
        """The header says what it is, to whom, and that nobody shall answer."""
        report = built()
        mail, parts = parsed(report)
        self.assertEqual(mail.get_content_type(), "multipart/report")
        self.assertEqual(mail.get_param("report-type"), "delivery-status")
        self.assertEqual(mail["From"], "Mail Delivery System <mailer-daemon@mx.example.org>")
        self.assertEqual(mail["To"], "joe@example.org")
        self.assertEqual(mail["Auto-Submitted"], "auto-replied")
        self.assertEqual(mail["In-Reply-To"], "<m1@example.org>")
        self.assertEqual(mail["References"], "<m1@example.org>")
        self.assertEqual(mail["Date"], "Tue, 05 Mar 2024 10:11:12 +0000")
        self.assertEqual(mail["Message-ID"], f"<DSN1.{int(WHEN)}@mx.example.org>")
        self.assertEqual(mail["MIME-Version"], "1.0")
        self.assertEqual(
            [part.get_content_type() for part in parts],
            ["text/plain", "message/delivery-status", "text/rfc822-headers"],
        )
        self.assertEqual((report.body, report.smtputf8), ("7BIT", False))
        self.assertEqual(transfer(report.content), "7bit")

    def test_same(self) -> None:
        """The same values give the same octets."""
        self.assertEqual(built(), built())

    def test_null(self) -> None:
        """There is no DSN for a DSN, nor about nobody."""
        self.assertRaises(ValueError, built, envelope=Envelope(None))
        with self.assertRaises(ValueError):
            dsn.build(hostname="h", queue_id="q", when=0, envelope=Envelope(JOE), arrived=0, outcomes=(), header=b"")

    def test_program(self) -> None:
        """The fields of RFC 3464, per message and per recipient."""
        report = built(outcome(orcpt="rfc822;Ann+x@example.net"), envelope=Envelope(JOE, envid="E-1"))
        message, recipient = groups(parsed(report)[1][1])
        self.assertEqual(
            message.items(),
            [
                ("Original-Envelope-Id", "E-1"),
                ("Reporting-MTA", "dns; mx.example.org"),
                ("Arrival-Date", "Tue, 05 Mar 2024 09:11:12 +0000"),
            ],
        )
        self.assertEqual(
            recipient.items(),
            [
                ("Original-Recipient", "rfc822;Ann+x@example.net"),
                ("Final-Recipient", "rfc822;ann@example.net"),
                ("Action", "failed"),
                ("Status", "5.1.1"),
                ("Remote-MTA", "dns; mx.example.net"),
                ("Diagnostic-Code", "smtp; 550 5.1.1 no such user"),
                ("Last-Attempt-Date", "Tue, 05 Mar 2024 10:11:12 +0000"),
            ],
        )

    def test_person(self) -> None:
        """A person reads who said what, in its exact words, and what can be done."""
        words = text(parsed(built())[1][0])
        self.assertIn("<ann@example.net>", words)
        self.assertIn("The host mx.example.net (192.0.2.7:25) said:\n      550 5.1.1 no such user\n", words)
        cause = understand(REFUSED)
        self.assertIn(cause.title, words)
        self.assertIn(f"What you can do: {cause.advice}", " ".join(words.split()))
        self.assertIn("postmaster@mx.example.org, and name the mail Q1", words)
        self.assertTrue(all(len(line) <= 78 for line in words.split("\n")))

    def test_alias(self) -> None:
        """What stands behind an alias is not told: the address is the one we accepted (RFC 3464 section 2.3.2)."""
        sales = Address("sales", "example.org")
        two = [dsn.Outcome(Recipient(Address(name, "private.example"), sales), REFUSED) for name in ("one", "two")]
        report = built(*two)
        self.assertNotIn(b"private.example", report.content)
        self.assertEqual(len(groups(parsed(report)[1][1])), 2)  # said once

    def test_detector(self) -> None:
        """A bounce detector finds the failed addresses, and no others."""
        try:
            scan: Any = importlib.import_module("flufl.bounce").scan_message
        except ImportError:
            raise SkipTest("flufl.bounce is not installed") from None
        bob = Address("a b", "example.com")
        found = scan(email.message_from_bytes(built(outcome(), outcome(bob)).content))
        self.assertEqual(found, {b"ann@example.net", b'"a b"@example.com'})
        relayed = DeliveryStatus(Action.RELAYED, "2.0.0", Reason.RELAYED, "250 ok", "mx", "", True)
        self.assertEqual(scan(email.message_from_bytes(built(outcome(status=relayed)).content)), frozenset())


class ActionTests(SynchronousTestCase):
    """Failed, delayed, delivered, relayed."""

    def test_success(self) -> None:
        """A DSN of success says so and carries headers only, even with RET=FULL."""
        delivered = DeliveryStatus(Action.DELIVERED, "2.1.5", Reason.DELIVERED, "in the mailbox")
        relayed = DeliveryStatus(Action.RELAYED, "", Reason.RELAYED, "250 ok", "mx.example.net", "", True)
        report = built(
            outcome(status=delivered),
            outcome(Address("x", "y.example"), relayed),
            envelope=Envelope(JOE, ret="FULL"),
            original=HEADER + b"body\r\n",
        )
        mail, parts = parsed(report)
        self.assertEqual(mail["Subject"], "Your mail was delivered")
        self.assertIn("will hear no more", " ".join(text(parts[0]).split()))
        self.assertEqual([group["Action"] for group in groups(parts[1])[1:]], ["delivered", "relayed"])
        self.assertEqual([group["Status"] for group in groups(parts[1])[1:]], ["2.1.5", "2.0.0"])
        # RFC 3461 section 6.3 (i): every attempt to relay has the host's reply.
        self.assertEqual([group["Diagnostic-Code"] for group in groups(parts[1])[1:]], [None, "smtp; 250 ok"])
        self.assertEqual(parts[2].get_content_type(), "text/rfc822-headers")

    def test_delayed(self) -> None:
        """A DSN of delay says until when we try."""
        delayed = DeliveryStatus(Action.DELAYED, "4.4.1", Reason.CONNECT_FAILED, "connection refused")
        mail, parts = parsed(built(outcome(status=delayed, until=WHEN + 86400)))
        self.assertEqual(mail["Subject"], "Your mail is delayed")
        self.assertIn("until Wed, 06 Mar 2024 10:11:12 +0000", text(parts[0]))
        group = groups(parts[1])[1]
        self.assertEqual(group["Will-Retry-Until"], "Wed, 06 Mar 2024 10:11:12 +0000")
        self.assertEqual(group["Diagnostic-Code"], "x-mailnode; connection refused")
        self.assertNotIn("Remote-MTA", group)

    def test_not_in_time(self) -> None:
        """A mail that was not delivered in time says so, in words and with the time (RFC 2852)."""
        late = REFUSED._replace(status="5.4.7", reason=Reason.NOT_IN_TIME, words="450 4.2.1 later")
        envelope = Envelope(JOE, deliver_by=WHEN - 60, by_mode="R")
        _, parts = parsed(built(outcome(status=late), envelope=envelope))
        words = " ".join(text(parts[0]).split())
        self.assertIn("said: 450 4.2.1 later It was to be delivered by a time that has passed", words)
        self.assertEqual(groups(parts[1])[0]["Deliver-By-Date"], "Tue, 05 Mar 2024 10:10:12 +0000")
        self.assertEqual(groups(parts[1])[1]["Status"], "5.4.7")
        self.assertNotIn("Deliver-By-Date", groups(parsed(built())[1][1])[0])

    def test_require_tls(self) -> None:
        """RET=FULL is disregarded for a mail with REQUIRETLS (RFC 8689 section 5)."""
        for require_tls, kind in ((False, "message/rfc822"), (True, "text/rfc822-headers")):
            envelope = Envelope(JOE, ret="FULL", require_tls=require_tls)
            _, parts = parsed(built(envelope=envelope, original=HEADER + b"secret\r\n"))
            self.assertEqual(parts[2].get_content_type(), kind)

    def test_status(self) -> None:
        """A status that is none is replaced by one of the action's class."""
        for status in ("", "550", "5.1", "5.1.1\r\nX: y", "9.9.9"):
            broken = built(outcome(status=REFUSED._replace(status=status)))
            self.assertEqual(groups(parsed(broken)[1][1])[1]["Status"], "5.0.0")

    def test_advice(self) -> None:
        """Every failure is told with what is known of its cause, and with what can be done."""
        for code in ("5.2.2", "5.7.1", "5.4.4", "5.9.9", "5.3.4"):
            for reason in (Reason.REMOTE_REFUSED, Reason.NO_SUCH_DOMAIN, Reason.EXPIRED, Reason.TLS_FAILED):
                status = REFUSED._replace(status=code, reason=reason)
                words = " ".join(text(parsed(built(outcome(status=status)))[1][0]).split())
                self.assertIn(understand(status).title, words)
                self.assertIn(f"What you can do: {understand(status).advice}", words)
        delayed = REFUSED._replace(action=Action.DELAYED, status="4.2.2", reason=Reason.REMOTE_DELAYED)
        words = text(parsed(built(outcome(status=delayed)))[1][0])
        self.assertIn(understand(delayed).title, words)
        self.assertNotIn("What you can do", words)

    def test_last_attempt(self) -> None:
        """Last-Attempt-Date is there only where it is known (RFC 3464 section 2.3.7)."""
        (group,) = groups(parsed(built(outcome(tried=WHEN - 60)))[1][1])[1:]
        self.assertEqual(group["Last-Attempt-Date"], "Tue, 05 Mar 2024 10:10:12 +0000")
        (group,) = groups(parsed(built(outcome(tried=None)))[1][1])[1:]
        self.assertNotIn("Last-Attempt-Date", group)

    def test_no_reply(self) -> None:
        """What a host said is called an SMTP reply only where it has the form of one (RFC 3461 section 9.2)."""
        for words, kind in (("550 no", "smtp"), ("550-no", "smtp"), ("550", "smtp"), ("no", "x-mailnode"),
                            ("5500 no", "x-mailnode"), ("150 no", "x-mailnode")):  # fmt: skip
            (group,) = groups(parsed(built(outcome(status=REFUSED._replace(words=words))))[1][1])[1:]
            self.assertEqual(group["Diagnostic-Code"], f"{kind}; {words}")

    def test_expanded(self) -> None:
        """An alias that was expanded is told as that, without whom it leads to (RFC 3461 section 5.2.7.3)."""
        status = DeliveryStatus(Action.EXPANDED, "2.0.0", Reason.EXPANDED, Reason.EXPANDED.meaning)
        mail, parts = parsed(built(outcome(status=status, tried=None)))
        self.assertEqual(mail["Subject"], "Your mail was passed on")
        self.assertIn("passed on to the addresses behind this one", " ".join(text(parts[0]).split()))
        (group,) = groups(parts[1])[1:]
        self.assertEqual(
            group.items(),
            [("Final-Recipient", "rfc822;ann@example.net"), ("Action", "expanded"), ("Status", "2.0.0")],
        )

    def test_forwarded(self) -> None:
        """A host that names the address behind an alias tells it to us, and we do not tell it to the sender."""
        said = REFUSED._replace(words="550 5.1.1 <Secret@Private.example>: nobody; RCPT TO:<secret@private.example>")
        hidden = dsn.Outcome(Recipient(Address("secret", "private.example"), ANN), said)
        report = built(hidden)
        self.assertNotIn(b"secret@private", report.content.lower())
        (group,) = groups(parsed(report)[1][1])[1:]
        self.assertEqual(
            group["Diagnostic-Code"], "smtp; 550 5.1.1 <ann@example.net>: nobody; RCPT TO:<ann@example.net>"
        )

    def test_no_words(self) -> None:
        """A status without words is told by what stands behind it."""
        silent = DeliveryStatus(Action.FAILED, "5.1.1", Reason.UNKNOWN_RECIPIENT, "")
        words = " ".join(text(parsed(built(outcome(status=silent)))[1][0]).split())
        self.assertIn("Nobody has this address.", words)

    def test_expired(self) -> None:
        """A mail that was given up says so, beside what the host said last."""
        status = REFUSED._replace(status="5.4.7", reason=Reason.EXPIRED, words="450 4.2.1 later")
        words = " ".join(text(parsed(built(outcome(status=status)))[1][0]).split())
        self.assertIn("said: 450 4.2.1 later We have tried for as long as we keep mail.", words)


class ReturnedTests(SynchronousTestCase):
    """The third part."""

    full = Envelope(JOE, ret="FULL")

    def test_full(self) -> None:
        """RET=FULL returns all of it, octet for octet."""
        original = HEADER + b"body\r\n--=_DSN1_0\r\n\r\n.\r\nno line end"
        report = built(envelope=self.full, original=original)
        parts = parsed(report)[1]
        self.assertEqual(parts[2].get_content_type(), "message/rfc822")
        self.assertIn(b"\r\n\r\n" + original + b"\r\n--", report.content)
        self.assertEqual(len(parts), 3)  # its boundary is not the one that was guessed

    def test_not_full(self) -> None:
        """Without RET=FULL, or above the bound, or with octets no line can hold, only the header returns."""
        for envelope, original in (
            (Envelope(JOE), HEADER + b"body\r\n"),
            (Envelope(JOE, ret="HDRS"), HEADER + b"body\r\n"),
            (self.full, HEADER + b"x\r\n" * dsn.FULL_MAX),
            (self.full, HEADER + b"\0\r\n"),
            (self.full, HEADER + b"x" * 1000),
            (self.full, None),
        ):
            part = parsed(built(envelope=envelope, original=original))[1][2]
            self.assertEqual(part.get_content_type(), "text/rfc822-headers")
            payload = part.get_payload(decode=True)
            self.assertEqual(payload, HEADER[:-2])

    def test_eight_bit(self) -> None:
        """A whole mail with 8-bit octets makes an 8BITMIME DSN; an 8-bit header alone is encoded."""
        report = built(envelope=self.full, original=HEADER + b"\xe4\r\n")
        self.assertEqual(report.body, "8BITMIME")
        mail, parts = parsed(report)
        self.assertEqual(mail["Content-Transfer-Encoding"], "8bit")
        self.assertEqual(parts[2]["Content-Transfer-Encoding"], "8bit")
        section = b"Subject: \xe4 latin\r\nX: " + b"y" * 2000 + b"\r\n"
        report = built(section=section + b"\r\n")
        self.assertEqual((report.body, transfer(report.content)), ("7BIT", "7bit"))
        part = parsed(report)[1][2]
        self.assertEqual(part.get_content_type(), "text/rfc822-headers")
        self.assertEqual(part.get_payload(decode=True), section)

    def test_huge_header(self) -> None:
        """Of a huge header only the beginning returns, and the part says so."""
        part = parsed(built(section=b"A: b\r\n" * 100_000))[1][2]
        self.assertIn("Beginning", part["Content-Description"])
        payload = cast(bytes, part.get_payload(decode=True))
        self.assertLessEqual(len(payload), dsn.HEADERS_MAX + 2)
        self.assertTrue(payload.endswith(b"A: b\r\n"))

    def test_no_header(self) -> None:
        """Where the original was lost there are two parts."""
        self.assertEqual(len(parsed(built(section=b""))[1]), 2)

    def test_references(self) -> None:
        """Only a sane Message-ID is referred to."""
        for found in (b"", b"<a b@c>", b"no", b"<" + b"x" * 900 + b"@y>", b"<a@b> (c)", b"<\xe4@b>"):
            self.assertNotIn("References", parsed(built(section=b"Message-ID: " + found + b"\r\n\r\n"))[0])


class InternationalTests(SynchronousTestCase):
    """RFC 6533."""

    jo = Address("jö", "example.org")
    section = "Subject: Grüße\r\nMessage-ID: <a@b>\r\n\r\n".encode()

    def test_to_ascii(self) -> None:
        """A DSN about such addresses to an ASCII sender needs no extension; nothing is lost."""
        report = built(outcome(self.jo), envelope=Envelope(JOE, smtputf8=True, ret="FULL"), section=self.section)
        self.assertEqual((report.body, report.smtputf8, transfer(report.content)), ("7BIT", False, "7bit"))
        parts = parsed(report)[1]
        self.assertEqual(
            [part.get_content_type() for part in parts],
            ["text/plain", "message/global-delivery-status", "message/global-headers"],
        )
        self.assertIn("<jö@example.org>", text(parts[0]))
        for number in (1, 2):
            self.assertEqual(parts[number]["Content-Transfer-Encoding"], "quoted-printable")
        self.assertIn(b"Final-Recipient: utf-8;j=C3=B6@example.org\r\n", report.content)

    def test_to_international(self) -> None:
        """A DSN to an address outside ASCII is an SMTPUTF8 mail in 8 bits."""
        report = built(
            outcome(self.jo, orcpt="utf-8;jö@example.org"),
            envelope=Envelope(self.jo, smtputf8=True),
            section=self.section,
        )
        self.assertEqual((report.body, report.smtputf8), ("8BITMIME", True))
        self.assertIn("\r\nTo: <jö@example.org>\r\n".encode(), report.content)
        self.assertIn("\r\nOriginal-Recipient: utf-8;jö@example.org\r\n".encode(), report.content)
        self.assertIn("\r\nSubject: Grüße\r\n".encode(), report.content)

    def test_whole(self) -> None:
        """The whole of an SMTPUTF8 mail returns as message/global."""
        for sender, encoding in ((JOE, "quoted-printable"), (self.jo, "8bit")):
            report = built(
                envelope=Envelope(sender, smtputf8=True, ret="FULL"),
                section=self.section,
                original=self.section + "ü\r\n".encode(),
            )
            part = parsed(report)[1][2]
            self.assertEqual(part.get_content_type(), "message/global")
            self.assertEqual(part["Content-Transfer-Encoding"], encoding)

    def test_seven_bit_forms(self) -> None:
        """In an ASCII report: utf-8 addresses in their 7-bit form, words with their characters named."""
        words = REFUSED._replace(words="550 größer")
        report = built(outcome(orcpt="utf-8;a+b@x", status=words), envelope=Envelope(JOE, envid="ü"))
        group = groups(parsed(report)[1][1])[1]
        self.assertEqual(group["Original-Recipient"], "utf-8;a\\x{2B}b@x")
        self.assertEqual(group["Diagnostic-Code"], "smtp; 550 gr\\x{F6}\\x{DF}er")
        self.assertIn(b"Original-Envelope-Id: \\x{FC}\r\n", report.content)
        self.assertIn("550 größer", text(parsed(report)[1][0]))

    def test_not_utf8(self) -> None:
        """A header that is no UTF-8 is never called global."""
        report = built(envelope=Envelope(JOE, smtputf8=True), section=b"Subject: \xff\r\n\r\n")
        self.assertEqual(parsed(report)[1][2].get_content_type(), "text/rfc822-headers")


HOSTILE = st.text(st.one_of(st.characters(), st.sampled_from('\r\n\0\x1b\u202e\u2028;:<>-=\t "\\')), max_size=60)


class HostileTests(SynchronousTestCase):
    """T20: nobody's words make a line of their own."""

    @settings(deadline=None, max_examples=200)
    @given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.integers(1, 40), st.booleans(), st.sampled_from(list(Action)))
    def test_words(
        self, words: str, host: str, local: str, extra: str, times: int, from_remote: bool, action: Action
    ) -> None:
        """Whatever addresses, replies, hosts and parameters say: the same fields, once each, in lines that fit."""
        address = Address(local or "x", "example.net")
        status = DeliveryStatus(action, extra, Reason.REMOTE_REFUSED, words * times, host, extra, from_remote)
        report = built(
            outcome(address, status, orcpt=extra),
            envelope=Envelope(Address(local, "example.org"), envid=extra),
            section=f"Message-ID: {extra}\r\n".encode("utf-8", "replace") + b"\r\n",
        )
        self.assertNotEqual(transfer(report.content), "binary")
        if report.body == "7BIT":
            self.assertTrue(report.content.isascii())
        names = [found.name for found in header.fields(report.content[: header.border(report.content)])]
        allowed = {
            b"From", b"To", b"Subject", b"Date", b"Message-ID", b"In-Reply-To", b"References", b"Auto-Submitted",
            b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding",
        }  # fmt: skip
        self.assertLessEqual(set(names), allowed)
        self.assertEqual(len(names), len(set(names)))
        parts = parsed(report)[1]
        self.assertEqual(len(parts), 3)
        payload = cast(bytes, parts[1].get_payload(decode=True) or b"")
        if parts[1].get_content_type() == "message/delivery-status":
            payload = b"\r\n".join(group.as_bytes().replace(b"\n", b"\r\n") for group in groups(parts[1]))
        known = {
            "Original-Envelope-Id", "Reporting-MTA", "Arrival-Date", "Original-Recipient", "Final-Recipient", "Action",
            "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date",
        }  # fmt: skip
        seen = [line.partition(b":")[0].decode() for line in payload.split(b"\r\n") if line and line[:1] not in b" \t"]
        if seen:
            self.assertLessEqual(set(seen), known)
            self.assertEqual(len(seen), len(set(seen)))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=200), st.booleans(), st.sampled_from(["DSN1", "", "=_-- \r\n", "é"]))
    def test_original(self, octets: bytes, smtputf8: bool, queue_id: str) -> None:
        """Whatever the original holds, it ends no part and breaks no line."""
        original = HEADER[:-2] + b"X: " + octets + b"\r\n--=_DSN1_0--\r\n--=_DSN1_1--\r\n--=__0--\r\n"
        report = built(
            envelope=Envelope(JOE, ret="FULL", smtputf8=smtputf8),
            section=original,
            original=original,
            queue_id=queue_id,
        )
        self.assertNotEqual(transfer(report.content), "binary")
        self.assertEqual(len(parsed(report)[1]), 3)
