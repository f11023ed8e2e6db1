"""Tests of writing a batch of mails into Maildirs."""

from __future__ import annotations

import errno
import mailbox
import os
from itertools import islice
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.delivery import batch
from twisted_mail_node.delivery.batch import BatchWriter, UniqueNames, stored, to_lf
from twisted_mail_node.delivery.frames import BROKEN, DELIVERED, FAILED, Job, Target, Written
from twisted_mail_node.delivery.mailbox import Mailbox

CONTENT = b"From: ann@elsewhere.test\r\nSubject: x\r\n\r\nOne\r\n..\r\n"


class StoredTests(SynchronousTestCase):
    """CRLF becomes LF."""

    @given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n"]), max_size=12), st.integers(1, 9))
    def test_every_cut(self, parts: list[bytes], cut: int) -> None:
        """However the content is cut into blocks, the result is that of the whole."""
        whole = b"".join(parts)
        blocks = [whole[n : n + cut] for n in range(0, len(whole), cut)]
        self.assertEqual(b"".join(stored(blocks, False)), whole.replace(b"\r\n", b"\n"))
        if whole.startswith(b"\r\n"):
            head, body = whole[:2], whole[2:]
        elif b"\r\n\r\n" in whole:
            end = whole.index(b"\r\n\r\n") + 4
            head, body = whole[:end], whole[end:]
        else:
            head, body = whole, b""
        self.assertEqual(b"".join(stored(blocks, True)), head.replace(b"\r\n", b"\n") + body)

    def test_no_header_end(self) -> None:
        """A BINARYMIME mail whose header does not end is not gathered in memory for ever."""
        self.patch(batch, "HEADER_MAX", 8)
        self.assertEqual(list(stored([b"abc\r\n", b"defgh\r", b"\ni\r\n\r\n"], True)), [b"abc\ndefgh", b"\ni\n\n"])

    @given(st.binary(max_size=9) | st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n"]), max_size=9).map(b"".join))
    def test_to_lf(self, octets: bytes) -> None:
        """The quick way comes to the same as replacing."""
        self.assertEqual(to_lf(octets), octets.replace(b"\r\n", b"\n"))


class UniqueNamesTests(SynchronousTestCase):
    """Names of files."""

    def test_form(self) -> None:
        """Seconds, microseconds, pid, chance, count and host; no octet that means something else in a Maildir."""
        [name] = islice(UniqueNames("a/b:c,d").some(1700000000.25), 1)
        self.assertRegex(name, rf"^1700000000\.M250000P{os.getpid()}R[0-9a-f]{{12}}Q1\.a\\057b\\072c\\054d$")

    def test_unique(self) -> None:
        """Two names differ: in a batch, between batches of the same instant, between two starts."""
        names, others = UniqueNames("h"), UniqueNames("h")
        made = [*islice(names.some(1.0), 500), *islice(names.some(1.0), 500), *islice(others.some(1.0), 500)]
        self.assertEqual(len(set(made)), 1500)


HEAD = b"Return-Path: <ann@elsewhere.test>\nReceived: by us\n"
OK = Written(DELIVERED)


class BatchWriterTests(SynchronousTestCase):
    """A batch."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.said: list[str] = []
        self.writer = BatchWriter("mx.test", "auto", self.said.append, now=lambda: 1700000000.5)
        self.addCleanup(self.writer.close)

    def targets(self, *names: str) -> tuple[Target, ...]:
        """Mailboxes below our directory."""
        return tuple(Target(str(self.root / name), HEAD) for name in names)

    def mail(self, *names: str, content: bytes = CONTENT, binary: bool = False) -> Job:
        """A mail in memory for these mailboxes."""
        return Job(0, self.targets(*names), content, binary=binary)

    def mail_in_file(self, *names: str, content: bytes, size: int = -1, binary: bool = False) -> Job:
        """A mail in a file."""
        path = self.mktemp()
        Path(path).write_bytes(content)
        return Job(0, self.targets(*names), None, path, size if size >= 0 else len(content), binary)

    def write(self, *jobs: Job) -> list[list[Written]]:
        """Write one batch."""
        done = self.writer.write([job._replace(number=7 + n) for n, job in enumerate(jobs)])
        self.assertEqual([number for number, _ in done], [7 + n for n in range(len(jobs))])
        return [written for _, written in done]

    def files(self, name: str) -> list[bytes]:
        """What lies in ``new``."""
        return [path.read_bytes() for path in sorted((self.root / name / "new").iterdir())]

    def test_delivers(self) -> None:
        """The file holds the head of the target and the content, with LF."""
        job = Job(0, (Target(str(self.root / "joe"), b"To: joe\n"), Target(str(self.root / "ann"), b"")), CONTENT)
        self.assertEqual(self.write(job), [[OK, OK]])
        content = b"From: ann@elsewhere.test\nSubject: x\n\nOne\n..\n"
        self.assertEqual(self.files("joe"), [b"To: joe\n" + content])
        self.assertEqual(self.files("ann"), [content])
        self.assertEqual(self.said, [])

    def test_read_by_others(self) -> None:
        """Python's mailbox.Maildir reads what was written, and its name tells the size as Maildir++ does."""
        self.write(self.mail("joe"))
        found = mailbox.Maildir(self.root / "joe", create=False)
        [(key, message)] = found.items()
        self.assertEqual((message["Received"], message["Subject"], message.get_subdir()), ("by us", "x", "new"))
        self.assertEqual(message.get_payload(), "One\n..\n")
        self.assertTrue(key.endswith(f",S={len(self.files('joe')[0])}"), key)
        self.assertNotIn(":", key)

    def test_return_path(self) -> None:
        """Return-Path fields of others go, in mails in memory and in files; elsewhere the words stay (RFC 5321 4.4)."""
        content = (
            b"return-PATH: <x@evil.test>\r\nFrom: a@b.test\r\nReturn-Path:\r\n <y@evil.test>\r\n"
            b"Subject: Return-Path: z\r\n\r\nReturn-Path: <kept@body.test>\r\n"
        )
        kept = b"From: a@b.test\nSubject: Return-Path: z\n\nReturn-Path: <kept@body.test>\n"
        self.assertEqual(self.write(self.mail("joe", content=content)), [[OK]])
        self.assertEqual(self.write(self.mail_in_file("ann", content=content)), [[OK]])
        self.assertEqual([self.files("joe"), self.files("ann")], [[HEAD + kept], [HEAD + kept]])

    def test_many(self) -> None:
        """A batch of several mails for several mailboxes: each gets each mail once, by syncfs and by fsync."""
        for mode in ("syncfs", "fsync"):
            self.writer._sync = mode
            self.assertEqual(self.write(*[self.mail(f"{mode}-1", f"{mode}-2")] * 5), [[OK, OK]] * 5)
            self.assertEqual([len(self.files(f"{mode}-{n}")) for n in (1, 2)], [5, 5])

    def test_file(self) -> None:
        """Content that lies in a file is written block by block, to the same end for each mailbox."""
        content = CONTENT * 50
        for block in (1, 7, 4096):
            self.patch(batch, "BLOCK", block)
            names = f"joe{block}", f"ann{block}"
            self.assertEqual(self.write(self.mail_in_file(*names, content=content)), [[OK, OK]])
            for name in names:
                self.assertEqual(self.files(name), [HEAD + content.replace(b"\r\n", b"\n")])

    def test_binary(self) -> None:
        """The body of a BINARYMIME mail stays as it is (RFC 3030), in memory and in a file."""
        content = b"Subject: x\r\n\r\n\x00\r\n\n\r\r\n"
        self.patch(batch, "BLOCK", 3)
        self.write(
            self.mail("joe", content=content, binary=True), self.mail_in_file("joe", content=content, binary=True)
        )
        self.assertEqual(self.files("joe"), [HEAD + b"Subject: x\n\n\x00\r\n\n\r\r\n"] * 2)

    def test_one_broken_mailbox(self) -> None:
        """T19: a mailbox behind a symbolic link fails alone, with the errno, and the log names it."""
        self.root.mkdir()
        (self.root / "joe").symlink_to("/tmp")
        first, second = self.write(self.mail("joe", "ann"), self.mail("ann"))
        self.assertEqual((first[0].kind, first[1:], second), (FAILED, [OK], [OK]))
        self.assertIn(first[0].errno, (errno.ELOOP, errno.ENOTDIR))
        self.assertEqual(len(self.said), 1)
        self.assertIn(str(self.root / "joe"), self.said[0])

    def test_errors(self) -> None:
        """An error of the system is told with its number; the mailbox works again when the system does."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO, errno.EMFILE):
            with mock.patch("twisted_mail_node.delivery.mailbox.os.write", side_effect=OSError(number, "x")):
                self.assertEqual(self.write(self.mail("joe")), [[Written(FAILED, number)]])
        self.assertEqual(self.write(self.mail("joe")), [[OK]])
        self.assertEqual(len(self.files("joe")), 1)

    def test_file_gone(self) -> None:
        """Content that cannot be read, or not to its end, fails, and nothing of it stays in the mailbox."""
        gone = Job(0, self.targets("joe"), None, str(self.root / "none"), 5)
        self.assertEqual(self.write(gone), [[Written(FAILED, errno.ENOENT)]])
        self.assertEqual(self.write(self.mail_in_file("joe", content=CONTENT, size=999)), [[Written(FAILED, 0)]])
        self.assertEqual(self.files("joe") + os.listdir(self.root / "joe" / "tmp"), [])

    def test_file_has_grown(self) -> None:
        """No more of a file is read than the spool says is the mail's."""
        self.write(self.mail_in_file("joe", content=b"Subject: x\r\n\r\nabcdef", size=17))
        self.assertEqual(self.files("joe"), [HEAD + b"Subject: x\n\nabc"])

    def test_sync_fails(self) -> None:
        """When the sync fails nothing of the batch counts as delivered, whatever lies in the mailboxes."""
        (broken,) = self.targets("../joe")
        jobs = [*[self.mail("joe")] * 3, Job(0, (*self.targets("ann"), broken), CONTENT)]
        with mock.patch.object(batch, "sync_filesystems", side_effect=OSError(errno.EIO, "x")):
            written = self.write(*jobs)
        failed = Written(FAILED, errno.EIO)
        self.assertEqual(written, [[failed]] * 3 + [[failed, Written(FAILED, errno.EINVAL)]])
        self.assertIn("4 mails could not be made durable", self.said[-1])
        self.assertEqual(self.write(self.mail("joe")), [[OK]])

    def test_fsync_fails(self) -> None:
        """So it is when the directory of a small batch cannot be synced."""
        self.writer._sync = "fsync"
        with mock.patch.object(Mailbox, "sync_directory", side_effect=OSError(errno.EIO, "x")):
            self.assertEqual(self.write(self.mail("joe")), [[Written(FAILED, errno.EIO)]])

    def test_synced_before_told(self) -> None:
        """Everything has its final name before the one sync."""
        seen: list[int] = []
        with mock.patch.object(batch, "sync_filesystems", lambda found: seen.append(len(self.files("joe")))):
            self.write(*[self.mail("joe")] * 4)
        self.assertEqual(seen, [4])

    def test_something_else_breaks(self) -> None:
        """An unexpected exception breaks that mailbox's delivery alone; a path with a NUL is such a thing."""
        written = self.write(Job(0, (Target(f"{self.root}/j\0e", HEAD), *self.targets("ann")), CONTENT))
        self.assertEqual(written, [[Written(BROKEN), OK]])
        self.assertEqual(len(self.said), 1)

    def test_batch_breaks(self) -> None:
        """A batch that breaks as a whole leaves nothing behind: the next looks at its mailboxes anew."""
        with mock.patch.object(batch, "sync_filesystems", side_effect=RuntimeError("x")):
            self.assertRaises(RuntimeError, self.write, *[self.mail("joe")] * 3)
        (self.root / "joe").rename(self.root / "moved")
        self.assertEqual(self.write(self.mail("joe")), [[OK]])
        self.assertEqual(len(self.files("joe")), 1)
