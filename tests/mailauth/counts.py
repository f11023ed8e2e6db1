"""What a run of test vectors came to."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """Cases, counted.

    :ivar contested: cases whose expectation we do not follow, each with the sentence of the RFC that decides.
    :ivar failed: the names of those that are not as expected.
    """

    passed: int
    total: int
    contested: int = 0
    failed: tuple[str, ...] = ()
