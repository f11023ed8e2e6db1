"""Attacks by those who have signed in, and by those who have not (T23, T24, T27): to write as somebody else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import STRANGER
from tests.policy.submitters import SubmissionReceiver, Submitter
from twisted_mail_node.events import CommandRefused, MailRefused
from twisted_mail_node.message.header import border, count, first
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import SubmissionSettings

BODY = b"\r\n\r\ntext\r\n"

#: Header sections that name another, or might to somebody.
OTHERS = (
    b"From: ann@example.org",
    b"From: Joe <ann@example.org>",
    b"From: joe@example.org, ann@example.org",
    b"From: ann@example.org, joe@example.org",
    b"From: joe@example.org\r\nFrom: ann@example.org",
    b"From: ann@example.org\r\nFrom: joe@example.org",
    b"From: joe@example.org\r\nFROM: ann@example.org",
    b"From: joe@example.org\r\nFrom : ann@example.org",
    b"From: joe@example.org\r\nFrom\t: ann@example.org",
    b"From : ann@example.org",
    b" From: ann@example.org\r\nFrom: joe@example.org",
    b"Subject: x\r\n From: ann@example.org\r\nFrom: joe@example.org",
    b"Subject: x\r\n\tfrom : ann@example.org\r\nFrom: joe@example.org",
    b"From:\r\n ann@example.org",
    b"From: joe@example.org\r\n ,ann@example.org",
    b"From: <@joe.example:ann@example.org>",
    b"From: <@example.org:joe@example.org>",
    b"From: <joe@example.org> <ann@example.org>",
    b"From: joe@example.org <ann@example.org>",
    b"From: joe@example.org ann@example.org",
    b"From: joe@example.org\r\nSender: ann@example.org",
    b"From: ann@example.org\r\nSender: joe@example.org",
    b"From: joe@example.org\r\nSender: joe@example.org\r\nSender: ann@example.org",
    b"From: joe@example.org\r\nResent-From: ann@example.org",
    b"From: ann@example.org\r\nResent-From: joe@example.org",
    b"From: joe@example.org\r\nResent-Sender: ann@example.org",
    b"From: group: joe@example.org;",
    b"From: group: joe@example.org, ann@example.org;",
    b"From: undisclosed:;",
    b'From: "joe@example.org"@elsewhere.example',
    b'From: "ann@example.org',
    b"From: joe(@example.org, <ann@example.org>)@example.org",
    b"From: ann(comment)@example.org",
    b"From: joe(comment)@example.org",
    b"From: joe@\r\n example.org",
    b"From: =?utf-8?q?joe=40example=2Eorg?=",
    b"From: =?utf-8?q?joe?=@example.org",
    b"From: =?utf-8?q?joe?= <=?utf-8?b?am9l?=@example.org>",
    b"From: joe@example.org\0<ann@example.org>",
    b"From: joe@example.org\xa0<ann@example.org>",
    b"From: joe@example.org.",
    b"From: joe@sub.example.org",
    b"From: joe@example.org%elsewhere.example",
    b"From: \xd0\xb0nn@example.org",
    b"From: jo\xd0\xb5@example.org",
    b"From:",
    b"Subject: no author",
    b"From ann@example.org Tue Nov 14 22:13:20 2023\r\nFrom: joe@example.org",
    b"X: y\r\nno field\r\nFrom: joe@example.org",
    b"From: joe@example.org\r\nno field\r\nFrom: ann@example.org",
    b"From: joe@example.org\r\n\xa0From: ann@example.org",
    b"From: joe@example.org\r\n\0From: ann@example.org",
)


class AuthorTests(SynchronousTestCase):
    """T23, T24: the header."""

    def test_others(self) -> None:
        """No header that names another, or that two programs may read as two authors, is taken."""
        for settings_ in (
            SubmissionSettings(),
            SubmissionSettings(add_from=True),
            SubmissionSettings(bare_newlines="refuse"),
        ):
            for parameters in ("", " SMTPUTF8", " BODY=8BITMIME", " BODY=BINARYMIME", "null"):
                for header in OTHERS:
                    if settings_.add_from and not count(header[: border(header + BODY)], b"From"):
                        continue  # all of it is body below the header that is added; test_added_from looks at that
                    receiver = SubmissionReceiver(settings_)
                    said = receiver.submit(header + BODY, parameters=parameters)
                    self.assertIn("\r\n550 ", "\r\n" + said, (header, parameters))
                    self.assertEqual(receiver.queue.mails, [])
                    (event,) = receiver.of(MailRefused)
                    self.assertIn(event.reason, (Reason.NOT_YOUR_ADDRESS, Reason.BAD_FROM, Reason.SMTPUTF8_NEEDED))

    def test_own(self) -> None:
        """The user's own addresses are taken all the same."""
        for header in (
            b"From: joe@example.org",
            b'From: "Joe, of sales" <sales@example.org>\r\nSender: joe@example.org',
        ):
            receiver = SubmissionReceiver()
            self.assertTrue(receiver.submit(header + BODY).startswith("250"))
            self.assertEqual(len(receiver.queue.mails), 1)

    def test_added_from(self) -> None:
        """A From that is added is the account's, and stands before a body that tries to begin with another."""
        for content in (
            b"Subject: x\r\n\r\ntext",
            b" From: ann@example.org\r\n\r\ntext",
            b"junk\r\nFrom: ann@example.org",
            b"",
        ):
            receiver = SubmissionReceiver(SubmissionSettings(add_from=True))
            self.assertTrue(receiver.submit(content).startswith("250"), content)
            (mail,) = receiver.queue.mails
            whole = mail.header + mail.content
            head = whole[: whole.index(b"\r\n\r\n") + 4]
            self.assertEqual((count(head, b"From"), first(head, b"From")), (1, b"joe@example.org"))
            self.assertNotIn(b"From: ann", head)

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [b"From:", b"from :", b" From:", b"Sender:", b"Subject:", b"joe@example.org", b"ann@example.org", b"<",
                 b">", b",", b" ", b"\r\n", b"\n", b"\r", b"\r\n ", b'"', b"(", b")", b"\\", b":", b";", b"@", b"x",
                 b"\xc3\xbc", b"\xff", b"=?utf-8?q?ann=40example.org?="]
            ),
            max_size=16,
        ).map(b"".join),
        st.sampled_from(["", " SMTPUTF8", " BODY=BINARYMIME", "null"]),
    )  # fmt: skip
    def test_whatever(self, header: bytes, parameters: str) -> None:
        """Whatever is taken: a reader that takes every line end and strips every line finds no From but the user's."""
        receiver = SubmissionReceiver()
        receiver.submit(b"From: joe@example.org" + header + BODY, parameters=parameters)
        for mail in receiver.queue.mails:
            whole = (mail.header + mail.content).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            head = whole.split(b"\n\n")[0]
            authors = [
                line for line in head.split(b"\n") if line.strip().lower().replace(b" ", b"").startswith(b"from:")
            ]
            self.assertEqual(len(authors), 1, whole)
            self.assertNotIn(b"<ann@", authors[0])


class ReversePathTests(SynchronousTestCase):
    """T23: the envelope."""

    def test_others(self) -> None:
        """Nobody else's reverse-path, in no spelling; the own one and the null one are taken."""
        table = {
            "<joe@example.org>": 250,
            "<joe@EXAMPLE.org>": 250,
            "<sales@example.org>": 250,
            '<"joe"@example.org>': 250,
            "<>": 250,
            "<ann@example.org>": 550,
            "<joe@elsewhere.example>": 550,
            "<joe+x@example.org>": 550,
            '<"joe@example.org"@elsewhere.example>': 550,
            "<@example.org:ann@example.org>": 550,
            "<joe%example.org@elsewhere.example>": 550,
            "<=?utf-8?q?joe?=@example.org>": 550,
            "<postmaster@example.org>": 550,
            "<ann@example.org> AUTH=joe@example.org": 555,
        }
        for path, code in table.items():
            receiver = SubmissionReceiver()
            peer = receiver.signed_in()
            self.assertEqual(peer.say(f"MAIL FROM:{path}")[:3], str(code), path)
            if code == 550:
                (event,) = receiver.of(CommandRefused)
                self.assertEqual(event.reason, Reason.NOT_YOUR_ADDRESS)

    def test_nobody(self) -> None:
        """Who has not signed in sends nothing at all, whatever they call themselves."""
        for client in (STRANGER, "127.0.0.1", "::1"):
            for path in ("<joe@example.org>", "<>", "<ann@example.org>"):
                receiver = SubmissionReceiver(relay_from=["198.51.100.0/24"])
                peer = receiver.session(client=client)
                self.assertTrue(peer.say(f"MAIL FROM:{path}").startswith("530 5.7.0"))
                self.assertTrue(peer.say("RCPT TO:<ann@example.org>").startswith("503"))
        peer = SubmissionReceiver(relay_from=["192.0.2.0/24"]).session()
        self.assertTrue(peer.say("MAIL FROM:<anybody@elsewhere.example>").startswith("250"))

    def test_relays(self) -> None:
        """Who has signed in may send to any domain; the next session has to sign in again."""
        receiver = SubmissionReceiver()
        peer = receiver.signed_in(Submitter(), "MAIL FROM:<joe@example.org>")
        self.assertTrue(peer.say("RCPT TO:<x@elsewhere.example>").startswith("250"))
        self.assertTrue(receiver.session().say("MAIL FROM:<joe@example.org>").startswith("530"))


class SmugglingTests(SynchronousTestCase):
    """Line ends that are put right end no mail and hide no field."""

    def test_no_second_mail(self) -> None:
        """A bare LF, dot, bare LF in submitted content is content, in every cut; what follows is no command."""
        content = (
            b"From: joe@example.org\nSubject: x\n\ntext\n.\nMAIL FROM:<ann@example.org>\r.\r\nRCPT TO:<x@y>\n.\r"
            b"DATA\r\n"
        )
        for size in (1, 2, 3, 1000):
            receiver = SubmissionReceiver()
            peer = receiver.signed_in(Submitter(), "MAIL FROM:<joe@example.org>", "RCPT TO:<ann@example.org>", "DATA")
            whole = content + b".\r\n"
            peer.send(whole, range(size, len(whole), size))
            self.assertEqual(peer.codes(), [250])
            (mail,) = receiver.queue.mails
            self.assertEqual(mail.content.replace(b"\r\n", b"").count(b"\n") + mail.content.count(b"\r\r"), 0)
            self.assertIn(
                b"text\r\n.\r\nMAIL FROM:<ann@example.org>\r\n.\r\nRCPT TO:<x@y>\r\n.\r\nDATA\r\n", mail.content
            )

    def test_hidden_field(self) -> None:
        """A From behind a bare CR or LF is seen, and refused."""
        for end in (b"\r", b"\n", b"\n\r"):
            for name in (b"From:", b" From:"):
                receiver = SubmissionReceiver()
                said = receiver.submit(b"From: joe@example.org\r\nX: y" + end + name + b" ann@example.org" + BODY)
                if end != b"\n\r":  # which ends the header: the rest is body
                    self.assertTrue(said.startswith("550 5.6.0"), (end, name))
                header = b"From: joe@example.org\r\nX: y" + end + name + b" ann@example.org"
                said = SubmissionReceiver().submit(header + BODY, parameters=" BODY=BINARYMIME")
                self.assertTrue(said.startswith("550 5.6.0"), (end, name))

    def test_bcc(self) -> None:
        """No recipient learns of Bcc: not from the field, however it is written, nor from Received."""
        for field in (
            b"Bcc: secret@example.org",
            b"BCC :\n secret@example.org",
            b"Resent-Bcc:\r\n\tsecret@example.org",
        ):
            receiver = SubmissionReceiver()
            self.assertTrue(receiver.submit(b"From: joe@example.org\r\n" + field + BODY).startswith("250"))
            (mail,) = receiver.queue.mails
            self.assertNotIn(b"secret", mail.header + mail.content)
