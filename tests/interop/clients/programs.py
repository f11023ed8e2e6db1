"""The clients, and how each is told what to do: swaks, msmtp, curl, git send-email, smtplib, aiosmtplib, nodemailer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tests.interop.clients import Client, Codes, Job, Outcome, npm

HERE = Path(__file__).parent


def said_by(*command: str) -> str:
    """What a program says of itself; ``""`` when it is not there."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


class Swaks(Client):
    """Verifies the chain of the server's certificate, not its name. Puts a line end behind what it is given."""

    def send(self, job: Job, place: Path) -> Outcome:
        return super().send(replace(job, content=job.content.removesuffix(b"\r\n")), place)

    def command(self, job: Job, place: Path) -> list[str]:
        tls = ["--tls"] if job.tls == "starttls" else ["--tls-on-connect"]
        return [
            "swaks", "--server", job.host, "--port", str(job.port), "--ehlo", "client.test", *tls,
            "--tls-verify", "--tls-ca-path", str(job.root),
            "--auth", job.mechanism, "--auth-user", job.user, "--auth-password", job.secret,
            "--from", job.sender, "--to", ",".join(job.recipients),
            "--data", f"@{place / 'content'}", "--suppress-data",
        ]  # fmt: skip


class Msmtp(Client):
    """Reads the mail from its standard input, as sendmail does."""

    def command(self, job: Job, place: Path) -> list[str]:
        (place / "secret").write_text(job.secret + "\n", "utf-8")
        lines = [
            "account default", f"host {job.host}", f"port {job.port}", "domain client.test",
            f"from {job.sender}", "auth " + job.mechanism.lower(), f"user {job.user}",
            f'passwordeval "cat {place / "secret"}"', "tls on", f"tls_trust_file {job.root}",
            f"tls_starttls {'on' if job.tls == 'starttls' else 'off'}",
        ]  # fmt: skip
        if job.certificate is not None:
            lines += [f"tls_cert_file {job.certificate[0]}", f"tls_key_file {job.certificate[1]}"]
        settings = place / "msmtprc"
        settings.write_text("\n".join(lines) + "\n", "utf-8")
        settings.chmod(0o600)
        return ["msmtp", "-C", str(settings), "--", *job.recipients]

    def given(self, job: Job) -> bytes:
        return job.content.replace(b"\r\n", b"\n")


class Curl(Client):
    """Uploads a file to ``smtp://`` or ``smtps://``."""

    def command(self, job: Job, place: Path) -> list[str]:
        scheme = "smtp" if job.tls == "starttls" else "smtps"
        if job.mechanism in ("XOAUTH2", "OAUTHBEARER"):
            who = ["--user", f"{job.user}:", "--oauth2-bearer", job.secret]
        elif job.mechanism == "EXTERNAL":
            assert job.certificate is not None
            who = ["--user", f"{job.user}:", "--cert", str(job.certificate[0]), "--key", str(job.certificate[1])]
        else:
            who = ["--user", f"{job.user}:{job.secret}"]
        return [
            "curl", "--disable", "--verbose", "--no-progress-meter", "--max-time", "50", "--ssl-reqd",
            "--cacert", str(job.root), "--login-options", f"AUTH={job.mechanism}", *who,
            "--mail-from", job.sender, *(word for one in job.recipients for word in ("--mail-rcpt", one)),
            "--upload-file", str(place / "content"), f"{scheme}://{job.host}:{job.port}/client.test",
        ]  # fmt: skip


class GitSendEmail(Client):
    """Sends a patch: header fields are its own, the body is the patch's."""

    def command(self, job: Job, place: Path) -> list[str]:
        return [
            "git", "send-email", "--smtp-server", job.host, "--smtp-server-port", str(job.port),
            "--smtp-encryption", "tls" if job.tls == "starttls" else "ssl", "--smtp-ssl-cert-path", str(job.root),
            "--smtp-domain", "client.test", "--smtp-auth", job.mechanism,
            "--smtp-user", job.user, "--smtp-pass", job.secret,
            "--from", job.author, "--envelope-sender", job.sender, *(f"--to={one}" for one in job.recipients),
            "--suppress-cc=all", "--confirm=never", "--no-validate", "--no-thread", "--transfer-encoding=8bit",
            "--8bit-encoding=UTF-8", str(place / "content"),
        ]  # fmt: skip

    def missing(self) -> str:
        if not said_by("git", "send-email", "-h"):
            return "git send-email is not installed"
        modules = [f"-M{one}" for one in ("IO::Socket::SSL", "Authen::SASL", "Mail::Address", "Net::SMTP")]
        done = subprocess.run(["perl", *modules, "-e", "1"], capture_output=True, timeout=20, check=False)
        return "git send-email lacks modules of Perl" if done.returncode else ""

    def environment(self, place: Path) -> dict[str, str]:
        author = {"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@here.test"}
        return {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": str(place), **author}

    def send(self, job: Job, place: Path) -> Outcome:
        return super().send(replace(job, content=job.content.replace(b"\r\n", b"\n")), place)


class Scripted(Client):
    """A library, driven by a script beside this file that reads a job as JSON."""

    def command(self, job: Job, place: Path) -> list[str]:
        fields = {
            "host": job.host, "port": job.port, "tls": job.tls, "root": str(job.root), "mechanism": job.mechanism,
            "user": job.user, "secret": job.secret, "sender": job.sender, "recipients": job.recipients,
            "content": str(place / "content"),
        }  # fmt: skip
        (place / "job.json").write_text(json.dumps(fields), "utf-8")
        return [*self.interpreted(), str(place / "job.json")]

    def interpreted(self) -> list[str]:
        """The interpreter and the script."""
        return [sys.executable, str(HERE / f"with_{self.name}.py")]

    def missing(self) -> str:
        return "" if find_spec(self.name) is not None else f"{self.name} is not in this environment"


class Nodemailer(Scripted):
    """Node.js finds it by ``NODE_PATH``."""

    def interpreted(self) -> list[str]:
        return ["node", str(HERE / "with_nodemailer.cjs")]

    def environment(self, place: Path) -> dict[str, str]:
        return {"NODE_PATH": str(npm.place() / "node_modules")}

    def missing(self) -> str:
        return npm.install()


def _msmtp_mechanisms() -> tuple[str, ...]:
    """Those it was built with, of those that a node may offer; 1.8 has no channel binding."""
    built = re.search(r"authentication methods:\s*\n(.*)", said_by("msmtp", "--version"))
    names = built[1].upper().split() if built else []
    return tuple(name for name in MECHANISMS if name in names)


def _curl_mechanisms() -> tuple[str, ...]:
    """SCRAM only with GNU SASL. XOAUTH2 only where OAUTHBEARER is not offered: it cannot be told to take it."""
    scram = ("SCRAM-SHA-256",) if re.search(r"^Features:.*\bgsasl\b", said_by("curl", "--version"), re.M) else ()
    return ("PLAIN", "LOGIN", *scram, "OAUTHBEARER", "EXTERNAL")


#: What a client may know and a node may offer; the first that a client knows is taken where any will do.
MECHANISMS = (
    "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"
)  # fmt: skip
CLIENTS: tuple[Client, ...] = (
    Swaks("swaks", ("PLAIN", "LOGIN"), Codes(password=28, recipient=24, sender=23, content=26, certificate=29)),
    Msmtp("msmtp", _msmtp_mechanisms(), Codes(password=77, recipient=65, sender=65, content=69, certificate=69)),
    Curl("curl", _curl_mechanisms(), Codes(password=67, recipient=55, sender=55, content=8, certificate=60)),
    GitSendEmail("git send-email", ("PLAIN", "LOGIN"), rewrites=True),
    Scripted("smtplib", ("PLAIN", "LOGIN")),
    Scripted("aiosmtplib", ("PLAIN", "LOGIN", "XOAUTH2")),
    Nodemailer("nodemailer", ("PLAIN", "LOGIN", "XOAUTH2")),
)
