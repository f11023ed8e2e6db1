"""Tests of twisted_mail_node.inbound.newlines."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.inbound.newlines import Newlines
from twisted_mail_node.smtp.transparency import has_bare_newline

_CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"bc"]), max_size=30).map(b"".join)


def repaired(*pieces: bytes) -> bytes:
    """The pieces, put right."""
    newlines = Newlines()
    return b"".join([newlines.take(piece) for piece in pieces]) + newlines.end()


class NewlinesTests(SynchronousTestCase):
    """Bare CR and LF become CRLF."""

    def test_table(self) -> None:
        """Each bare CR and each bare LF is one line end; CRLF stays one."""
        table = {
            b"": b"",
            b"a\r\nb\r\n": b"a\r\nb\r\n",
            b"a\nb\n": b"a\r\nb\r\n",
            b"a\rb\r": b"a\r\nb\r\n",
            b"\n\r": b"\r\n\r\n",
            b"\r\r\n\n": b"\r\n\r\n\r\n",
            b"\n.\n": b"\r\n.\r\n",
        }
        for octets, expected in table.items():
            self.assertEqual(repaired(octets), expected, octets)

    def test_good_is_untouched(self) -> None:
        """A piece without fault is the same object: nothing is copied."""
        piece = b"line\r\n" * 1000
        self.assertIs(Newlines().take(piece), piece)

    @settings(max_examples=300, deadline=None)
    @given(_CONTENT, st.lists(st.integers(0, 60), max_size=8))
    def test_cut_anywhere(self, content: bytes, cuts: list[int]) -> None:
        """However it is cut: as the rule on the whole says, and nothing bare is left."""
        places = sorted({min(cut, len(content)) for cut in cuts} | {0, len(content)})
        pieces = [content[start:end] for start, end in pairwise(places)]
        whole = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
        self.assertEqual(repaired(*pieces), whole)
        self.assertEqual(repaired(*(bytes([octet]) for octet in content)), whole)
        self.assertFalse(has_bare_newline(whole))
