"""How attacks send their octets: in one packet, one octet a packet, and cut at random."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.inbound.receiving import Peer, TestReceiver

#: Stands for a cut behind every octet.
EVERY = [-1]


def cuts_of(cuts: list[int], octets: bytes) -> list[int]:
    """Where to cut: places are taken modulo the length, so that every random number is one."""
    if cuts == EVERY:
        return list(range(1, len(octets)))
    return sorted({cut % (len(octets) + 1) for cut in cuts})


class Sender:
    """Sends octets to a peer, cut in one way."""

    def __init__(self, cuts: list[int]) -> None:
        self._cuts = cuts

    def send(self, peer: Peer, octets: bytes) -> list[int]:
        """Gives the codes of the replies."""
        peer.send(octets, cuts_of(self._cuts, octets))
        return peer.codes()

    def session(self, receiver: TestReceiver, *lines: str) -> Peer:
        """A session that has said EHLO and these lines, cut the same way; its replies are forgotten."""
        peer = receiver.connect()
        self.send(peer, "".join(line + "\r\n" for line in ("EHLO client.example.net", *lines)).encode())
        return peer


def in_any_packets(test: Callable[[Any, Sender], None]) -> Callable[[Any], None]:
    """A test that is run with every way of cutting; it is given a ``Sender``."""

    @wraps(test)
    def named(self: Any) -> None:
        @settings(max_examples=25, deadline=None)
        @given(st.lists(st.integers(0, 2**16), max_size=8))
        @example([])
        @example(EVERY)
        def run(cuts: list[int]) -> None:
            test(self, Sender(cuts))

        run()

    del named.__wrapped__
    return named
