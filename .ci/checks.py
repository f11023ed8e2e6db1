"""Runs every check: the tests by trial, mypy, ruff. The last line says how many passed, failed and were skipped.

A check that is not a test (mypy, ruff's lint, ruff's format) counts as one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS = (
    ("mypy --strict", [BIN / "mypy"]),
    ("ruff check", [BIN / "ruff", "check", "."]),
    ("ruff format", [BIN / "ruff", "format", "--check", "."]),
)
_SUMMARY = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)


def run_tests(wanted: list[str]) -> tuple[int, int, int]:
    """Passed, failed and skipped tests. trial's output is shown as it comes."""
    command = [sys.executable, "-m", "twisted.trial", "--reporter=bwverbose", *(wanted or ["tests"])]
    print("$ trial", *(wanted or ["tests"]), flush=True)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    code = process.wait()
    text = "".join(lines)
    ran, summary = _RAN.findall(text), _SUMMARY.findall(text)
    if not ran or not summary:
        print("trial ended without a summary")
        return 0, 1, 0
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary[-1])}
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    skipped = counts.get("skips", 0)
    if code and not failed:
        failed = 1
    return counts.get("successes", int(ran[-1]) - failed - skipped), failed, skipped


def main() -> int:
    """Gives the exit code: 0 when nothing failed."""
    passed, failed, skipped = run_tests(sys.argv[1:])
    for name, command in CHECKS:
        print(f"$ {name}", flush=True)
        environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
        if subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, check=False).returncode:
            failed += 1
        else:
            passed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
