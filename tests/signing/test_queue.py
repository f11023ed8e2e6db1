"""Tests of the queue's door where mail is signed."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.inbound.memory import MemoryIncoming, MemoryQueue
from tests.signing.others import verified
from tests.signing.test_keys import NOW
from tests.signing.test_keys import Case as KeysCase
from tests.threads import ThreadsAtOnce
from twisted_mail_node.events import Event
from twisted_mail_node.events_signing import MailNotSigned
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.signing import queue as signing_queue
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.queue import HEADER_MAX, SignedQueue
from twisted_mail_node.spool.mail import SpoolError

ANN = Address("ann", "there.example")
ENVELOPE = Envelope(Address("joe", "example.org"), (Recipient(ANN, ANN),))
STAMP = b"Received: by mx.example.org; Sat, 28 Nov 2026 12:00:00 +0000\r\n"
HEADER = b"From: Joe <joe@example.org>\r\nTo: ann@there.example\r\nSubject: hello\r\n\r\n"
BODY = b"Hello  Ann, \r\n\r\n a line\t of it\r\n\r\n\r\n"


class Case(KeysCase):
    """A queue in memory behind the door."""

    def setUp(self) -> None:
        super().setUp()
        self.custody().create("example.org", selector="k", at_once=True)
        self.keys = SigningKeys.loaded(self.settings())
        self.inner = MemoryQueue()
        self.clock = ThreadsAtOnce()
        self.clock.advance(NOW)
        self.events: list[Event] = []

    def door(self, must: bool = True, **more: Any) -> SignedQueue:
        return SignedQueue(
            self.inner, self.keys, reactor=self.clock, publish=self.events.append, must=must, **more
        )  # fmt: skip

    def bring(self, *pieces: bytes, door: SignedQueue | None = None, stamp: bytes = STAMP) -> bytes:
        """Bring a mail in; gives it as it was kept, with the header that was put before it."""
        bringing = Deferred.fromCoroutine(self._bring(door or self.door(), pieces, stamp))
        self.successResultOf(bringing)
        kept = self.inner.mails[-1]
        return kept.header + kept.content

    async def _bring(self, door: SignedQueue, pieces: tuple[bytes, ...], stamp: bytes) -> None:
        incoming = door.begin()
        for piece in pieces:
            await incoming.write(piece)
        await incoming.commit(ENVELOPE, stamp)

    def verified(self, mail: bytes) -> list[bool]:
        """What dkimpy says of each signature."""
        return verified(mail, "example.org", self.files.read("example.org"), NOW)


class SignedTest(Case):
    """Mail that is signed."""

    def test_signed(self) -> None:
        """A mail of a domain with keys has a signature of each, above the trace fields, which others verify."""
        mail = self.bring(HEADER + BODY)
        self.assertTrue(mail.startswith(b"DKIM-Signature:"))
        self.assertTrue(mail.endswith(STAMP + HEADER + BODY))
        self.assertEqual(self.verified(mail), [True, True])
        self.assertEqual(self.verified(mail.replace(b"Hello", b"Hallo")), [False, False])
        self.assertEqual(self.verified(mail.replace(b"hello", b"hallo")), [False, False])

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from(
            [b"", b"\r\n", BODY, b"no line end", b"\r\n" * 9, b"a \t\r\n \r\n", b".\r\n..\r\n", b"\xff\0\r\n"]
        ),
        st.lists(st.integers(1, 200), max_size=8),
    )
    def test_every_cut(self, body: bytes, cuts: list[int]) -> None:
        """However the content is cut, it goes through unchanged, and the signatures are good."""
        content = HEADER + body
        places = sorted({0, *(cut for cut in cuts if cut < len(content)), len(content)})
        pieces = [content[start:end] for start, end in pairwise(places)]
        mail = self.bring(*pieces)
        self.assertTrue(mail.endswith(STAMP + content))
        self.assertEqual(self.verified(mail), [True, True])

    def test_octet_by_octet(self) -> None:
        """One octet a piece, too."""
        self.assertEqual(self.verified(self.bring(*(bytes([one]) for one in HEADER + BODY))), [True, True])

    def test_no_body(self) -> None:
        """A header section alone is signed, also without the empty line at its end; a line that is no field leaves
        nobody sure of the author."""
        self.assertEqual(self.verified(self.bring(HEADER)), [True, True])
        alone = self.bring(HEADER[:-2])
        self.assertTrue(alone.endswith(STAMP + HEADER[:-2]))
        self.assertEqual(self.verified(alone + b"\r\n"), [True, True])
        self.assertEqual(self.bring(HEADER[:-2], b"(no field)\r\n"), STAMP + HEADER[:-2] + b"(no field)\r\n")

    def test_author_added(self) -> None:
        """Where the author stands in what is put before the content (add_from), the mail is signed for them."""
        stamp = STAMP + b"From: <joe@example.org>\r\n"
        mail = self.bring(b"Subject: hello\r\n\r\n", BODY, stamp=stamp)
        self.assertEqual(self.verified(mail), [True, True])
        # The content is a body only: the empty line is the last of what is put before it.
        self.assertEqual(self.verified(self.bring(b"(a body)\r\n", BODY, stamp=stamp + b"\r\n")), [True, True])

    def test_expires(self) -> None:
        """x= is that of the settings, t= the time of the clock."""
        mail = self.bring(HEADER + BODY, door=self.door(expires=lambda: 86400.0))
        self.assertIn(f"t={NOW:.0f}; x={NOW + 86400:.0f};".encode(), mail.replace(b"\r\n\t", b" "))
        self.assertNotIn(b"x=", self.bring(HEADER + BODY).partition(b"h=")[0])

    def test_thread(self) -> None:
        """RSA signs in a thread, all keys of a mail at once; Ed25519 alone does not pay for it."""
        threads: list[object] = []
        call = self.clock.callInThreadWithCallback

        def noted(*arguments: Any) -> None:
            threads.append(arguments)
            call(*arguments)

        self.patch(self.clock, "callInThreadWithCallback", noted)
        self.assertEqual(self.verified(self.bring(HEADER + BODY)), [True, True])
        self.assertEqual(len(threads), 1)
        for key in self.keys.of("example.org"):
            if key.slow:
                self.custody().retire("example.org", key.selector, at_once=True)
        self.keys.use(self.keys.load(self.keys.domains))
        self.assertEqual(self.verified(self.bring(HEADER + BODY)), [True])
        self.assertEqual(len(threads), 1)

    def test_streamed(self) -> None:
        """A large mail is never held: each piece reaches the queue before the next is brought; and its hash is that of
        the whole."""
        pieces = [random.Random(number).randbytes(30_000).hex().encode() + b"\r\n" for number in range(20)]
        door = self.door()
        incoming = door.begin()
        size = 0
        for piece in (HEADER, *pieces):
            self.successResultOf(Deferred.fromCoroutine(incoming.write(piece)))
            size += len(piece)
            self.assertEqual(self.inner.begun[-1].size, size)
            self.assertEqual(incoming.size, size)
        self.successResultOf(Deferred.fromCoroutine(incoming.commit(ENVELOPE, STAMP)))
        kept = self.inner.mails[-1]
        self.assertEqual(self.verified(kept.header + kept.content), [True, True])


class UnsignedTest(Case):
    """Mail that is not signed goes through as it is."""

    def same(self, *pieces: bytes, **more: Any) -> None:
        self.assertEqual(self.bring(*pieces, **more), STAMP + b"".join(pieces))

    def test_no_keys(self) -> None:
        """While nobody has keys, the door is the queue's own: nothing is looked at."""
        for keys in (SigningKeys(self.settings()), SigningKeys.loaded(self.settings(enabled=False))):
            self.keys = keys
            self.assertIs(type(self.door().begin()), MemoryIncoming)
            self.same(HEADER + BODY)

    def test_strangers(self) -> None:
        """A mail whose author is not of a domain with keys; once that is known nothing is looked at any more."""
        other = HEADER.replace(b"example.org", b"example.net")
        self.same(other, BODY, BODY)
        incoming = self.door().begin()
        self.successResultOf(Deferred.fromCoroutine(incoming.write(other)))
        self.assertEqual(incoming.write, self.inner.begun[-1].write)

    def test_no_author(self) -> None:
        """Without one sure author (attack T24) nobody signs, even when a local domain is among them."""
        for author in (
            b"",
            b"From: joe@example.org\r\nFrom: joe@example.org\r\n",
            b"From: joe@example.org\r\nFrom: eve@evil.example\r\n",
            b"From: eve@evil.example, joe@example.org\r\n",
            b"From: joe@example.org <eve@evil.example>\r\n",
            b"From: friends: joe@example.org;\r\n",
            b"From: <@evil.example:joe@example.org>\r\n",
            b"From: joe@example.org(eve@evil.example)\r\n",
            b"From: \r\n",
            b"From: joe\r\n",
            b"From: =?utf-8?q?joe=40example.org?=\r\n",
            b"From: joe@example.org\0\r\n",
        ):
            with self.subTest(author=author):
                self.same(author + b"Subject: hello\r\n\r\n", BODY)

    def test_two_of_one_domain(self) -> None:
        """Several authors of one domain are that domain's."""
        header = HEADER.replace(b"Joe <joe@example.org>", b"joe@example.org, Ann <ann@EXAMPLE.org>")
        self.assertEqual(self.verified(self.bring(header, BODY)), [True, True])

    def test_huge_header(self) -> None:
        """A header section beyond every bound goes through; it is not kept twice."""
        self.same(HEADER[:-2], b"X: y\r\n" * (HEADER_MAX // 6), b"\r\n", BODY)

    def test_author_below(self) -> None:
        """Where a header section ends inside the content, what stands below is no author."""
        self.same(b"Subject: x\r\n\r\nFrom: joe@example.org\r\n")


class TroubleTest(Case):
    """What breaks."""

    def setUp(self) -> None:
        super().setUp()
        self.error: Exception = ValueError("broken")

        def sign(*arguments: object, **more: object) -> bytes:
            raise self.error

        self.patch(signing_queue, "sign", sign)

    def test_refused(self) -> None:
        """Where somebody brings it, a mail that cannot be signed is refused for now, and nothing is kept."""
        failure = self.failureResultOf(
            Deferred.fromCoroutine(self._bring(self.door(), (HEADER, BODY), STAMP)), SpoolError
        )
        self.assertIsInstance(failure, Failure)
        self.assertFalse(failure.value.full)
        self.assertIn("could not be signed: broken", str(failure.value))
        self.assertEqual((self.inner.mails, self.inner.begun[-1].state), ([], "aborted"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_kept(self) -> None:
        """What the node makes itself is kept all the same, with an event."""
        self.error = KeyError()
        self.assertEqual(self.bring(HEADER, BODY, door=self.door(must=False)), STAMP + HEADER + BODY)
        self.assertEqual(self.events, [MailNotSigned("Q1", "example.org", "KeyError")])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_slow_thread(self) -> None:
        """A thread that does not come back in time is a failure like every other."""
        self.custody().create("example.org", ["rsa"], selector="big", bits=3072, at_once=True)
        self.keys.use(self.keys.load(self.keys.domains))
        with mock.patch.object(self.clock, "callInThreadWithCallback"):
            keeping = Deferred.fromCoroutine(self._bring(self.door(must=False), (HEADER, BODY), STAMP))
            self.assertNoResult(keeping)
            self.clock.advance(30)
        self.successResultOf(keeping)
        self.assertIn("within 30 s", self.events[0].words)  # type: ignore[union-attr]
        self.flushLoggedErrors()

    def test_spool(self) -> None:
        """What the queue refuses is refused with its own words: a full disk stays one."""
        self.inner.commit_error = SpoolError("no room", full=True)
        self.patch(signing_queue, "sign", lambda *a, **k: b"")
        failure = self.failureResultOf(
            Deferred.fromCoroutine(self._bring(self.door(), (HEADER, BODY), STAMP)), SpoolError
        )
        self.assertTrue(failure.value.full)

    def test_passed_through(self) -> None:
        """hold, abort, queue id and crowded are those of the queue."""
        door = self.door()
        self.inner.crowded = True
        self.assertTrue(door.crowded)
        incoming = door.begin()
        incoming.hold("why")
        self.assertEqual(incoming.queue_id, "Q1")
        self.assertEqual(self.inner.begun[0]._held, "why")
        incoming.abort()
        incoming.abort()
        self.assertEqual(self.inner.begun[0].state, "aborted")
