"""Attacks on sign-ins below the wire (T22, T40): what time tells of names, and where passwords turn up."""

from __future__ import annotations

import io
import json
import traceback
from typing import Any
from unittest import mock

from twisted.cred import strcred
from twisted.cred.credentials import IUsernamePassword
from twisted.logger import Logger, globalLogPublisher, textFileLogObserver

from tests.directory.hashes import OLD
from tests.directory.signing_in import ANN, JOE, SigningInCase
from twisted_mail_node.directory import passwords
from twisted_mail_node.directory.credentials import credentials_of
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, OAuthSettings
from twisted_mail_node.smtp.sasl import LoginRefused, PasswordLogin, ScramLogin, TokenLogin

WRONG = str(Reason.WRONG_PASSWORD)
SENTINEL = "sentinel-pässword"


class _Breaks:
    """A checker whose database is away."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> bytes:
        raise OSError("the database is away")


class TimeTests(SigningInCase):
    """T22: how long a sign-in takes does not tell whether somebody has the name."""

    async def work(self, name: str, password: str) -> list[str]:
        """The hashes that are computed for an attempt, by their kind and cost."""
        with mock.patch.object(passwords, "_HASHER", wraps=passwords._HASHER) as hasher:
            self.assertEqual(await self.password(name, password), WRONG)
        return [call.args[0].rpartition("$")[0].rpartition("$")[0] for call in hasher.verify.call_args_list]

    async def test_same_work(self) -> None:
        """For a wrong password, a name nobody has, an account without password and a disabled one the same hash is
        computed, as often; for no password, an endless one and one that could be an application password too."""
        self.file.add(JOE, "sesame")
        self.file.add_app_password(JOE, "phone", 5)
        self.file.add(ANN)
        off = Address("off", "example.org")
        self.file.add(off, "sesame")
        self.file.set(off, disabled=True)
        self.start()
        usual = await self.work("joe", "wrong")
        self.assertEqual(usual, ["$argon2id$v=19$m=19456,t=2,p=1"])
        for name in ("nobody", "ann", "off", "", "x" * 1000, "joe@elsewhere.example", "\0"):
            for password in ("wrong", "", "x" * 100_000, "aaaaa-aaaaa-aaaaa-aaaaa-aaaaa", "\0"):
                self.assertEqual(await self.work(name, password), usual, (name[:10], password[:10]))
        for name in ("joe", "nobody"):
            self.assertEqual(await self.work(name, "wröng"), usual)
            self.assertEqual(await self.work(name, "wro\u0308ng"), usual * 2)

    async def test_scram(self) -> None:
        """A proof for a name nobody has, or for no keys, is compared too, and never fits: not even that of the keys it
        is compared with."""
        self.file.add(ANN)
        self.start()
        for name in ("nobody", "ann"):
            with mock.patch("twisted_mail_node.directory.checkers.server_signature", return_value=b"fits") as compared:
                login = ScramLogin(name, "SHA-256", b"m", b"p" * 32, [])
                self.assertEqual(await self.login(login), Reason.WRONG_PASSWORD)
            self.assertEqual((compared.call_count, login.signed), (1, []))
        for proof in (b"", b"\0" * 31, b"\0" * 32, b"\xff" * 1000):
            self.assertEqual(await self.login(ScramLogin("ann", "SHA-256", b"", proof, [])), Reason.WRONG_PASSWORD)


class SentinelTests(SigningInCase):
    """T40: a password turns up nowhere but in the client's hands."""

    def setUp(self) -> None:
        super().setUp()
        self.log = io.StringIO()
        observer = textFileLogObserver(self.log)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.told: list[str] = []

    async def attempt(self, login: Any) -> None:
        """Try, and keep whatever an exception and the values tell."""
        credentials = credentials_of(login)
        self.told += [repr(credentials), str(credentials)]
        try:
            self.told.append(repr(await self.authentication.login(login)))
        except Exception as error:
            self.told += [str(error), repr(error), "".join(traceback.format_exception(error))]
            self.told += [str(vars(error)), str(error.args)]
        await self.authentication.upgrades.done

    def assertNowhere(self, *secrets: str) -> None:
        """None of the secrets is in the logs, the events, what was told, or any file."""
        kept = [path.read_text("utf-8", "replace") for path in self.state.rglob("*") if path.is_file()]
        for text in (self.log.getvalue(), repr(self.events), *self.told, *kept):
            for secret in secrets:
                self.assertNotIn(secret, text)
                self.assertNotIn(json.dumps(secret).strip('"'), text)
        self.assertGreater(len(self.told), 2)

    async def test_password(self) -> None:
        """Right, wrong, disabled; with an upgrade, with one that fails, while all threads are busy, and at a checker
        that breaks."""
        self.file.add(JOE, SENTINEL)
        standing = Account(address=ANN, password=passwords.hash_password(SENTINEL))
        off = Account(address=Address("off", "example.org"), password=passwords.hash_password(SENTINEL), disabled=True)
        self.start(standing, off)
        for name in ("joe", "ann", "off", "nobody", ""):
            await self.attempt(PasswordLogin(name, SENTINEL))
        self.assertTrue(self.events)
        for path, error in (
            ("os.replace", OSError(28, "No space left")),
            ("twisted_mail_node.directory.upgrades._made", RuntimeError("a bug")),
        ):
            self.reload(Account(address=ANN, password=passwords.hash_password(SENTINEL)))
            with mock.patch(path, side_effect=error):
                await self.attempt(PasswordLogin("ann", SENTINEL))
        self.assertEqual(len(self.flushLoggedErrors()), 2)
        with mock.patch("twisted_mail_node.directory.account_secrets.verify", side_effect=RuntimeError("a bug")):
            await self.attempt(PasswordLogin("joe", SENTINEL))
        with mock.patch("twisted_mail_node.directory.password_threads.WAITING_MAX", 0):
            await self.attempt(PasswordLogin("joe", SENTINEL))
        self.patch(strcred, "makeChecker", lambda text: _Breaks())
        self.reload(authentication={"checkers": ("breaks",)})
        await self.attempt(PasswordLogin("joe", SENTINEL))
        self.assertNowhere(SENTINEL, SENTINEL.encode().decode("latin-1"), "sentinel")

    async def test_hashes(self) -> None:
        """Hashes, salts and keys are in no log, event or repr either."""
        self.file.add(JOE, SENTINEL)
        phone = self.file.add_app_password(JOE, "phone", 5)
        self.start(Account(address=ANN, password=OLD))
        await self.attempt(PasswordLogin("joe", SENTINEL))
        await self.attempt(PasswordLogin("joe", phone))
        await self.attempt(PasswordLogin("ann", "sesame"))
        secrets = [self.directory.secrets(self.directory.account(one)) for one in (JOE, ANN)]
        self.told += [repr(secrets), repr(self.directory.accounts()), repr(self.authentication.__dict__)]
        told = "".join([self.log.getvalue(), repr(self.events), *self.told])
        for one in secrets:
            for secret in (one.password, repr(one.salt), repr(one.keys["SHA-256"][0]), repr(one.keys["SHA-256"][1])):
                self.assertNotIn(str(secret), told)
        self.assertNotIn(OLD, told)
        self.assertNotIn(phone, told)

    async def test_others(self) -> None:
        """Tokens and proofs: neither, whatever becomes of them; an issuer that cannot be asked tells none."""
        self.file.add(JOE, SENTINEL)
        settings = OAuthSettings(introspection="http://127.0.0.1:1/")
        self.start(oauth=settings)
        await self.attempt(TokenLogin("joe", "sentinel.token"))
        await self.attempt(ScramLogin("joe", "SHA-256", b"sentinel", b"sentinel" * 4, []))
        with self.assertRaises(LoginRefused):
            await self.authentication.login(TokenLogin("joe", "sentinel\ttoken"))
        self.assertNowhere("sentinel")

    def test_log_is_watched(self) -> None:
        """The log of these tests does hold what is logged."""
        Logger().info("sentinel in the log")
        self.told = ["", "", ""]
        self.assertRaises(self.failureException, self.assertNowhere, "sentinel")
