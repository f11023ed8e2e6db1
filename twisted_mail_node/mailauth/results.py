"""The words for what a check came to (RFC 8601 section 2.7): the same for every method."""

from __future__ import annotations

from enum import StrEnum


class Result(StrEnum):
    """What a method says. ``str()`` is the word that stands in Authentication-Results."""

    NONE = "none"
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    POLICY = "policy"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"
