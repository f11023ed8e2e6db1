"""Mail of people who signed in: whose addresses they use, what is put right in it, how much, and what they are told."""

from __future__ import annotations

import re
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

from tests.interop.node import NodeTest
from tests.interop.secure import PASSWORD, SecureNode, password_lines
from tests.interop.session import Session
from tests.interop.test_memory import MIB, all_of
from tests.interop.wire import added_to

#: Octets of the large mail.
LARGE = 20_000_000
RECIPIENTS = 4
PACE = 3
HEADER = "Date: Tue, 03 Mar 2026 10:11:12 +0000\r\nMessage-ID: <one@client.test>\r\n"


class Here(SecureNode):
    """ann has an alias, and may write as others; ``few`` may send 3 mails an hour."""

    def __init__(self) -> None:
        lines = password_lines(PASSWORD)
        super().__init__(
            tables='[[alias]]\naddress = "sales@here.test"\nto = ["ann@here.test"]\n'
            f'[[account]]\naddress = "wide@here.test"\nsends_as = ["office@else.test", "*@sub.test"]\n{lines}'
            f'[[account]]\naddress = "few@here.test"\nmails_per_hour = {PACE}\n{lines}'
            f"[submission]\nrecipients = {RECIPIENTS}\n"
        )


class SubmissionTest(NodeTest):
    """One node."""

    def setUp(self) -> None:
        self.here = cast(Here, self.shared(lambda: (Here(),))[0])

    def session(self, name: str = "ann@here.test") -> Session:
        """Somebody has signed in."""
        session = Session(self.here.ports["starttls"], self.here.authority.root, "starttls")
        self.addCleanup(session.close)
        self.assertTrue(session.plain(name, PASSWORD).startswith("235"))
        return session

    def submit(self, session: Session, content: str | bytes, sender: str = "ann@here.test") -> str:
        """One mail for joe; gives the reply to its content."""
        session.open(["joe@here.test"], sender)
        return session.data(content.encode() if isinstance(content, str) else content)

    def arrived(self, reply: str) -> tuple[bytes, EmailMessage]:
        """What joe got of a mail that was accepted."""
        self.assertRegex(reply, r"^250 2\.0\.0 Queued as \w+$")
        mail = self.here.wait_mail("joe", having=b" id " + reply.split()[-1].encode())
        return mail, message_from_bytes(mail, policy=policy.default)

    # ---- whose addresses -------------------------------------------------------------------------------------

    def test_own_addresses(self) -> None:
        """The account's address, aliases that lead to it, subaddresses and the null reverse-path: all its own."""
        session = self.session()
        for sender in ("ann@here.test", "Ann@HERE.test", "sales@here.test", "ann+shop@here.test", ""):
            with self.subTest(sender=sender):
                reply = self.submit(session, f"From: {sender or 'ann@here.test'}\r\n{HEADER}\r\nHello\r\n", sender)
                mail, _ = self.arrived(reply)
                self.assertIn(f"Return-Path: <{sender}>\n".lower(), mail.decode().lower())

    def test_sends_as(self) -> None:
        """What ``sends_as`` names, an address or a whole domain; no other, and not its subdomains."""
        session = self.session("wide@here.test")
        for sender in ("office@else.test", "any.one@sub.test"):
            self.arrived(self.submit(session, f"From: {sender}\r\n{HEADER}\r\nHello\r\n", sender))
        for sender in ("other@else.test", "x@sub.sub.test", "ann@here.test", "sales@here.test"):
            reply = session.ask(f"MAIL FROM:<{sender}>")
            self.assertEqual(
                reply,
                f"550-5.7.1 You may not send from <{sender}>: it is not an address of wide@here.test.\n"
                "550 5.7.1 Choose your own address in your mail program, or let your postmaster give you that one.",
            )

    def test_authors(self) -> None:
        """From and Sender must be the account's own, and there is one From."""
        session = self.session()
        for fields, words in (
            (
                "From: joe@here.test\r\n",
                "You may not write as From: <joe@here.test>: it is not an address of ann@here.",
            ),
            ("From: ann@here.test\r\nSender: joe@here.test\r\n", "You may not write as Sender: <joe@here.test>"),
            ("From: ann@here.test\r\nFrom: joe@here.test\r\n", "the mail has 2 From fields; it may have one"),
            ("From: ann@here.test, joe@here.test\r\n", "You may not write as From: <joe@here.test>"),
            ("", "the mail has no From field; set your address in your mail program"),
        ):
            with self.subTest(fields=fields):
                reply = self.submit(session, f"{fields}{HEADER}Subject: never\r\n\r\nHello\r\n")
                self.assertRegex(reply, r"^550[ -]5\.[67]\.[01] ")
                self.assertIn(words, reply)
        event = self.here.wait_event("mail-refused", reason="bad-from")
        self.assertEqual(event["reverse_path"], "ann@here.test")

    def test_not_signed_in(self) -> None:
        """Who has not signed in is told so, and how."""
        session = Session(self.here.ports["starttls"], self.here.authority.root, "starttls")
        self.addCleanup(session.close)
        self.assertRegex(session.ask("MAIL FROM:<ann@here.test>"), r"^530 5\.7\.0 .*[Ss]ign in")

    # ---- what is put right -----------------------------------------------------------------------------------

    def test_repair(self) -> None:
        """Bcc goes, Date and Message-ID come; all else is as it was."""
        content = (
            "From: ann@here.test\r\nTo: joe@here.test\r\nBcc: demo@here.test,\r\n secret@here.test\r\n"
            "Subject: a\r\n\r\nHello\r\n"
        )
        session = self.session()
        session.open(["joe@here.test", "demo@here.test"], "ann@here.test")
        reply = session.data(content.encode())
        mail, read = self.arrived(reply)
        self.here.wait_mail("demo", having=reply.split()[-1].encode())
        self.assertNotIn(b"bcc", mail.lower())
        self.assertNotIn(b"secret@", mail)
        self.assertEqual((len(read.get_all("Date", [])), len(read.get_all("Message-ID", []))), (1, 1))
        self.assertRegex(str(read["Message-ID"]), r"^<\S+@mx\.here\.test>$")
        self.assertLess(abs(read["Date"].datetime.timestamp() - time.time()), 60)
        self.assertTrue(mail.endswith(b"From: ann@here.test\nTo: joe@here.test\nSubject: a\n\nHello\n"))

    def test_complete(self) -> None:
        """A mail that lacks nothing arrives octet for octet."""
        content = f"From: ann@here.test\r\n{HEADER}Subject:   odd   \r\n\tfolds\r\n\r\n.dots\r\n..\r\n".encode()
        mail, _ = self.arrived(self.submit(self.session(), content))
        added_to(mail, content)

    def test_bare_newlines(self) -> None:
        """Lines that end in a bare LF or CR end in CRLF when they arrive; a dot on such a line ends no mail."""
        session = self.session()
        session.open(["joe@here.test"], "ann@here.test")
        session.must("DATA", "354")
        lines = f"From: ann@here.test\n{HEADER}Subject: bare\n\nfirst\n.\nMAIL FROM:<x@y.test>\rlast\r\n.\r\n"
        session.send(lines.encode())
        mail, _ = self.arrived(session.reply())
        self.assertTrue(mail.endswith(b"Subject: bare\n\nfirst\n.\nMAIL FROM:<x@y.test>\nlast\n"), mail)
        self.assertNotIn(b"\r", mail)

    def test_eight_bit(self) -> None:
        """UTF-8 in the header becomes encoded-words, and the body is said to be UTF-8; in an address it is refused."""
        session = self.session()
        content = f"From: Ann Grün <ann@here.test>\r\n{HEADER}Subject: Grüße aus Köln\r\n\r\nÄpfel\r\n"
        mail, read = self.arrived(self.submit(session, content))
        self.assertTrue(mail.partition(b"\n\n")[0].isascii())
        self.assertEqual((read["Subject"], read["From"]), ("Grüße aus Köln", "Ann Grün <ann@here.test>"))
        self.assertEqual(read.get_content(), "Äpfel\n")
        reply = self.submit(session, f"From: ann@here.test\r\nTo: jürgen@here.test\r\n{HEADER}\r\nHello\r\n")
        self.assertRegex(reply, r"^550 5\.6\.7 An address in To has characters outside ASCII: it needs SMTPUTF8")

    # ---- how much --------------------------------------------------------------------------------------------

    def test_recipients(self) -> None:
        """The recipient that is one too many is told to come in another mail; the others get theirs."""
        session = self.session()
        session.open([f"{who}@here.test" for who in ("joe", "ann", "wide", "few")], "ann@here.test")
        reply = session.ask("RCPT TO:<demo@here.test>")
        self.assertEqual(reply, f"452 4.5.3 Your mails may have {RECIPIENTS} recipients each; send the rest in another")
        self.arrived(session.data(f"From: ann@here.test\r\n{HEADER}\r\nHello\r\n".encode()))
        event = self.here.wait_event("recipient-refused", recipient="demo@here.test")
        self.assertEqual(event["reason"], "too-many-recipients")

    def test_pace(self) -> None:
        """An account that has sent its mails for the hour is told when it may go on, in other sessions, too."""
        session = self.session("few@here.test")
        for _ in range(PACE):
            self.arrived(self.submit(session, f"From: few@here.test\r\n{HEADER}\r\nHello\r\n", "few@here.test"))
        for one in (session, self.session("few@here.test")):
            said = re.fullmatch(
                rf"450 4\.7\.1 You have sent {PACE} mails within an hour, which is all your account may; "
                r"try again in (\d+) minutes",
                one.ask("MAIL FROM:<few@here.test>"),
            )
            self.assertTrue(said and 58 <= int(said[1]) <= 60)
        self.here.wait_event("command-refused", reason="too-many-mails")
        self.session("ann@here.test").must("MAIL FROM:<ann@here.test>")

    def test_memory(self) -> None:
        """A mail of 20 MB that needs repair: no process of the node has more than 8 MiB more."""
        session = self.session()
        line = "a line of sixty-four octets, that ends in LF: it must be repaired\n"
        head = "From: ann@here.test\r\nBcc: x@here.test\r\nSubject: large\r\n\r\n"
        self.arrived(self.submit(session, head + line * 30_000))  # threads and caches are there then
        content = (head + line * (LARGE // len(line)) + "the end\r\n").encode()
        memories = all_of(self.here)
        session.open(["joe@here.test"], "ann@here.test")
        reply = session.data_large(content)
        mail, _ = self.arrived(reply)
        self.here.wait_event("mail-finished", queue_id=reply.split()[-1])
        for memory in memories:
            added = memory.added()
            self.assertLessEqual(added, 8 * MIB, f"added {added / MIB:.1f} MiB to {memory.before / MIB:.0f} MiB")
        self.assertTrue(mail.partition(b"\n\n")[2].decode() == line * (LARGE // len(line)) + "the end\n")
        self.assertNotIn(b"Bcc", mail[:2000])
