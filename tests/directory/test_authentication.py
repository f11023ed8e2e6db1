"""Tests of finding out who a client is: passwords, SCRAM, certificates, other checkers, and what is offered."""

from __future__ import annotations

import os
import stat
import threading
from typing import Any
from unittest import mock

from twisted.cred import strcred
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from tests.directory.hashes import OLD
from tests.directory.signing_in import ANN, JOE, SigningInCase, Tls, certificate, who
from twisted_mail_node.directory import password_threads
from twisted_mail_node.directory.account_keys import spell_scram
from twisted_mail_node.directory.account_secrets import Secrets
from twisted_mail_node.directory.password_threads import BusyError
from twisted_mail_node.events import PasswordUpgraded
from twisted_mail_node.interfaces import IAuthentication, ISubmitter
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, SubmissionSettings, TlsSettings
from twisted_mail_node.smtp.sasl import CertificateLogin, PasswordLogin, TokenLogin

WRONG, DISABLED = str(Reason.WRONG_PASSWORD), str(Reason.ACCOUNT_DISABLED)


class PasswordTests(SigningInCase):
    """PLAIN and LOGIN."""

    async def test_login(self) -> None:
        """A right password signs in, by the address in any case or a name in the first domain; nothing else does."""
        self.file.add(JOE, "sesame")
        self.file.add(Address("bob", "example.com"), "open")
        verifyObject(IAuthentication, self.start())
        for name in ("joe@example.org", "JOE@example.ORG", "joe"):
            self.assertEqual(await self.password(name, "sesame"), "joe@example.org")
        self.assertEqual(await self.password("bob@example.com", "open"), "bob@example.com")
        for name, password in (("joe", "open"), ("joe", ""), ("bob", "open"), ("", ""), ("joe@example.com", "sesame")):
            self.assertEqual(await self.password(name, password), WRONG)

    async def test_submitter(self) -> None:
        """Who signed in may use its addresses, as long as the account is there and not disabled."""
        self.file.add(JOE, "sesame")
        self.file.set(JOE, mails_per_hour=3, sends_as=("*@example.net",))
        self.file.add(ANN, "sesame")
        self.start(submission=SubmissionSettings(recipients=9, mails_per_hour=8))
        joe, ann = [await self.authentication.login(PasswordLogin(name, "sesame")) for name in ("joe", "ann")]
        verifyObject(ISubmitter, joe)
        self.assertEqual((joe.account, joe.recipients, joe.mails_per_hour), (JOE, 9, 3))
        self.assertEqual(ann.mails_per_hour, 8)
        self.assertTrue(joe.may_use(Address("JOE", "example.org")))
        self.assertTrue(joe.may_use(Address("x", "example.net")))
        self.assertFalse(joe.may_use(ANN))
        self.file.set(JOE, disabled=True)
        self.reload()
        self.assertFalse(joe.may_use(JOE))

    async def test_disabled(self) -> None:
        """T22: a disabled account signs in to with nothing; who knows no password is not told that it is disabled."""
        self.file.add(JOE, "sesame")
        self.file.set(JOE, disabled=True)
        self.start()
        self.assertEqual(await self.password("joe", "sesame"), DISABLED)
        self.assertEqual(await self.password("joe", "wrong"), WRONG)
        self.assertEqual(await self.scram("joe", "sesame"), DISABLED)
        self.assertEqual(await self.scram("joe", "wrong"), WRONG)

    async def test_app_password(self) -> None:
        """An application password signs in until it is taken back, also to an account of the settings."""
        standing = Account(address=ANN)
        self.file.add(JOE, "sesame")
        joe = self.file.add_app_password(JOE, "phone", 5)
        ann = self.file.add_app_password(ANN, "phone", 5, standing)
        self.start(standing)
        self.assertEqual(await self.password("joe", joe), "joe@example.org")
        self.assertEqual(await self.password("ann", ann), "ann@example.org")
        self.assertEqual(await self.password("ann", joe), WRONG)
        self.file.remove_app_password(JOE, "phone")
        self.reload(standing)
        self.assertEqual(await self.password("joe", joe), WRONG)

    async def test_reactor_is_free(self) -> None:
        """Passwords are compared in other threads, no more at a time than the settings say, which give way to ours."""
        self.start(Account(address=JOE, password=OLD), authentication={"threads": 2, "mechanisms": ("PLAIN",)})
        threads: list[str] = []
        priorities: set[int] = set()
        release = threading.Event()
        at_once = threading.Barrier(3)

        def fits(secrets: Secrets, text: str) -> bool:
            threads.append(threading.current_thread().name)
            priorities.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            if len(threads) <= 2:
                at_once.wait(30)
            release.wait(30)
            return False

        with mock.patch.object(Secrets, "fits", fits):
            tries = [Deferred.fromCoroutine(self.password("joe", "x")) for _ in range(5)]
            at_once.wait(30)
            self.assertEqual(len(threads), 2)
            release.set()
            await gatherResults(tries)
        self.assertEqual(len(set(threads)), 2)
        self.assertNotIn(threading.current_thread().name, threads)
        self.assertEqual(priorities, {password_threads.NICENESS})

    async def test_busy(self) -> None:
        """When too many wait, the next is an error of its own and not a wrong password; later it goes on."""
        self.patch(password_threads, "WAITING_MAX", 2)
        self.file.add(JOE, "sesame")
        self.start()
        tries = [Deferred.fromCoroutine(self.password("joe", "sesame")) for _ in range(2)]
        with self.assertRaises(BusyError):
            await self.authentication.login(PasswordLogin("joe", "sesame"))
        self.assertEqual(await gatherResults(tries), ["joe@example.org"] * 2)
        self.assertEqual(await self.password("joe", "sesame"), "joe@example.org")

    async def test_stopped(self) -> None:
        """A node that stops compares no more passwords."""
        self.start().stop()
        with self.assertRaises(BusyError):
            await self.password("joe", "sesame")


class ScramTests(SigningInCase):
    """SCRAM."""

    async def test_each_password(self) -> None:
        """The password and every application password prove themselves under the account's one salt."""
        self.file.add(JOE, "sesame")
        phone, desk = (self.file.add_app_password(JOE, name, 5) for name in ("phone", "desk"))
        self.start()
        for password in ("sesame", phone, desk):
            for name in ("joe", "Joe@example.org"):
                self.assertEqual(await self.scram(name, password), "joe@example.org")
        for name, password in (("joe", "wrong"), ("ann", "sesame"), ("", "")):
            self.assertEqual(await self.scram(name, password), WRONG)

    async def test_settings(self) -> None:
        """Keys of the settings file are used; also by application passwords made later."""
        salt = bytes(range(16))
        keys = spell_scram(salt, 4096, Secrets(salt=salt, iterations=4096).derive("sesame", ["SHA-256"]))
        standing = Account(address=JOE, scram=keys)
        phone = self.file.add_app_password(JOE, "phone", 5, standing)
        self.start(standing)
        self.assertEqual(self.authentication.scram("joe", "SHA-256"), (salt, 4096))
        self.assertEqual(await self.scram("joe", "sesame"), "joe@example.org")
        self.assertEqual(await self.scram("joe", phone), "joe@example.org")

    async def test_sha_1(self) -> None:
        """SHA-1 has keys of its own, made when the settings name the mechanism."""
        self.start(Account(address=JOE, password=OLD), authentication={"mechanisms": ("SCRAM-SHA-1", "PLAIN")})
        self.assertEqual(self.authentication.mechanisms(Tls()), ("PLAIN",))
        self.assertEqual(await self.password("joe", "sesame"), "joe@example.org")
        await self.authentication.upgrades.done
        self.assertEqual(self.authentication.mechanisms(Tls()), ("SCRAM-SHA-1", "PLAIN"))
        self.assertEqual(await self.scram("joe", "sesame", "SHA-1"), "joe@example.org")

    def test_nobody(self) -> None:
        """T22: a name nobody has gets a salt like others', in every spelling the same, for ever, on no other node."""
        self.file.add(JOE, "sesame")
        self.start(Account(address=ANN))
        salt, iterations = self.authentication.scram("nobody", "SHA-256")
        joes = self.authentication.scram("joe", "SHA-256")
        self.assertEqual((len(salt), iterations), (len(joes[0]), joes[1]))
        for name in ("nobody@example.org", "Nobody@EXAMPLE.org", "nobody"):
            self.assertEqual(self.authentication.scram(name, "SHA-256"), (salt, iterations))
        others = {self.authentication.scram(name, "SHA-256")[0] for name in ("ann", "nobody@example.com", "", "\ud800")}
        self.assertEqual(len(others | {salt}), 5)
        key = self.state / "authentication.key"
        self.assertEqual((stat.S_IMODE(key.stat().st_mode), len(key.read_bytes())), (0o600, 32))
        self.start()
        self.assertEqual(self.authentication.scram("nobody", "SHA-256")[0], salt)
        key.unlink()
        self.start()
        self.assertNotEqual(self.authentication.scram("nobody", "SHA-256")[0], salt)

    def test_no_key(self) -> None:
        """Where the key cannot be kept, salts are steady while the node runs."""
        self.start()
        with mock.patch.object(os, "open", side_effect=OSError(28, "No space left on device")):
            salts = [self.authentication.scram("nobody", "SHA-256") for _ in range(2)]
        self.assertEqual(salts[0], salts[1])


class UpgradeTests(SigningInCase):
    """What a sign-in makes anew."""

    async def test_upgrade(self) -> None:
        """An older hash becomes argon2id with keys, beside the settings, and then SCRAM is offered."""
        standing = Account(address=JOE, password=OLD)
        self.file.add(ANN, "other")
        self.start(standing)
        self.assertNotIn("SCRAM-SHA-256", self.authentication.mechanisms(Tls()))
        self.assertEqual(await self.password("joe", "wrong"), WRONG)
        self.assertEqual(await self.password("joe", "sesame"), "joe@example.org")
        await self.authentication.upgrades.done
        (event,) = self.events
        self.assertEqual(event, PasswordUpgraded("joe@example.org", "an argon2id hash and keys for SCRAM-SHA-256"))
        self.assertIn("SCRAM-SHA-256", self.authentication.mechanisms(Tls()))
        for again in (False, True):
            if again:
                self.reload(standing)
            password = self.directory.secrets(self.directory.account(JOE)).password or ""
            self.assertTrue(password.startswith("$argon2id$"))
            self.assertEqual(await self.password("joe", "sesame"), "joe@example.org")
            self.assertEqual(await self.scram("joe", "sesame"), "joe@example.org")
        await self.authentication.upgrades.done
        self.assertEqual(len(self.events), 1)

    async def test_settings_change(self) -> None:
        """Another hash in the settings is another password: what was derived from the old one is void."""
        self.start(Account(address=JOE, password=OLD))
        await self.password("joe", "sesame")
        await self.authentication.upgrades.done
        self.reload(Account(address=JOE, password="{SSHA}1DPJSjMRGeHpU+xSD8JqxR9UWgtzYWx0c2FsdA=="))
        self.assertTrue((self.directory.secrets(self.directory.account(JOE)).password or "").startswith("{SSHA}"))
        self.assertEqual(await self.scram("joe", "sesame"), WRONG)
        self.reload(Account(address=JOE))
        self.assertEqual(await self.password("joe", "sesame"), WRONG)

    async def test_once(self) -> None:
        """Many sign-ins of one account at once make one upgrade; those of several are written together."""
        accounts = [Account(address=Address(f"p{n}", "example.org"), password=OLD) for n in range(4)]
        self.start(*accounts)
        writes: list[int] = []
        upgrade = self.authentication.upgrades.file.upgrade

        all_signed_in = threading.Event()

        def counted(upgrades: Any) -> Any:
            all_signed_in.wait(30)
            writes.append(len(upgrades))
            return upgrade(upgrades)

        self.patch(self.authentication.upgrades.file, "upgrade", counted)
        tries = [self.password(f"p{n % 4}", "sesame") for n in range(12)]
        await gatherResults([Deferred.fromCoroutine(one) for one in tries])
        all_signed_in.set()
        await self.authentication.upgrades.done
        self.assertEqual(sorted(one.account for one in self.events), [f"p{n}@example.org" for n in range(4)])  # type: ignore[union-attr]
        self.assertEqual(sum(writes), 4)
        self.assertLess(len(writes), 3)

    async def test_app_password(self) -> None:
        """An application password without keys gets them when it is used."""
        standing = Account(address=JOE)
        self.patch(self.file, "hashes", ())
        phone = self.file.add_app_password(JOE, "phone", 5, standing)
        self.start(standing)
        self.assertNotIn("SCRAM-SHA-256", self.authentication.mechanisms(Tls()))
        await self.password("joe", phone)
        await self.authentication.upgrades.done
        self.assertIn("SCRAM-SHA-256", self.authentication.mechanisms(Tls()))
        self.assertEqual(await self.scram("joe", phone), "joe@example.org")

    async def test_fails(self) -> None:
        """An upgrade that cannot be written is logged and does no harm; the next sign-in tries it again."""
        self.start(Account(address=JOE, password=OLD))
        with mock.patch.object(os, "replace", side_effect=OSError(28, "No space left on device")):
            self.assertEqual(await self.password("joe", "sesame"), "joe@example.org")
            await self.authentication.upgrades.done
        (logged,) = self.flushLoggedErrors()
        self.assertNotIn("sesame", str(logged))
        self.assertEqual(self.events, [])
        self.assertEqual(await self.password("joe", "sesame"), "joe@example.org")
        await self.authentication.upgrades.done
        self.assertEqual(len(self.events), 1)

    async def test_passwd_meanwhile(self) -> None:
        """A password changed while an upgrade is made stays changed."""
        self.file.add(JOE, "sesame")
        self.patch(self.file, "hashes", ())
        self.start(authentication={"mechanisms": ("PLAIN",)})
        self.reload()
        self.authentication.upgrades.file.hashes = ("SHA-1",)
        await self.password("joe", "sesame")
        self.file.set_password(JOE, "another")
        await self.authentication.upgrades.done
        self.reload()
        self.assertEqual(await self.password("joe", "another"), "joe@example.org")
        self.assertEqual(await self.password("joe", "sesame"), WRONG)

    async def test_disabled(self) -> None:
        """A disabled account's password is left as it is."""
        self.start(Account(address=JOE, password=OLD, disabled=True))
        await self.password("joe", "sesame")
        await self.authentication.upgrades.done
        self.assertFalse((self.state / "accounts.json").exists())


class MechanismTests(SigningInCase):
    """What is offered."""

    def offered(self, tls: Tls | None = None) -> tuple[str, ...]:
        return self.authentication.mechanisms(tls or Tls())

    def test_binding(self) -> None:
        """-PLUS needs a channel binding."""
        self.file.add(JOE, "sesame")
        self.start()
        self.assertEqual(self.offered(), ("SCRAM-SHA-256", "PLAIN", "LOGIN"))
        self.assertEqual(self.offered(Tls(b"x" * 32)), ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"))

    def test_settings(self) -> None:
        """Only what the settings name, in their order."""
        self.file.add(JOE, "sesame")
        self.start(authentication={"mechanisms": ("LOGIN", "SCRAM-SHA-256")})
        self.assertEqual(self.offered(Tls(b"x" * 32)), ("LOGIN", "SCRAM-SHA-256"))

    def test_lacking(self) -> None:
        """One account that could sign in and has no keys keeps SCRAM from being offered; others do not."""
        self.file.add(JOE, "sesame")
        quiet = (
            Account(address=ANN),
            Account(address=Address("off", "example.org"), password=OLD, disabled=True),
        )
        self.start(*quiet)
        self.assertIn("SCRAM-SHA-256", self.offered())
        self.reload(*quiet, Account(address=Address("old", "example.org"), password=OLD))
        self.assertEqual(self.offered(), ("PLAIN", "LOGIN"))
        self.reload(*quiet)
        self.assertIn("SCRAM-SHA-256", self.offered())

    def test_directory_reloaded(self) -> None:
        """A directory that was reloaded alone is noticed."""
        self.file.add(JOE, "sesame")
        self.start()
        self.assertIn("SCRAM-SHA-256", self.offered())
        self.directory.reload(self.settings(Account(address=ANN, password=OLD)))
        self.assertNotIn("SCRAM-SHA-256", self.offered())

    def test_told_once(self) -> None:
        """Which accounts have no keys is logged once, and not all of many."""
        old = [Account(address=Address(f"p{n:02}", "example.org"), password=OLD) for n in range(20)]
        told: list[dict[str, Any]] = []
        self.patch(type(self)._log_of(), "info", lambda text, **fields: told.append(fields))
        self.start(*old)
        self.reload(*old)
        (fields,) = told
        self.assertIn("p00@example.org", fields["accounts"])
        self.assertIn("10 more", fields["accounts"])
        self.assertNotIn("p10@example.org", fields["accounts"])

    @staticmethod
    def _log_of() -> Any:
        from twisted_mail_node.directory import authentication

        return authentication._log

    def test_other_checker(self) -> None:
        """Another checker has no keys: with one SCRAM is not offered."""
        self.file.add(JOE, "sesame")
        self.start(authentication={"checkers": ("accounts", "memory:joe:sesame")})
        self.assertEqual(self.offered(Tls(b"x" * 32)), ("PLAIN", "LOGIN"))

    def test_external(self) -> None:
        """EXTERNAL needs a verified certificate that names an account, and ``tls.client_ca``."""
        self.file.add(JOE, "sesame")
        self.start(tls=TlsSettings(client_ca="ca.pem"))
        self.assertIn("EXTERNAL", self.offered(Tls(peer=certificate("joe@example.org"))))
        unverified = Tls(peer=certificate("joe@example.org"))
        unverified.verified = False
        for tls in (Tls(), unverified, Tls(peer=certificate("x@example.org")), Tls(peer=certificate())):
            self.assertNotIn("EXTERNAL", self.offered(tls))
        self.reload()
        self.assertNotIn("EXTERNAL", self.offered(Tls(peer=certificate("joe@example.org"))))


class CertificateTests(SigningInCase):
    """EXTERNAL."""

    async def external(self, name: str, *addresses: str, common: str = "somebody") -> str:
        return who(await self.login(CertificateLogin(name, Tls(peer=certificate(*addresses, common=common)))))

    async def test_names(self) -> None:
        """The first address of the certificate that is an account, or the one asked for; nobody else."""
        self.file.add(JOE)
        self.file.add(ANN)
        self.start(Account(address=Address("off", "example.org"), disabled=True))
        both = ("x@example.net", "JOE@example.org", "ann@example.org")
        self.assertEqual(await self.external("", *both), "joe@example.org")
        self.assertEqual(await self.external("Ann@example.org", *both), "ann@example.org")
        self.assertEqual(await self.external("ann", *both), "ann@example.org")
        self.assertEqual(await self.external("", common="joe@example.org"), "joe@example.org")
        self.assertEqual(await self.external("", "off@example.org"), DISABLED)
        for name, addresses, common in (
            ("ann", ("joe@example.org",), ""), ("", ("x@example.org",), "joe@example.org"), ("", (), "joe"),
            ("joe", (), "x"), ("nobody", both, ""),
        ):  # fmt: skip
            self.assertEqual(await self.external(name, *addresses, common=common or "x"), WRONG)

    async def test_not_verified(self) -> None:
        """A certificate whose chain is not trusted names nobody."""
        self.file.add(JOE)
        self.start()
        tls = Tls(peer=certificate("joe@example.org"))
        tls.verified = False
        self.assertEqual(await self.login(CertificateLogin("", tls)), Reason.WRONG_PASSWORD)

    async def test_no_tokens(self) -> None:
        """Without [oauth] a token is nobody's."""
        self.file.add(JOE)
        self.start()
        self.assertEqual(await self.login(TokenLogin("joe", "x.y.z")), Reason.WRONG_PASSWORD)


class _Broken:
    """A checker whose database is away."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: object) -> bytes:
        raise OSError("the database is away")


class ForeignTests(SigningInCase):
    """Checkers of Twisted's own."""

    async def test_file(self) -> None:
        """A file of names and passwords signs in to accounts of ours: with the whole address, or the name in it."""
        passwd = self.state / "passwd"
        passwd.write_text("joe:sesame\nbob@example.com:open\nstranger:sesame\noff:sesame\nann:\n")
        for address in (JOE, ANN, Address("bob", "example.com"), Address("joe", "example.com")):
            self.file.add(address)
        self.start(Account(address=Address("off", "example.org"), disabled=True),
                   authentication={"checkers": ("accounts", f"file:{passwd}")})  # fmt: skip
        for name, password, found in (
            ("joe", "sesame", "joe@example.org"),
            ("joe@example.org", "sesame", "joe@example.org"),
            ("bob@example.com", "open", "bob@example.com"),
            ("joe@example.com", "sesame", WRONG),
            ("bob", "open", WRONG),
            ("joe", "open", WRONG),
            ("ann", "", WRONG),
            ("stranger", "sesame", WRONG),
            ("off", "sesame", DISABLED),
        ):
            self.assertEqual(await self.password(name, password), found, name)

    async def test_order(self) -> None:
        """The first checker that knows the password counts; our own is asked too where the settings name it."""
        self.file.add(JOE, "ours")
        self.start(authentication={"checkers": ("memory:joe:theirs", "accounts")})
        for password, found in (("ours", "joe@example.org"), ("theirs", "joe@example.org"), ("x", WRONG)):
            self.assertEqual(await self.password("joe", password), found)
        self.reload(authentication={"checkers": ("memory:joe:theirs",)})
        self.assertEqual(await self.password("joe", "ours"), WRONG)
        self.assertEqual(await self.scram("joe", "ours"), WRONG)

    async def test_broken(self) -> None:
        """A checker that breaks is an error, and no wrong password."""
        self.file.add(JOE, "ours")
        self.patch(strcred, "makeChecker", lambda text: _Broken())
        self.start(authentication={"checkers": ("broken", "accounts")})
        with self.assertRaises(OSError):
            await self.password("joe", "ours")

    def test_wrong_settings(self) -> None:
        """A checker that is not there, or takes other arguments, is a sentence without them; a reload keeps the old."""
        self.file.add(JOE, "sesame")
        self.start()
        for text in ("nosuch:sentinel", "memory:sentinel", "anonymous", "sshkey"):
            for call in (self.start, self.reload):
                with self.assertRaises(ValueError) as caught:
                    call(authentication={"checkers": (text,)})
                self.assertIn("authentication.checkers", str(caught.exception))
                self.assertNotIn("sentinel", str(caught.exception))
        self.assertIn("SCRAM-SHA-256", self.authentication.mechanisms(Tls()))
