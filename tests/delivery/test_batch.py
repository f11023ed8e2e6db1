"""Tests of writing a batch of mails into Maildirs."""

from __future__ import annotations

import errno
import mailbox
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mail_node.delivery import batch
from twisted_mail_node.delivery.batch import BatchWriter, Job, UniqueNames, stored
from twisted_mail_node.interfaces import IContent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Body, Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason


@implementer(IContent)
class Content:
    """Content in memory, or in blocks."""

    def __init__(self, octets: bytes, block: int = 0) -> None:
        self.size = len(octets)
        self.octets: bytes | None = None if block else octets
        self.eight_bit = False
        self._all = octets
        self._block = block

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        """See IContent."""
        step = self._block or size
        for start in range(0, self.size, step):
            yield self._all[start : start + step]


class UnreadableContent(Content):
    """Content whose file is gone."""

    def __init__(self) -> None:
        super().__init__(b"x", 1)

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        """See IContent."""
        raise OSError(errno.EIO, "gone")
        yield b""


def request_for(
    content: Content, *names: str, body: Body = "7BIT", reverse_path: Address | None = None
) -> DeliveryRequest:
    """A request for recipients at local.test."""
    recipients = tuple(Recipient(Address(name, "local.test"), Address(name, "local.test")) for name in names)
    envelope = Envelope(reverse_path, recipients, body=body)
    return DeliveryRequest("Q1", envelope, recipients, b"Received: by us\r\n", content, "local.test", 60.0)


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


class BatchWriterTests(SynchronousTestCase):
    """A batch."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.writer = BatchWriter("mx.test", "auto", now=lambda: 1700000000.5)
        self.addCleanup(self.writer.close)

    def write(self, *requests: DeliveryRequest) -> list[list[DeliveryStatus]]:
        """Write one batch; a recipient called nobody has no mailbox."""
        jobs = []
        for number, request in enumerate(requests):
            names = [recipient.address.local_part for recipient in request.recipients]
            paths = tuple(None if name == "nobody" else str(self.root / name) for name in names)
            jobs.append(Job(number, request, paths))
        done = self.writer.write(jobs, range(len(jobs)))
        self.assertEqual([number for number, _ in done], list(range(len(requests))))
        return [statuses for _, statuses in done]

    def files(self, name: str) -> list[bytes]:
        """What lies in ``new``."""
        return [path.read_bytes() for path in sorted((self.root / name / "new").iterdir())]

    def test_delivers(self) -> None:
        """The file holds Return-Path, Delivered-To, our trace fields and the content, with LF."""
        [[status]] = self.write(request_for(Content(CONTENT), "joe", reverse_path=Address("ann", "elsewhere.test")))
        self.assertEqual((status.action, status.status), (Action.DELIVERED, "2.0.0"))
        self.assertEqual(
            self.files("joe"),
            [
                b"Return-Path: <ann@elsewhere.test>\nDelivered-To: joe@local.test\nReceived: by us\n"
                b"From: ann@elsewhere.test\nSubject: x\n\nOne\n..\n"
            ],
        )

    def test_read_by_others(self) -> None:
        """Python's mailbox.Maildir reads what was written, and its name tells the size as Maildir++ does."""
        self.write(request_for(Content(CONTENT), "joe"))
        found = mailbox.Maildir(self.root / "joe", create=False)
        [(key, message)] = found.items()
        self.assertEqual((message["Return-Path"], message["Subject"], message.get_subdir()), ("<>", "x", "new"))
        self.assertEqual(message.get_payload(), "One\n..\n")
        self.assertTrue(key.endswith(f",S={len(self.files('joe')[0])}"), key)
        self.assertNotIn(":", key)

    def test_many(self) -> None:
        """A batch of several mails for several recipients: each gets each mail once, by syncfs and by fsync."""
        for mode in ("syncfs", "fsync"):
            self.writer._sync = mode
            statuses = self.write(*[request_for(Content(CONTENT), f"{mode}-1", f"{mode}-2")] * 5)
            self.assertEqual({status.action for some in statuses for status in some}, {Action.DELIVERED})
            self.assertEqual([len(self.files(f"{mode}-{n}")) for n in (1, 2)], [5, 5])

    def test_large_content(self) -> None:
        """Content that does not lie in memory is written block by block, to the same end."""
        content = CONTENT * 50
        for block in (1, 7, 4096):
            self.write(request_for(Content(content, block), f"joe{block}"))
            self.assertTrue(self.files(f"joe{block}")[0].endswith(content.replace(b"\r\n", b"\n")), block)

    def test_binary(self) -> None:
        """The body of a BINARYMIME mail stays as it is (RFC 3030)."""
        content = b"Subject: x\r\n\r\n\x00\r\n\n\r\r\n"
        self.write(*[request_for(Content(content, block), "joe", body="BINARYMIME") for block in (0, 1, 3)])
        for found in self.files("joe"):
            self.assertTrue(found.endswith(b"\nSubject: x\n\n\x00\r\n\n\r\r\n"), found)

    def test_no_mailbox(self) -> None:
        """Who has no mailbox fails for good; the others of the mail are delivered."""
        [statuses] = self.write(request_for(Content(CONTENT), "joe", "nobody", "ann"))
        self.assertEqual([s.action for s in statuses], [Action.DELIVERED, Action.FAILED, Action.DELIVERED])
        self.assertEqual((statuses[1].status, statuses[1].reason), ("5.1.1", Reason.UNKNOWN_RECIPIENT))

    def test_one_broken_mailbox(self) -> None:
        """T19: a mailbox behind a symbolic link is a delay of that recipient alone, and its path is not told."""
        self.root.mkdir()
        (self.root / "joe").symlink_to("/tmp")
        first, second = self.write(request_for(Content(CONTENT), "joe", "ann"), request_for(Content(CONTENT), "ann"))
        self.assertEqual([s.action for s in first + second], [Action.DELAYED, Action.DELIVERED, Action.DELIVERED])
        self.assertEqual((first[0].status, first[0].reason), ("4.2.0", Reason.STORE_FAILED))
        self.assertNotIn(str(self.root), first[0].words)

    def test_errors(self) -> None:
        """A full disk or quota is 4.3.1, a mailbox we may not write 4.2.0, everything else 4.3.0: always a delay."""
        for number, status, reason in (
            (errno.ENOSPC, "4.3.1", Reason.DISK_FULL),
            (errno.EDQUOT, "4.3.1", Reason.DISK_FULL),
            (errno.EACCES, "4.2.0", Reason.STORE_FAILED),
            (errno.EIO, "4.3.0", Reason.STORE_FAILED),
            (errno.EMFILE, "4.3.0", Reason.STORE_FAILED),
        ):
            with mock.patch("twisted_mail_node.delivery.mailbox.os.write", side_effect=OSError(number, "x")):
                [[found]] = self.write(request_for(Content(CONTENT), "joe"))
            self.assertEqual((found.action, found.status, found.reason), (Action.DELAYED, status, reason))
        [[found]] = self.write(request_for(Content(CONTENT), "joe"))
        self.assertIs(found.action, Action.DELIVERED)

    def test_content_gone(self) -> None:
        """Content that cannot be read is a delay, and nothing of it stays in the mailbox."""
        [[found]] = self.write(request_for(UnreadableContent(), "joe"))
        self.assertEqual((found.action, found.reason), (Action.DELAYED, Reason.STORE_FAILED))
        self.assertEqual(self.files("joe") + os.listdir(self.root / "joe" / "tmp"), [])

    def test_sync_fails(self) -> None:
        """When the sync fails nothing of the batch counts as delivered, whatever lies in the mailboxes."""
        with mock.patch.object(batch, "sync_filesystems", side_effect=OSError(errno.EIO, "x")):
            statuses = self.write(*[request_for(Content(CONTENT), "joe")] * 3, request_for(Content(CONTENT), "nobody"))
        self.assertEqual([s.action for [s] in statuses], [Action.DELAYED] * 3 + [Action.FAILED])
        self.assertEqual(statuses[0][0].reason, Reason.STORE_FAILED)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        [[again]] = self.write(request_for(Content(CONTENT), "joe"))
        self.assertIs(again.action, Action.DELIVERED)

    def test_synced_before_told(self) -> None:
        """Everything has its final name before the one sync."""
        seen: list[int] = []
        with mock.patch.object(batch, "sync_filesystems", lambda found: seen.append(len(self.files("joe")))):
            self.write(*[request_for(Content(CONTENT), "joe")] * 4)
        self.assertEqual(seen, [4])

    def test_something_else_breaks(self) -> None:
        """An unexpected exception is a delay of that recipient."""
        with mock.patch.object(batch, "delivered_to", side_effect=ValueError("x")):
            [[found]] = self.write(request_for(Content(CONTENT), "joe"))
        self.assertEqual((found.action, found.reason), (Action.DELAYED, Reason.INTERNAL))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_not_wanted(self) -> None:
        """A mail nobody waits for any more is not written."""
        job = Job(7, request_for(Content(CONTENT), "joe"), (str(self.root / "joe"),))
        self.assertEqual(self.writer.write([job], ()), [])
        self.assertFalse((self.root / "joe").exists())
