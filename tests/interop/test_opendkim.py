"""DKIM with OpenDKIM: it finds our signatures good, and we its own. Its keys come from a file, not from the DNS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.mailauth.dkim import ed25519_key, published, rsa_key, rsa_pem, signed, verified
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.results import Result

SBIN = "/usr/sbin:/usr/local/sbin"
HEADER = (
    b"Received: from a\r\n\tby b; Sat, 28 Nov 2026 19:00:00 +0000\r\nFrom: Joe <joe@example.org>\r\n"
    b"To: suzie@example.net,\r\n  other@example.net\r\nSubject: Is \t dinner\r\n\tready?\r\n"
    b"Date: Sat, 28 Nov 2026 19:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nList-Unsubscribe: <https://x>\r\n\r\n"
)
BODIES = (
    b"Hi.\r\n",
    b" a \t b \r\n\r\n..\r\n.\r\n\r\n\r\n",
    b"\xc3\xa4 " * 40_000 + b"\r\n",
    b"".join(b"line %d  of prose \r\n" % number for number in range(5000)),
)


def program(name: str) -> str:
    """Where it is.

    :raises SkipTest: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=SBIN)
    if found is None:
        raise SkipTest(f"{name} is not installed")
    return found


class OpenDkimTest(SynchronousTestCase):
    """Debian's opendkim and opendkim-tools."""

    def setUp(self) -> None:
        """A folder for its files."""
        self.place = Path(tempfile.mkdtemp(prefix="od-"))
        self.addCleanup(shutil.rmtree, self.place)

    def run_on(self, mail: bytes, conf: str) -> str:
        """What it prints of a mail."""
        found = program("opendkim")
        (self.place / "mail").write_bytes(mail)
        (self.place / "conf").write_text(f"Syslog no\nSocket local:{self.place}/socket\n{conf}", "ascii")
        command = [found, "-x", str(self.place / "conf"), "-t", str(self.place / "mail"), "-vv"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def told(self, mail: bytes, *keys: SigningKey) -> str:
        """What it writes into Authentication-Results of a mail."""
        records = "".join(f"{name} {record[0].decode()}\n" for name, record in published(*keys).items())
        (self.place / "keys").write_text(records, "ascii")
        return self.run_on(mail, f"Mode v\nTestPublicKeys {self.place}/keys\n")

    def key_file(self, key: SigningKey) -> Path:
        """A key as it wants it."""
        path = self.place / "key.pem"
        path.touch(mode=0o600)
        path.write_bytes(rsa_pem(key))
        return path

    def test_ours(self) -> None:
        """Our signatures, RSA and Ed25519, pass there; changed mails fail."""
        keys = rsa_key(2048), ed25519_key()
        for body in BODIES:
            mail = signed(HEADER + body, *keys, when=time.time(), expires=time.time() + 3600)
            told = self.told(mail, *keys)
            self.assertEqual((told.count("dkim=pass"), told.count("dkim=fail")), (2, 0), told)
            for changed in (mail + b"x\r\n", mail.replace(b"Subject: Is", b"Subject: Was")):
                told = self.told(changed, *keys)
                self.assertEqual((told.count("dkim=pass"), told.count("dkim=fail")), (0, 2), told)

    def test_added(self) -> None:
        """A Subject or From that is added above ours fails there, too."""
        key = rsa_key(2048)
        mail = signed(HEADER + BODIES[0], key, when=time.time())
        for more in (b"Subject: new\r\n", b"From: eve@example.net\r\n", b"Reply-To: eve@example.net\r\n"):
            told = self.told(more + mail, key)
            self.assertEqual((told.count("dkim=pass"), told.count("dkim=fail")), (0, 1), told)

    def test_theirs(self) -> None:
        """Its signatures pass here, under all canonicalizations; a changed mail fails."""
        key = rsa_key(2048)
        where = f"Domain {key.domain}\nSelector {key.selector}\nKeyFile {self.key_file(key)}\nRequireSafeKeys no\n"
        for kinds in ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"):
            how = f"Mode s\nCanonicalization {kinds}\nSignatureAlgorithm rsa-sha256\nOversignHeaders From\n"
            for body in BODIES:
                told = self.run_on(HEADER + body, where + how)
                value = told.partition("hname='DKIM-Signature' hvalue='")[2].rpartition("'")[0]
                mail = b"DKIM-Signature: " + value.replace("\n", "\r\n").encode() + b"\r\n" + HEADER + body
                (one,) = verified(mail, published(key), time.time())
                self.assertIs(one.result, Result.PASS, one)
                (one,) = verified(b"From: eve@example.net\r\n" + mail, published(key), time.time())
                self.assertIs(one.result, Result.FAIL, one)

    def test_sha1(self) -> None:
        """What opendkim-testmsg signs is rsa-sha1, which counts no longer (RFC 8301 section 3.1)."""
        found = program("opendkim-testmsg")
        key = rsa_key(2048)
        command = [found, "-C", "-d", key.domain, "-s", key.selector]
        command += ["-k", str(self.key_file(key)), "-t", str(self.place)]
        run = subprocess.run(command, input=HEADER + BODIES[0], capture_output=True, timeout=60, check=True)
        (one,) = verified(run.stdout, published(key), time.time())
        self.assertEqual((one.result, "rsa-sha1" in one.problem), (Result.PERMERROR, True), one)
