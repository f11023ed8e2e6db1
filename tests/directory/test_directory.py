"""Tests of the directory: what addresses mean, and how settings are exchanged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.directory.hashes import OLD
from twisted_mail_node.directory import census as census_module
from twisted_mail_node.directory.account_secrets import Secrets
from twisted_mail_node.directory.accounts import AccountFile, AccountFileError
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.interfaces import IDirectory
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, Alias, Domain, Settings
from twisted_mail_node.settings_spelling import address as parsed

UNKNOWN = Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
LOOP = Resolution(True, (), False, Reason.ALIAS_LOOP)


def here(*texts: str, expanded: bool = False) -> Resolution:
    """A local address whose mail goes to these."""
    return Resolution(True, tuple(parsed(text) for text in texts), expanded)


class DirectoryTests(SynchronousTestCase):
    """A directory in a state directory of its own."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name)

    def settings(
        self,
        accounts: str = "",
        aliases: dict[str, str] | None = None,
        domain: dict[str, Any] | None = None,
        **more: Any,
    ) -> Settings:
        """Settings with one domain, ``example.org``."""
        values: dict[str, Any] = {
            "hostname": "mx.example.org",
            "domains": (Domain(name="example.org", **(domain or {})),),
            "accounts": more.pop("people", None) or tuple(Account(address=parsed(text)) for text in accounts.split()),
            "aliases": tuple(
                Alias(address=parsed(name), to=tuple(parsed(text) for text in to.split()))
                for name, to in (aliases or {}).items()
            ),
        }
        return Settings(state_dir=self.state, **{**values, **more})

    def directory(self, *args: Any, **more: Any) -> Directory:
        """A directory with such settings."""
        return Directory(self.settings(*args, **more))

    def resolve(self, directory: Directory, address: str | Address) -> Resolution:
        """What an address means; the second answer, from the cache, is the same."""
        wanted = parsed(address) if isinstance(address, str) else address
        answers = []
        for _ in range(2):
            coroutine = directory.resolve(wanted)
            with self.assertRaises(StopIteration) as caught:
                coroutine.send(None)
            answers.append(caught.exception.value)
        self.assertEqual(answers[0], answers[1])
        return Resolution(*answers[0])


class ResolveTests(DirectoryTests):
    """What addresses mean."""

    def test_interface(self) -> None:
        """A directory is an IDirectory."""
        self.assertTrue(verifyObject(IDirectory, self.directory()))

    def test_account(self) -> None:
        """An account gets its mail, in any case of local-part and domain."""
        directory = self.directory("Joe@example.org")
        for text in ("Joe@example.org", "joe@example.org", "JOE@EXAMPLE.ORG"):
            self.assertEqual(self.resolve(directory, text), here("Joe@example.org"))

    def test_exact_case_first(self) -> None:
        """Two accounts that differ in case each get their own mail."""
        directory = self.directory("Joe@example.org joe@example.org")
        self.assertEqual(self.resolve(directory, "joe@example.org"), here("joe@example.org"))
        self.assertEqual(self.resolve(directory, "JOE@example.org"), here("Joe@example.org"))

    def test_unknown(self) -> None:
        """Nobody is unknown."""
        self.assertEqual(self.resolve(self.directory("joe@example.org"), "ann@example.org"), UNKNOWN)

    def test_remote(self) -> None:
        """A remote address is itself."""
        directory = self.directory("joe@example.org")
        for address in (parsed("joe@a.example.org"), parsed("joe@[192.0.2.1]"), Address("joe", "ü" * 300)):
            self.assertEqual(self.resolve(directory, address), Resolution(False, (address,)))

    def test_alias(self) -> None:
        """An alias reaches many, here and elsewhere, through other aliases, each once."""
        aliases = {
            "team@example.org": "joe@example.org Ann@elsewhere.example sales@example.org",
            "Sales@example.org": "joe@example.org ann@example.org",
        }
        directory = self.directory("joe@example.org ann@example.org", aliases)
        wanted = here("joe@example.org", "Ann@elsewhere.example", "ann@example.org", expanded=True)
        self.assertEqual(self.resolve(directory, "TEAM@example.org"), wanted)
        self.assertEqual(directory.problems(), [])

    def test_loop(self) -> None:
        """Aliases in a circle are ALIAS_LOOP, and the directory says so."""
        directory = self.directory("", {"a@example.org": "b@example.org", "b@example.org": "A@example.org"})
        self.assertEqual(self.resolve(directory, "a@example.org"), LOOP)
        self.assertEqual(len(directory.problems()), 2)
        self.assertIn("the alias a@example.org leads in a circle", directory.problems()[0])

    def test_alias_to_itself_only(self) -> None:
        """An alias that only names itself, without an account, is a circle too."""
        self.assertEqual(self.resolve(self.directory("", {"a@example.org": "a@example.org"}), "a@example.org"), LOOP)

    def test_copy(self) -> None:
        """An account that is also an alias forwards, and keeps a copy only if the alias says so."""
        aliases = {"joe@example.org": "joe@example.org joe@example.com", "ann@example.org": "ann@example.com"}
        directory = self.directory("joe@example.org ann@example.org", aliases)
        self.assertEqual(
            self.resolve(directory, "Joe@example.org"), here("joe@example.org", "joe@example.com", expanded=True)
        )
        self.assertEqual(self.resolve(directory, "ann@example.org"), here("ann@example.com", expanded=True))

    def test_dangling(self) -> None:
        """An alias to somebody gone reaches the others; one to nobody else is unknown; both are told."""
        aliases = {"a@example.org": "gone@example.org joe@example.org", "b@example.org": "gone@example.org"}
        directory = self.directory("joe@example.org", aliases)
        self.assertEqual(self.resolve(directory, "a@example.org"), here("joe@example.org", expanded=True))
        self.assertEqual(self.resolve(directory, "b@example.org"), UNKNOWN)
        wanted = [f"the alias {name}@example.org leads to gone@example.org, whom nobody has" for name in "ab"]
        self.assertEqual(directory.problems(), wanted)

    def test_catch_all(self) -> None:
        """A catch-all takes what nobody has, and only that."""
        directory = self.directory(
            "joe@example.org ann@example.org", domain={"catch_all": Address("joe", "example.org")}
        )
        self.assertEqual(self.resolve(directory, "x@example.org"), here("joe@example.org", expanded=True))
        self.assertEqual(self.resolve(directory, "ann@example.org"), here("ann@example.org"))

    def test_catch_all_is_an_alias(self) -> None:
        """A catch-all may be an alias that leads elsewhere."""
        directory = self.directory(
            "", {"all@example.org": "joe@example.com"}, {"catch_all": Address("all", "example.org")}
        )
        self.assertEqual(self.resolve(directory, "x@example.org"), here("joe@example.com", expanded=True))

    def test_catch_all_is_nobody(self) -> None:
        """A catch-all nobody has leaves addresses unknown, and is told."""
        directory = self.directory(domain={"catch_all": Address("joe", "example.org")})
        self.assertEqual(self.resolve(directory, "x@example.org"), UNKNOWN)
        self.assertEqual(self.resolve(directory, "joe@example.org"), UNKNOWN)
        self.assertEqual(
            directory.problems(), ["the catch-all of example.org leads to joe@example.org, whom nobody has"]
        )

    def test_catch_alls_in_a_circle(self) -> None:
        """Two catch-alls that point at each other end."""
        domains = (
            Domain(name="a.example", catch_all=Address("x", "b.example")),
            Domain(name="b.example", catch_all=Address("y", "a.example")),
        )
        directory = self.directory(domains=domains)
        self.assertEqual(self.resolve(directory, "z@a.example"), LOOP)
        self.assertEqual(self.resolve(directory, "postmaster@a.example"), here("postmaster@a.example", expanded=True))

    def test_subaddress(self) -> None:
        """``joe+shop`` is joe's; an exact address wins; without a separator it is another address."""
        domain = {"subaddress_separator": "+"}
        directory = self.directory(
            "joe@example.org joe+own@example.org", {"team@example.org": "joe@example.org"}, domain
        )
        self.assertEqual(self.resolve(directory, "Joe+shop+x@example.org"), here("joe@example.org"))
        self.assertEqual(self.resolve(directory, "joe+own@example.org"), here("joe+own@example.org"))
        self.assertEqual(self.resolve(directory, "team+x@example.org"), here("joe@example.org", expanded=True))
        self.assertEqual(self.resolve(directory, "+joe@example.org"), UNKNOWN)
        self.assertEqual(self.resolve(directory, "joe-x@example.org"), UNKNOWN)
        self.assertEqual(self.resolve(self.directory("joe@example.org"), "joe+shop@example.org"), UNKNOWN)

    def test_unicode(self) -> None:
        """A domain of ours is ours as U-labels and as A-labels."""
        directory = self.directory("joe@bücher.example", domains=(Domain(name="bücher.example"),))
        for text in ("joe@bücher.example", "JOE@XN--BCHER-kva.example", "joe@BÜCHER.example"):
            self.assertEqual(self.resolve(directory, text), here("joe@bücher.example"))

    def test_injection(self) -> None:
        """T16, T17, T28: odd local-parts are just addresses nobody has."""
        directory = self.directory("joe@example.org")
        for local in (
            "' OR 1=1--",
            "$(id)",
            "joe%b.example",
            "joe@b.example",
            "@a:joe",
            "joe\0",
            "../joe",
            "joe ",
            "*",
        ):
            self.assertEqual(self.resolve(directory, Address(local, "example.org")), UNKNOWN, local)

    @given(st.text(max_size=20), st.sampled_from(["example.org", "example.com", "", "EXAMPLE.org."]))
    def test_anything(self, local_part: str, domain: str) -> None:
        """No address raises; an answer has targets or a problem, never both, and local targets have mailboxes."""
        directory = self.directory("joe@example.org", {"a@example.org": "joe@example.org x@example.com"})
        answer = self.resolve(directory, Address(local_part, domain))
        self.assertEqual(bool(answer.targets), answer.problem is None)
        for target in answer.targets:
            self.assertEqual(directory.mailbox_exists(target), directory.is_local(target.domain))


class AlwaysThereTests(DirectoryTests):
    """RFC 5321 section 4.5.1: postmaster and abuse are reached in every local domain."""

    def test_own(self) -> None:
        """An account or alias of that name gets the mail."""
        directory = self.directory("joe@example.org abuse@example.org", {"postmaster@example.org": "joe@example.com"})
        self.assertEqual(self.resolve(directory, "PostMaster@example.org"), here("joe@example.com", expanded=True))
        self.assertEqual(self.resolve(directory, "ABUSE@example.org"), here("abuse@example.org"))

    def test_abuse_by_postmaster(self) -> None:
        """Mail for abuse goes to postmaster's account."""
        directory = self.directory("joe@example.org postmaster@example.org")
        self.assertEqual(self.resolve(directory, "abuse@example.org"), here("postmaster@example.org", expanded=True))

    def test_catch_all(self) -> None:
        """Then the catch-all gets it."""
        directory = self.directory(
            "ann@example.org joe@example.org", domain={"catch_all": Address("joe", "example.org")}
        )
        for name in ("postmaster", "Abuse"):
            self.assertEqual(self.resolve(directory, f"{name}@example.org"), here("joe@example.org", expanded=True))

    def test_first_account(self) -> None:
        """Then the domain's first account gets it."""
        domains = (Domain(name="a.example"), Domain(name="b.example"))
        directory = self.directory("ann@b.example joe@a.example", domains=domains)
        self.assertEqual(self.resolve(directory, "postmaster@a.example"), here("joe@a.example", expanded=True))
        self.assertEqual(self.resolve(directory, "abuse@b.example"), here("ann@b.example", expanded=True))

    def test_own_mailbox(self) -> None:
        """Without anybody, there is a mailbox of that name."""
        directory = self.directory()
        self.assertEqual(self.resolve(directory, "POSTMASTER@Example.org"), here("postmaster@example.org"))
        self.assertEqual(self.resolve(directory, "abuse@example.org"), here("postmaster@example.org", expanded=True))
        postmaster = Address("postmaster", "example.org")
        self.assertTrue(directory.mailbox_exists(postmaster))
        self.assertEqual(directory.maildir_path(postmaster), self.state / "mail/example.org/postmaster")

    def test_broken_alias(self) -> None:
        """Even when their alias leads in a circle, to nobody, or the catch-all does."""
        for aliases in (
            {"postmaster@example.org": "postmaster@example.org"},
            {"postmaster@example.org": "a@example.org", "a@example.org": "abuse@example.org"},
            {"postmaster@example.org": "nobody@example.org"},
        ):
            directory = self.directory("joe@example.org", aliases)
            for name in ("postmaster", "abuse"):
                self.assertEqual(self.resolve(directory, f"{name}@example.org"), here("joe@example.org", expanded=True))
        directory = self.directory(domain={"catch_all": Address("nobody", "example.org")})
        for name in ("postmaster", "abuse"):
            self.assertEqual(
                self.resolve(directory, f"{name}@example.org"), here("postmaster@example.org", expanded=True)
            )

    def test_subaddress(self) -> None:
        """Their subaddresses are reached as well."""
        directory = self.directory("joe@example.org", domain={"subaddress_separator": "+"})
        self.assertEqual(self.resolve(directory, "abuse+x@example.org"), here("joe@example.org", expanded=True))

    def test_bare(self) -> None:
        """``<postmaster>`` is that of the first domain, or of the one named like the host; no other name is bare."""
        domains = (Domain(name="a.example"), Domain(name="mx.example.org"))
        directory = self.directory("ann@mx.example.org joe@a.example", domains=domains)
        self.assertEqual(self.resolve(directory, Address("Postmaster", "")), here("ann@mx.example.org", expanded=True))
        self.assertEqual(self.resolve(directory, Address("joe", "")), UNKNOWN)
        directory = self.directory("joe@example.org")
        self.assertEqual(self.resolve(directory, Address("postmaster", "")), here("joe@example.org", expanded=True))

    def test_relay_only(self) -> None:
        """A node without local domains has a postmaster under its own name."""
        directory = self.directory(domains=())
        self.assertEqual(self.resolve(directory, Address("postmaster", "")), here("postmaster@mx.example.org"))
        self.assertTrue(directory.is_local("mx.example.org"))
        self.assertEqual(self.resolve(directory, "joe@mx.example.org"), UNKNOWN)


class ReloadTests(DirectoryTests):
    """Settings and account file together, and their exchange."""

    def test_account_file(self) -> None:
        """Accounts of both sources are there; of two for one address the settings' counts."""
        file = AccountFile(self.state / "accounts.json")
        for name, quota in (("ann", 1), ("joe", 2)):
            file.add(Address(name, "example.org"), quota=quota)
        file.add(Address("joe", "gone.example"))
        directory = self.directory("joe@example.org")
        self.assertEqual([str(one.address) for one in directory.accounts()], ["joe@example.org", "ann@example.org"])
        self.assertEqual(directory.quota(Address("ann", "example.org")), 1)
        self.assertEqual(directory.quota(Address("joe", "example.org")), None)

    def test_reload(self) -> None:
        """After a reload old answers are forgotten and new accounts are there."""
        directory = self.directory("joe@example.org")
        self.assertEqual(self.resolve(directory, "joe@example.org"), here("joe@example.org"))
        AccountFile(self.state / "accounts.json").add(Address("ann", "example.org"))
        directory.reload(self.settings())
        self.assertEqual(self.resolve(directory, "joe@example.org"), UNKNOWN)
        self.assertEqual(self.resolve(directory, "ann@example.org"), here("ann@example.org"))

    def test_reload_fails(self) -> None:
        """When the account file is damaged, everything stays as it was."""
        directory = self.directory("joe@example.org")
        (self.state / "accounts.json").write_text("{")
        with self.assertRaises(AccountFileError):
            directory.reload(self.settings("ann@example.org"))
        self.assertEqual(self.resolve(directory, "joe@example.org"), here("joe@example.org"))
        self.assertEqual(self.resolve(directory, "ann@example.org"), UNKNOWN)

    def test_quota(self) -> None:
        """An account's own quota comes before its domain's."""
        people = (
            Account(address=Address("joe", "example.org"), quota=7),
            Account(address=Address("ann", "example.org")),
        )
        directory = self.directory(domain={"quota": 9}, people=people)
        found = [directory.quota(parsed(f"{name}@example.org")) for name in ("JOE", "ann", "postmaster")]
        self.assertEqual(found, [7, 9, 9])
        self.assertEqual(directory.quota(parsed("joe@example.com")), None)

    def test_account(self) -> None:
        """An account is found in any case, but not by its subaddress."""
        directory = self.directory("joe@example.org", domain={"subaddress_separator": "+"})
        self.assertEqual(directory.account(parsed("JOE@example.org")), Account(address=parsed("joe@example.org")))
        self.assertIsNone(directory.account(parsed("joe+x@example.org")))
        self.assertIsNone(directory.account(parsed("joe@example.com")))

    def test_maildir(self) -> None:
        """However an address is written, its Maildir is the account's."""
        directory = self.directory("Joe@example.org")
        for text in ("Joe@example.org", "JOE@Example.ORG", "joe@example.org"):
            self.assertEqual(directory.maildir_path(parsed(text)), self.state / "mail/example.org/Joe")
        self.assertEqual(directory.maildir_path(parsed("PostMaster@example.org")).name, "postmaster")
        self.assertEqual(directory.maildir_path(parsed("gone@example.org")).name, "gone")
        self.assertRaises(ValueError, directory.maildir_path, parsed("joe@example.com"))

    def test_bounded(self) -> None:
        """Guessed addresses fill no memory, and neither do those that somebody has."""
        self.patch(census_module, "CACHE_MAX", 5)
        directory = self.directory("joe@example.org", domain={"subaddress_separator": "+"})
        for number in range(100):
            self.resolve(directory, f"x{number}@example.org")
            self.resolve(directory, f"x{number}@example.com")
        self.assertEqual(len(directory._census.answers), 0)
        for number in range(12):
            self.resolve(directory, f"joe+{number}@example.org")
            directory.maildir_path(Address(f"x{number}", "example.org"))
        self.assertEqual((len(directory._census.answers), len(directory._census._paths)), (2, 2))


class SigningInTests(DirectoryTests):
    """Who signs in, and what they write from."""

    def test_signing_in(self) -> None:
        """An address in any case, or a name in the first domain; no alias, subaddress, catch-all or other domain."""
        directory = self.directory(
            "joe@example.org ann@example.com",
            {"sales@example.org": "joe@example.org"},
            domains=(Domain(name="example.org", subaddress_separator="+", catch_all=parsed("joe@example.org")),
                     Domain(name="example.com")),
        )  # fmt: skip
        for name in ("joe@example.org", "JOE@Example.ORG", "joe", "Joe"):
            self.assertEqual(str(directory.signing_in(name).address), "joe@example.org")  # type: ignore[union-attr]
        for name in ("ann", "sales@example.org", "joe+x@example.org", "x@example.org", "joe@example.net", "", "@",
                     "joe@", "postmaster", "joe@example.org ", "\0", "\ud800@example.org"):  # fmt: skip
            self.assertIsNone(directory.signing_in(name), name)
        self.assertEqual(directory.first_domain(), "example.org")

    def owns(self, directory: Directory, owner: str) -> set[str]:
        """Which of many addresses the owner may write from."""
        tried = ("joe@example.org JOE@EXAMPLE.org joe+x@example.org ann@example.org sales@example.org "
                 "sales+x@example.org all@example.org fwd@example.org x@example.org postmaster@example.org "
                 "joe@example.com x@example.net boss@example.net")  # fmt: skip
        return {text for text in tried.split() if directory.owns(parsed(owner), parsed(text))}

    def test_owns(self) -> None:
        """Its own address in any case and with a subaddress, that of an alias straight to it, and what it was given;
        not where a catch-all leads, not an alias of an alias, not who forwards to it."""
        directory = self.directory(
            aliases={"sales@example.org": "joe@example.org x@example.net", "all@example.org": "sales@example.org",
                     "fwd@example.org": "joe@example.org"},
            domain={"subaddress_separator": "+", "catch_all": parsed("joe@example.org")},
            people=(
                Account(address=parsed("joe@example.org")),
                Account(address=parsed("fwd@example.org")),
                Account(address=parsed("ann@example.org"), sends_as=("*@example.net", "Postmaster@example.org")),
                Account(address=parsed("off@example.org"), disabled=True, sends_as=("*@example.org",)),
            ),
        )  # fmt: skip
        joe = "joe@example.org JOE@EXAMPLE.org joe+x@example.org sales@example.org sales+x@example.org"
        self.assertEqual(self.owns(directory, "joe@example.org"), set(joe.split()))
        ann = "ann@example.org x@example.net boss@example.net postmaster@example.org"
        self.assertEqual(self.owns(directory, "ann@example.org"), set(ann.split()))
        self.assertEqual(self.owns(directory, "off@example.org"), set())
        self.assertEqual(self.owns(directory, "gone@example.org"), set())

    def test_no_separator(self) -> None:
        """Where the domain has no separator, there are no subaddresses."""
        self.assertEqual(len(self.owns(self.directory("joe@example.org"), "joe@example.org")), 2)

    def test_secrets(self) -> None:
        """Secrets of both sources are there; those of a sign-in are taken over unless a reload came between."""
        AccountFile(self.state / "accounts.json").add(Address("ann", "example.org"), "sesame")
        directory = self.directory(people=(Account(address=parsed("joe@example.org"), password=OLD),))
        joe, ann = (directory.account(parsed(f"{name}@example.org")) for name in ("joe", "ann"))
        assert joe is not None
        self.assertEqual(directory.secrets(joe).password, OLD)
        self.assertTrue(directory.secrets(ann).keys)
        self.assertFalse(directory.secrets(None).can_sign_in())
        seen, now = directory.secrets(joe), Secrets("x")
        self.assertTrue(directory.keep_secrets(joe.address, seen, now))
        self.assertIs(directory.secrets(joe), now)
        self.assertFalse(directory.keep_secrets(joe.address, seen, Secrets("y")))
        self.assertIs(directory.secrets(joe), now)
