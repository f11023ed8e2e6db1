"""Mail clients of others: what each is asked to do, and what it said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.interop.secure import PASSWORD

#: Seconds for one run of a client; one with a mail of 20 MB on a busy machine takes a few.
CLIENT_TIME = 60


@dataclass(frozen=True)
class Job:
    """One mail to bring.

    :ivar tls: ``starttls`` or ``implicit``; the port fits.
    :ivar sender: the reverse-path. :ivar author: who stands in From.
    :ivar root: the certificate that must have signed the server's.
    :ivar secret: the password, or the token. :ivar certificate: the client's own, and its key, for EXTERNAL.
    """

    port: int
    tls: str
    root: Path
    content: bytes
    mechanism: str = "PLAIN"
    user: str = "ann@here.test"
    secret: str = PASSWORD
    sender: str = "ann@here.test"
    author: str = "ann@here.test"
    recipients: tuple[str, ...] = ("joe@here.test",)
    certificate: tuple[Path, Path] | None = None
    host: str = "localhost"


@dataclass(frozen=True)
class Outcome:
    """How a client ended, and all that its user could read."""

    code: int
    said: str

    @property
    def words(self) -> str:
        """What it said, in one line: programs wrap lines as they like."""
        return " ".join(self.said.split())


@dataclass(frozen=True)
class Codes:
    """Exit codes of a client: for a wrong password, a refused recipient, a refused reverse-path, a refused content, and
    a certificate that it does not trust."""

    password: int = 1
    recipient: int = 1
    sender: int = 1
    content: int = 1
    certificate: int = 1


@dataclass(frozen=True)
class Client:
    """A client.

    :ivar name: of the program. :ivar mechanisms: that it knows, the one that is taken for other cases first.
    :ivar rewrites: it writes header fields of its own; only the body is as it was.
    """

    name: str
    mechanisms: tuple[str, ...]
    codes: Codes = Codes()
    rewrites: bool = False

    def missing(self) -> str:
        """Why it cannot be run here, ``""`` when it can. May install it."""
        return "" if shutil.which(self.name) else f"{self.name} is not installed"

    def send(self, job: Job, place: Path) -> Outcome:
        """Run it. :param place: a directory for its files, empty."""
        (place / "content").write_bytes(job.content)
        return run(self.command(job, place), place, self.environment(place), self.given(job))

    def command(self, job: Job, place: Path) -> list[str]:
        """How it is called; the content is in ``place / "content"``."""
        raise NotImplementedError

    def environment(self, place: Path) -> dict[str, str]:
        """What is in its environment beside the usual."""
        return {}

    def given(self, job: Job) -> bytes:
        """What it reads from its standard input."""
        return b""


def run(command: list[str], place: Path, environment: Mapping[str, str], given: bytes = b"") -> Outcome:
    """Run a program that knows nothing of the user who runs the tests. :raises AssertionError: it does not end."""
    clean = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(place), "LANG": "C.UTF-8", **environment}
    try:
        done = subprocess.run(
            command, input=given, cwd=place, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=CLIENT_TIME, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as slow:
        said = (slow.stdout or b"").decode("utf-8", "replace")
        raise AssertionError(f"{command[0]} did not end within {CLIENT_TIME} s\n{said[-2000:]}") from None
    return Outcome(done.returncode, done.stdout.decode("utf-8", "replace"))
