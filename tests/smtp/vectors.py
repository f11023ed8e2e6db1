"""Where public test vectors lie; tests that need them are skipped where they are missing."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest

ROOT = Path(os.environ.get("MAILNODE_VECTORS") or Path(__file__).parents[3] / "shared" / "vectors")


def vector(name: str) -> Path:
    """A file or directory of vectors.

    :raises SkipTest: it is not there.
    """
    path = ROOT / name
    if not path.exists():
        raise SkipTest(f"no test vectors at {path} (set MAILNODE_VECTORS)")
    return path
