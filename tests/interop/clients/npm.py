"""nodemailer, installed once by npm into a directory that is kept between runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

#: The version that is tried.
NODEMAILER = "nodemailer@10"
#: The oldest Node.js that it runs on.
NODE_MIN = 20
#: Seconds npm may take; a registry that cannot be reached is noticed sooner.
NPM_TIME = 90


def place() -> Path:
    """Where it is kept. It depends on no version of ours."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mailnode-tests" / NODEMAILER.replace("@", "-")


@cache
def install() -> str:
    """Install it unless it is there; gives why it cannot be used, ``""`` when it can. Tried once in a run."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    if (version := re.match(r"v(\d+)\.", said)) is None or int(version[1]) < NODE_MIN:
        return f"nodemailer needs Node.js {NODE_MIN}, here is {said.strip() or 'one that tells no version'}"
    there = place()
    if (there / "node_modules" / "nodemailer" / "package.json").exists():
        return ""
    try:
        there.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0",
             "--fetch-timeout=20000", "--prefix", str(there), NODEMAILER],
            cwd=there, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_TIME, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"npm did not bring nodemailer within {NPM_TIME} s"
    except OSError as error:
        return f"npm cannot install nodemailer: {error}"
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if not line.startswith("npm warn")]
        return f"npm cannot install nodemailer: {' '.join(words)[:200]}"
    return ""
