"""Runs the test vectors of others for mail authentication, and prints how many pass: ``make vectors``.

The vectors are not part of the project; ``$MAILNODE_VECTORS`` says where they lie. The table is the one of
``docs/rfc.rst``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SkipTest

from tests.mailauth import vectors_arc, vectors_authres, vectors_dkim, vectors_dmarc, vectors_spf
from tests.mailauth.counts import Counts

#: What is run, in the order of the table.
SETS: tuple[tuple[str, Callable[[], Counts]], ...] = (
    ("SPF: the suite of RFC 7208", vectors_spf.run),
    ("DKIM: messages of dkimpy, chasquid, mail-auth, MimeKit", vectors_dkim.run),
    ("DMARC: mailauth", vectors_dmarc.run),
    ("ARC: validation, the suite's half", vectors_arc.run_validation),
    ("ARC: signing, the suite's half", vectors_arc.run_signing),
    ("ARC: real mails", vectors_arc.run_eml),
    ("Authentication-Results: authres", vectors_authres.run),
)
_COLUMNS = ((54, "Vectors"), (7, "Passed"), (7, "Cases"), (9, "Contested"))


def table(counts: list[tuple[str, Counts]]) -> Iterator[str]:
    """The lines of the table, as docs/rfc.rst has it."""
    bar = "  ".join("=" * width for width, _ in _COLUMNS)
    rows = [tuple(name for _, name in _COLUMNS)]
    rows += [(name, str(one.passed), str(one.total), str(one.contested)) for name, one in counts]
    for number, row in enumerate(rows):
        if number < 2:
            yield bar
        yield "  ".join(text.ljust(width) for text, (width, _) in zip(row, _COLUMNS, strict=True)).rstrip()
    yield bar


def main() -> int:
    """Gives the exit code: 0 when every case is passed or contested."""
    try:
        counts = [(name, run()) for name, run in SETS]
    except SkipTest as missing:
        print(missing, file=sys.stderr)
        return 2
    print("\n".join(table(counts)))
    for name, one in counts:
        for case in one.failed:
            print(f"failed: {name}: {case}")
    return 1 if any(one.failed for _, one in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
