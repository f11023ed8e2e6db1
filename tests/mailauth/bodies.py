"""A slow and plain reading of RFC 6376 section 3.4, to hold the quick one to."""

from __future__ import annotations

import re


def canonical_body(body: bytes, canonicalization: str) -> bytes:
    """The whole body, canonicalized by the letter of sections 3.4.3 and 3.4.4."""
    lines = body.split(b"\r\n")
    if canonicalization == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", re.sub(rb"[ \t]+\Z", b"", line)) for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines and canonicalization == "relaxed":
        return b""
    return b"\r\n".join(lines) + b"\r\n"
