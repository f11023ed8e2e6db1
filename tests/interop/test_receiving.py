"""Mail comes in by other programs' clients and by hand, and lies in the Maildir octet for octet."""

from __future__ import annotations

import mailbox
import os
import pty
import select
import shutil
import smtplib
import subprocess
import time
from collections.abc import Sequence
from email import message_from_bytes, policy
from pathlib import Path

from tests.interop.mails import CHUNKED, SAMPLES, Sample, plain, with_attachments
from tests.interop.node import Node, NodeTest
from tests.interop.wire import Client, added_to, send

#: Seconds for a program of others.
PROGRAM_TIME = 30
SWAKS = shutil.which("swaks")
MUTT = shutil.which("mutt")


def on_a_terminal(program: Sequence[str], home: Path) -> bytes:
    """Run a program that wants a terminal; gives what it showed. It is killed when it does not end."""
    ours, its = pty.openpty()
    environment = {"TERM": "vt100", "HOME": str(home), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    child = subprocess.Popen(program, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True)
    os.close(its)
    screen = b""
    end = time.monotonic() + PROGRAM_TIME
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                screen += os.read(ours, 65536)
            elif child.poll() is not None:
                break
    except OSError:
        pass  # it has closed the terminal
    finally:
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)
        os.close(ours)
    return screen


class ReceivingTest(NodeTest):
    """One node, many ways to bring it a mail."""

    def setUp(self) -> None:
        (self.here,) = self.shared(lambda: (Node(),))

    def kept(self, queue_id: str, who: str = "joe") -> bytes:
        """The Maildir's file of a mail, once it is there."""
        return self.here.wait_mail(who, having=b" id " + queue_id.encode())

    def bring(self, samples: Sequence[Sample], chunks: int) -> None:
        """Send all, then compare all."""
        ids = []
        for sample in samples:
            body = " BODY=BINARYMIME" if sample.binary else " BODY=8BITMIME" if sample.eight_bit else ""
            ids.append(send(self.here.port, sample.content, parameters=body, chunks=chunks))
        for sample, queue_id in zip(samples, ids, strict=True):
            with self.subTest(sample=sample.name):
                added = added_to(self.kept(queue_id), sample.content, sample.binary)
                self.assertTrue(added.startswith(b"Return-Path: <someone@client.test>\nDelivered-To: joe@here.test\n"))
                self.assertEqual(added.count(b"Received: "), 1)

    def test_data(self) -> None:
        """By DATA: attachments, 8-bit text, dots at line starts, lines of 70 000 octets, no body, no header."""
        self.bring(SAMPLES, chunks=0)

    def test_bdat(self) -> None:
        """By BDAT in chunks of 1000 octets: the same, no final newline, nothing at all, and binary by BINARYMIME."""
        self.bring((*SAMPLES, *CHUNKED), chunks=1000)

    def test_bdat_at_once(self) -> None:
        """By BDAT in one chunk."""
        self.bring((*SAMPLES, *CHUNKED), chunks=1 << 30)

    def test_one_octet_a_packet(self) -> None:
        """A whole session that comes octet by octet."""
        content = plain("drip", b".\r\n..\r\nend\r\n")
        with Client(self.here.port) as client:
            for octet in b"MAIL FROM:<a@b.test>\r\nRCPT TO:<joe@here.test>\r\nDATA\r\n":
                client.send(bytes((octet,)))
            self.assertEqual([client.reply()[:3] for _ in range(3)], ["250", "250", "354"])
            for octet in content.replace(b"\r\n.", b"\r\n..") + b".\r\n":
                client.send(bytes((octet,)))
            reply = client.reply()
            self.assertTrue(reply.startswith("250 "), reply)
        added_to(self.kept(reply.split()[-1]), content)

    def test_pipelined(self) -> None:
        """Three mails, RSET and QUIT in one packet: all replies, in order (RFC 2920)."""
        mail = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<joe@here.test>\r\n"
        contents = [plain(f"pipelined {number}") for number in range(3)]
        with Client(self.here.port) as client:
            client.send(
                b"".join(mail + b"BDAT %d LAST\r\n" % len(content) + content for content in contents)
                + mail
                + b"RSET\r\nQUIT\r\n"
            )
            replies = [client.reply() for _ in range(3 * 3 + 4)]
        self.assertEqual([reply[:3] for reply in replies], ["250"] * 12 + ["221"])
        for number, content in enumerate(contents):
            added_to(self.kept(replies[number * 3 + 2].split()[-1]), content)

    def test_smtplib(self) -> None:
        """Python's smtplib: EHLO, SIZE, 8-bit, several recipients; a mail with attachments is read as it was."""
        content = with_attachments("by smtplib")
        with smtplib.SMTP("127.0.0.1", self.here.port, timeout=PROGRAM_TIME) as client:
            client.ehlo()
            for extension in ("size", "pipelining", "8bitmime", "smtputf8", "chunking", "dsn", "enhancedstatuscodes"):
                self.assertTrue(client.has_extn(extension), extension)
            refused = client.sendmail(
                "someone@client.test", ["joe@here.test", "ann@here.test"], content, ["BODY=8BITMIME"]
            )
            self.assertEqual(refused, {})
        for who in ("joe", "ann"):
            kept = self.here.wait_mail(who, having=b"by smtplib")
            added_to(kept, content)
            read = message_from_bytes(kept, policy=policy.default)
            files = {part.get_filename(): part.get_content() for part in read.iter_attachments()}
            self.assertEqual(files["ö.bin"], bytes(range(256)) * 400)
            self.assertEqual(files["lines.txt"], "one line\n" * 50)
            self.assertEqual(read["Subject"], "by smtplib — Grüße")
            self.assertEqual(read["Return-Path"], "<someone@client.test>")

    def test_refused_recipient_among_others(self) -> None:
        """Who is unknown is refused at RCPT, the others have the mail (smtplib tells which)."""
        with smtplib.SMTP("127.0.0.1", self.here.port, timeout=PROGRAM_TIME) as client:
            recipients = ["nobody@here.test", "ann@here.test", "joe@elsewhere.test"]
            refused = client.sendmail("someone@client.test", recipients, plain("among others"))
        self.assertEqual({who: code for who, (code, _) in refused.items()}, {recipients[0]: 550, recipients[2]: 550})
        self.here.wait_mail("ann", having=b"among others")
        self.here.wait_event("recipient-refused", recipient="nobody@here.test", reason="unknown-recipient")
        self.here.wait_event("recipient-refused", recipient="joe@elsewhere.test", reason="relay-denied")

    def test_swaks(self) -> None:
        """swaks, pipelined, with dots at line starts: it ends with 0, and the mail is there."""
        program = [
            SWAKS or "", "--server", f"127.0.0.1:{self.here.port}", "--to", "demo@here.test",
            "--from", "someone@client.test", "--ehlo", "client.test", "--pipeline", "--suppress-data",
            "--header", "Subject: by swaks", "--body", ".\n..\nfrom swaks",
        ]  # fmt: skip
        done = subprocess.run(program, capture_output=True, text=True, timeout=PROGRAM_TIME, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        kept = self.here.wait_mail("demo", having=b"by swaks")
        self.assertIn(b"\n.\n..\nfrom swaks", kept)

    def test_maildir(self) -> None:
        """Python's mailbox reads the Maildir: new mails, sizes in their names, modes for the owner only."""
        send(self.here.port, plain("to be listed"), ["demo@here.test"])
        self.here.wait_mail("demo", having=b"to be listed")
        path = self.here.maildir("demo")
        box = mailbox.Maildir(path, create=False)
        found = [message for message in box if message["Subject"] == "to be listed"]
        self.assertEqual(len(found), 1)
        self.assertEqual(found[0].get_subdir(), "new")
        self.assertEqual(str(found[0].get_payload()).strip(), "Hello.")
        for file in (path / "new").iterdir():
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
            self.assertEqual(file.name.rpartition(",S=")[2], str(file.stat().st_size))
        self.assertEqual(list((path / "tmp").iterdir()), [])

    def test_mutt(self) -> None:
        """mutt opens the Maildir, and saves the mail it finds there elsewhere, as it is."""
        content = plain("for mutt", b"A line.\r\n.\r\nGr\xc3\xbc\xc3\x9fe\r\n")
        send(self.here.port, content, ["demo@here.test"], parameters=" BODY=8BITMIME")
        kept = self.here.wait_mail("demo", having=b"for mutt")
        # A Maildir with this mail alone, under the name it was given: other tests put theirs into demo's, too.
        alone = self.here.place / "alone"
        for name in ("tmp", "new", "cur"):
            (alone / name).mkdir(parents=True)
        [file] = [path for path in (self.here.maildir("demo") / "new").iterdir() if path.read_bytes() == kept]
        shutil.copy2(file, alone / "new" / file.name)
        saved = self.here.place / "saved"
        program = [
            MUTT or "", "-n", "-F", "/dev/null", "-f", str(alone),
            "-e", f"set folder={self.here.place}",
            "-e", "set mbox_type=Maildir delete=no confirmcreate=no confirmappend=no quit=yes move=no",
            "-e", f"push '<copy-message><kill-line>{saved}<enter><exit>'",
        ]  # fmt: skip
        screen = on_a_terminal(program, self.here.place)
        copies = [path for path in saved.glob("*/*") if path.is_file()]
        self.assertEqual(len(copies), 1, screen)
        self.assertIn(content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n"), copies[0].read_bytes())
        self.assertIn(b"Gr\xc3\xbc\xc3\x9fe", kept)

    if SWAKS is None:
        test_swaks.skip = "swaks is not installed"  # type: ignore[attr-defined]
    if MUTT is None:
        test_mutt.skip = "mutt is not installed"  # type: ignore[attr-defined]


class AddressesTest(NodeTest):
    """Whose mail goes where."""

    def setUp(self) -> None:
        self.here, self.there = self.shared(self.make)

    @staticmethod
    def make() -> tuple[Node, ...]:
        """A node with aliases, and another one to which some of them lead."""
        there = Node(domain="there.test")
        here = Node(
            top='relay_from = ["127.0.0.0/8"]',
            tables=f"""
[[domain]]
name = "all.test"
catch_all = "ann@here.test"
[[account]]
address = "known@all.test"
[[alias]]
address = "sales@here.test"
to = ["joe@here.test", "team@here.test"]
[[alias]]
address = "team@here.test"
to = ["ann@here.test", "joe@here.test", "demo@there.test"]
[[route]]
domain = "there.test"
next_hop = "[127.0.0.1]:{there.port}"
""",
        )
        return here, there

    def arrives(self, address: str, node: Node, who: str, words: str) -> bytes:
        """Send a mail to ``address`` and wait for it in another's Maildir."""
        send(self.here.port, plain(words), [address])
        return node.wait_mail(who, having=words.encode())

    def test_aliases(self) -> None:
        """Aliases lead to aliases and to other hosts; whom two ways lead to has the mail once."""
        queue_id = send(self.here.port, plain("to sales"), ["sales@here.test"])
        for node, who in ((self.here, "joe"), (self.here, "ann"), (self.there, "demo")):
            node.wait_mail(who, having=b"to sales")
        self.here.wait_event("mail-finished", queue_id=queue_id)
        self.assertEqual(sum(b"to sales" in mail for mail in self.here.mails("joe")), 1)

    def test_subaddress(self) -> None:
        """joe+anything@ is joe."""
        mail = self.arrives("joe+lists@here.test", self.here, "joe", "to a subaddress")
        self.assertIn(b"for <joe+lists@here.test>", mail)

    def test_catch_all(self) -> None:
        """In a domain with a catch-all nobody is unknown, and who has an account has the mail himself."""
        self.arrives("whoever@all.test", self.here, "ann", "caught")
        send(self.here.port, plain("not caught"), ["known@all.test"])
        new = self.here.state / "mail" / "all.test" / "known" / "new"
        self.here.wait_event("recipient-delivered", recipient="known@all.test")
        self.assertEqual(len(list(new.iterdir())), 1)

    def test_case(self) -> None:
        """Domains have no case, and neither have our local-parts."""
        self.arrives("JOE@Here.TEST", self.here, "joe", "in capitals")

    def test_postmaster_and_abuse(self) -> None:
        """postmaster, also without a domain, and abuse lie in a mailbox (RFC 5321 section 4.5.1, RFC 2142)."""
        for number, address in enumerate(("postmaster@here.test", "abuse@here.test", "postmaster")):
            with self.subTest(address=address):
                queue_id = send(self.here.port, plain(f"for the postmaster {number}"), [address])
                event = self.here.wait_event("recipient-delivered", queue_id=queue_id)
                who = event["recipient"].partition("@")[0]
                self.assertTrue(any(queue_id.encode() in mail for mail in self.here.mails(who)), event)
