"""Signing in at a real node, over real TLS: accounts of commands and of settings, every mechanism, and guessing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from scramp import ScramClient  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest

from tests.interop.issuer import Introspection, Signer
from tests.interop.node import BIN, COMMAND_TIME, Node, NodeError, NodeTest, wait_for
from tests.interop.secure import AUDIENCE, ISSUER, PASSWORD, SecureNode, write_secret
from tests.interop.session import Session

WRONG = "535 5.7.8 User name or password is wrong; the user name is the whole mail address"
WRONG_TOKEN = "535 5.7.8 The token is not good, or has expired; sign in again in your mail program"
DISABLED = "525 5.7.13 This account is disabled; ask your postmaster"
MAY_NOT = "550 5.7.1 The account {} may not send any more: it is disabled; ask your postmaster"
SIGNED_IN = "235 2.7.0 You have signed in"
#: Who guesses, who is slowed, and where the owner is.
GUESSER, SLOWED, OWNER = "127.0.0.3", "127.0.0.4", "127.0.0.2"
#: Seconds: more than a busy machine takes for a password, and less than one who is slowed waits at the end (4 s).
UNNOTICED = 3.0
#: Seconds that nobody waits who has guessed a few times.
SLOW = 5.0


def command(node: Node, *words: str, given: str = "", code: int = 0) -> str:
    """Run ``mailnode`` with a line on its standard input; gives what it says."""
    done = subprocess.run(
        [str(BIN / "mailnode"), *words, "-c", str(node.config)],
        cwd=node.place, input=given + "\n", capture_output=True, text=True, timeout=COMMAND_TIME, check=False,
    )  # fmt: skip
    if done.returncode != code:
        raise NodeError(f"mailnode {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class SessionTest(NodeTest):
    """A test that signs in."""

    here: SecureNode
    _last = 0

    def setUp(self) -> None:
        # Each test has an address of its own: what one guesses does not slow the others.
        SessionTest._last += 1
        self.source = f"127.0.1.{SessionTest._last}"

    def session(self, node: SecureNode | None = None, **how: Any) -> Session:
        """A session over TLS from the first octet; it is closed when the test ends."""
        node = node or self.here
        session = Session(node.ports["implicit"], node.authority.root, **{"source": self.source, **how})
        self.addCleanup(session.close)
        return session

    def signs_in(self, name: str, password: str, node: SecureNode | None = None) -> Session:
        """A right password."""
        session = self.session(node)
        self.assertEqual(session.plain(name, password), SIGNED_IN)
        return session

    def at_once(self, asks: Sequence[Callable[[Session], str]], source: str = "") -> list[tuple[str, float]]:
        """Each in a session of its own, all at the same time: a wrong password takes a second. Replies and seconds."""
        sessions = [self.session(source=source or self.source) for _ in asks]
        found: list[tuple[str, float]] = [("", 0.0)] * len(asks)

        def one(number: int) -> None:
            began = time.monotonic()
            found[number] = asks[number](sessions[number]), time.monotonic() - began

        threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(asks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for session in sessions:
            session.close()
        return found

    def refused(self, name: str, password: str, reply: str = WRONG) -> None:
        """A wrong one."""
        self.assertEqual(self.session().plain(name, password), reply)


class Here(SecureNode):
    """A node that believes tokens of an issuer.

    :ivar signer: makes those it can check itself. :ivar introspection: is asked about all others.
    """

    def __init__(self) -> None:
        known: dict[str, dict[str, object]] = {
            "opaque-of-ann": {"active": True, "email": "ann@here.test", "iss": ISSUER, "aud": AUDIENCE},
            "opaque-of-joe": {"active": True, "email": "joe@here.test", "iss": ISSUER, "aud": AUDIENCE},
            "opaque-for-another": {"active": True, "email": "ann@here.test", "iss": ISSUER, "aud": "other.test"},
        }
        self.introspection = Introspection(known, "mailnode", "the node's secret")
        # These lines end the table [oauth].
        super().__init__(
            tables=f'introspection = "{self.introspection.url}"\nclient_id = "mailnode"\n'
            'client_secret_file = "introspection.secret"\n'
        )
        write_secret(self.state / "introspection.secret", b"the node's secret\n")
        self.signer = Signer(self.tokens.keys, ISSUER, AUDIENCE)

    def close(self) -> None:
        """See Node."""
        super().close()
        self.introspection.close()


class SigningInTest(SessionTest):
    """One node with everything."""

    def setUp(self) -> None:
        super().setUp()
        self.here = self.one = cast(Here, self.shared(lambda: (Here(),))[0])

    def test_commands(self) -> None:
        """add, passwd, app-password, sends-as, disable and enable count at once, for whoever has signed in as well."""
        new = "new@here.test"
        self.assertIn("has an account now", command(self.here, "account", "add", new, given="first secret"))
        session = self.signs_in(new, "first secret")
        self.assertEqual(self.session().scram(new, "first secret"), SIGNED_IN)
        self.assertTrue(session.ask("MAIL FROM:<office@else.test>").startswith("550-5.7.1 You may not send from"))
        command(self.here, "account", "sends-as", new, "office@else.test", "*@sub.here.test")
        for address in (new, "office@else.test", "any.one@sub.here.test"):
            self.assertEqual(session.ask(f"MAIL FROM:<{address}>"), "250 2.1.0 Sender OK")
            session.must("RSET")
        command(self.here, "account", "passwd", new, given="second secret")
        self.signs_in(new, "second secret")
        made = json.loads(command(self.here, "account", "app-password", "add", new, "phone", "--json"))["password"]
        self.signs_in(new, made)
        self.assertEqual(self.session().scram(new, made), SIGNED_IN)
        command(self.here, "account", "app-password", "remove", new, "phone")
        found = self.at_once([partial(Session.plain, name=new, password=gone) for gone in (made, "first secret")])
        self.assertEqual([reply for reply, _ in found], [WRONG] * 2)
        command(self.here, "account", "disable", new)
        self.assertEqual(session.ask(f"MAIL FROM:<{new}>"), MAY_NOT.format(new))
        self.refused(new, "second secret", DISABLED)
        command(self.here, "account", "enable", new)
        self.assertEqual(session.ask(f"MAIL FROM:<{new}>"), "250 2.1.0 Sender OK")
        self.signs_in(new, "second secret")
        self.assertIn(f"{new}", command(self.here, "account", "list"))
        for secret in ("first secret", "second secret", made):
            self.assertNotIn(secret, (self.here.state / "accounts.json").read_text())
            self.assertNotIn(secret, (self.here.state / "log" / "mail.jsonl").read_text())

    def test_disabled_amid(self) -> None:
        """Who is disabled in the middle of a mail does not get it through."""
        command(self.here, "account", "add", "amid@here.test", given="a secret")
        session = self.signs_in("amid@here.test", "a secret")
        session.open(["joe@here.test"], "amid@here.test")
        command(self.here, "account", "disable", "amid@here.test")
        reply = session.data(b"From: amid@here.test\r\nSubject: amid\r\n\r\nHello\r\n")
        self.assertEqual(reply, MAY_NOT.format("amid@here.test"))

    def test_scram(self) -> None:
        """SCRAM-SHA-256 with a client of others; it believes the node, too."""
        session = self.session()
        client = ScramClient(["SCRAM-SHA-256"], "ann@here.test", PASSWORD)
        reply = session.auth("SCRAM-SHA-256", client.get_client_first().encode())
        client.set_server_first(b64decode(reply[4:]).decode())
        reply = session.ask(b64encode(client.get_client_final().encode()).decode())
        client.set_server_final(b64decode(reply[4:]).decode())
        self.assertEqual(session.ask(""), SIGNED_IN)
        self.here.wait_event("signed-in", account="ann@here.test", mechanism="SCRAM-SHA-256")

    def test_binding(self) -> None:
        """-PLUS with the binding of the connection signs in; with that of another connection it does not."""
        one, other = self.session(), self.session()
        self.assertNotEqual(one.binding, other.binding)
        name, mechanism = "joe@here.test", "SCRAM-SHA-256-PLUS"
        self.assertEqual(one.scram(name, PASSWORD, mechanism, one.binding), SIGNED_IN)
        reply = other.scram(name, PASSWORD, mechanism, one.binding)
        self.assertRegex(reply, "^501 5.5.2 The channel binding is not that of this TLS session")

    def test_gnu_sasl(self) -> None:
        """GNU SASL's client, which shares no code with us, signs in by each mechanism both know; -PLUS with its own
        idea of the binding. A wrong password is refused in words."""
        gsasl = shutil.which("gsasl")
        if gsasl is None:
            raise SkipTest("gsasl is not installed")
        for mechanism, options in (
            ("SCRAM-SHA-256-PLUS", ()), ("SCRAM-SHA-256", ("--no-cb",)), ("PLAIN", ()), ("LOGIN", ()),
        ):  # fmt: skip
            for password, code in ((PASSWORD, 0), ("not it", 1)):
                with self.subTest(mechanism=mechanism, password=password):
                    done = subprocess.run(
                        [gsasl, "--smtp", f"--connect=localhost:{self.here.ports['starttls']}", *options,
                         f"--mechanism={mechanism}", "--authentication-id=ann@here.test", f"--password={password}",
                         f"--x509-ca-file={self.here.authority.root}", "--hostname=localhost"],
                        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_TIME, check=False,
                    )  # fmt: skip
                    said = done.stdout + done.stderr
                    self.assertEqual(done.returncode, code, said)
                    self.assertIn(WRONG if code else SIGNED_IN, said)
            self.here.wait_event("signed-in", account="ann@here.test", mechanism=mechanism, client="127.0.0.1")

    def test_external(self) -> None:
        """EXTERNAL is offered to a client with a certificate for an address here, and signs in as that."""
        session = self.session(certificate=self.here.authority.client("ann@here.test"))
        self.assertIn("EXTERNAL", session.mechanisms)
        self.assertEqual(session.auth("EXTERNAL", b""), SIGNED_IN)
        session.must("MAIL FROM:<ann@here.test>")
        session.must("RSET")
        self.assertRegex(session.ask("MAIL FROM:<joe@here.test>"), "^550-5.7.1 ")
        session = self.session(certificate=self.here.authority.client("ann@here.test"))
        self.assertEqual(session.auth("EXTERNAL", b"joe@here.test").split()[0], "535")
        self.assertNotIn("EXTERNAL", self.session().mechanisms)
        self.assertNotIn("EXTERNAL", self.session(certificate=self.here.authority.client("x@else.test")).mechanisms)

    def test_signed_tokens(self) -> None:
        """OAUTHBEARER with tokens their issuer signed; not with one for another service, too old, or for another."""
        signer = self.one.signer
        session = self.session()
        self.assertEqual(session.bearer("ann@here.test", signer.token("ann@here.test")), SIGNED_IN)
        session.must("MAIL FROM:<ann@here.test>")
        tokens = (
            signer.token("ann@here.test", aud="other.test"),
            signer.token("ann@here.test", seconds=-100),
            signer.token("joe@here.test"),
        )
        found = self.at_once([partial(Session.bearer, name="ann@here.test", token=token) for token in tokens])
        self.assertEqual([reply for reply, _ in found], [WRONG_TOKEN] * 3)

    def test_introspection(self) -> None:
        """OAUTHBEARER with tokens whose issuer is asked; when it does not answer, the client is to try again."""
        introspection = self.one.introspection
        self.assertEqual(self.session().bearer("ann@here.test", "opaque-of-ann"), SIGNED_IN)
        self.assertEqual(self.session().bearer("ann@here.test", "opaque-of-ann"), SIGNED_IN)
        self.assertEqual(introspection.asked.count("opaque-of-ann"), 1)
        tokens = ("opaque-for-another", "unheard-of")
        found = self.at_once([partial(Session.bearer, name="ann@here.test", token=token) for token in tokens])
        self.assertEqual([reply for reply, _ in found], [WRONG_TOKEN] * 2)
        introspection.broken = True
        self.addCleanup(setattr, introspection, "broken", False)
        reply = self.session().bearer("joe@here.test", "opaque-of-joe")
        self.assertEqual(reply, "454 4.7.0 Passwords cannot be checked now; try again later")
        introspection.broken = False
        self.assertEqual(self.session().bearer("joe@here.test", "opaque-of-joe"), SIGNED_IN)

    def test_without_tls(self) -> None:
        """Without TLS nothing is offered, and nobody signs in."""
        session = Session(self.here.ports["starttls"], tls="none")
        self.addCleanup(session.close)
        self.assertEqual(session.mechanisms, [])
        self.assertRegex(session.plain("ann@here.test", PASSWORD), "^538 5.7.11 ")
        self.assertRegex(session.ask("MAIL FROM:<ann@here.test>"), "^530 5.7.0 ")

    # ---- guessing --------------------------------------------------------------------------------------------

    def guess(self, number: int, source: str, name: str = "joe@here.test") -> list[tuple[str, float]]:
        """So many wrong passwords at once, each in a session of its own: the replies, and their seconds."""
        return self.at_once([lambda session: session.plain(name, "not it")] * number, source)

    def test_slower(self) -> None:
        """A wrong password is answered after a second, whoever it is for; from the fourth on it takes longer."""
        names = ["joe@here.test"] * 2 + ["nobody@here.test"] * 2
        for reply, seconds in self.at_once(
            [partial(Session.plain, name=name, password="no") for name in names], SLOWED
        ):
            self.assertEqual(reply, WRONG)
            self.assertTrue(0.99 < seconds < SLOW, seconds)
        told = self.here.wait_event("guessing-slowed", what=SLOWED)
        self.assertEqual((told["failures"], told["seconds"]), (4, 0.5))
        ((reply, seconds),) = self.guess(1, SLOWED)
        self.assertTrue(1.49 < seconds < SLOW, seconds)
        failed = self.here.events("sign-in-failed")[-1]
        self.assertEqual(
            (failed["client"], failed["name"], failed["reason"]), (SLOWED, "joe@here.test", "wrong-password")
        )
        self.assertTrue(1.4 < failed["seconds"] < SLOW, failed)

    def test_guessing(self) -> None:
        """An address that guesses much is told 454 and when to come back; the owner elsewhere notices nothing of it."""
        name = "demo@here.test"
        self.assertEqual(self.session(source=OWNER).plain(name, PASSWORD), SIGNED_IN)
        guessing = threading.Thread(target=self.guess, args=(24, GUESSER, name), daemon=True)
        guessing.start()
        longest = 0.0
        while guessing.is_alive():
            began = time.monotonic()
            self.assertEqual(self.session(source=OWNER).plain(name, PASSWORD), SIGNED_IN)
            longest = max(longest, time.monotonic() - began)
        self.assertLess(longest, UNNOTICED)
        self.here.wait_event("guessing-slowed", what=GUESSER)
        self.here.wait_event("guessing-slowed", what=name)
        session = self.session(source=GUESSER)
        began = time.monotonic()
        reply = session.plain(name, PASSWORD)
        self.assertLess(time.monotonic() - began, UNNOTICED)
        said = re.fullmatch(
            r"454 4\.7\.0 Too many wrong passwords from your address; wait (\d+) seconds and try again", reply
        )
        self.assertTrue(said, reply)
        self.here.wait_event("sign-in-failed", client=GUESSER, reason="too-many-guesses")
        ((reply, seconds),) = self.at_once([partial(Session.plain, name=name, password=PASSWORD)], OWNER)
        self.assertEqual(reply, SIGNED_IN)
        self.assertLess(seconds, UNNOTICED)


#: What systems of before kept of passwords; OpenSSL and bcrypt made them.
OLDER = {
    "ssha": ("older ssha", "{SSHA}0fe9KuDyGg7bTUkH5Q0fVWRWJ1FzYWx0c2FsdA=="),
    "six": (
        "older six",
        "$6$abcdefgh$gONibfqV7PE3Ii2.Tmz/9N99hsnRg5fAiZY0Tinr6cVECm5kUv1LcE5jPxXxDg8f14w8ODK3Sy79XmHxyOGwi/",
    ),
    "two": ("older two b", "$2b$06$wBhPXbNsqOTZqP6pld31QOTUNr0oHsrlHQ/LQc5P.556BHMB9B1vG"),
}
FAST = "[authentication]\nanswer_time = 0.1\ndelay_max = 0.1\n"


class OtherTest(SessionTest):
    """Nodes whose accounts come from elsewhere."""

    def start(self, tables: str) -> SecureNode:
        """A node of this test."""
        self.here = SecureNode(tables=tables)
        self.addCleanup(self.here.close)
        self.here.start()
        return self.here

    def test_older_hashes(self) -> None:
        """Accounts with the hashes of other systems sign in; then their hashes are made anew, and SCRAM is offered."""
        here = self.start(
            "".join(
                f"[[account]]\naddress = \"{who}@here.test\"\npassword = '{kept}'\n" for who, (_, kept) in OLDER.items()
            )
            + FAST
        )
        self.assertFalse([one for one in self.session().mechanisms if one.startswith("SCRAM")])
        for who, (password, _) in OLDER.items():
            self.refused(f"{who}@here.test", password + "!")
            self.signs_in(f"{who}@here.test", password)
        for who in OLDER:
            event = here.wait_event("password-upgraded", account=f"{who}@here.test")
            self.assertTrue(event["words"])
        wait_for(lambda: "SCRAM-SHA-256" in self.session().mechanisms, "SCRAM being offered")
        for who, (password, _) in OLDER.items():
            self.assertEqual(self.session().scram(f"{who}@here.test", password), SIGNED_IN)
        self.assertEqual(here.stop(), 0)
        here.start()
        self.assertIn("SCRAM-SHA-256", self.session().mechanisms)
        for who, (password, _) in OLDER.items():
            self.signs_in(f"{who}@here.test", password)

    def test_hash(self) -> None:
        """What ``account hash`` prints goes into the settings, and after SIGHUP the account signs in, also by SCRAM."""
        here = self.start(FAST)
        lines = command(here, "account", "hash", given="hashed by hand")
        with open(here.config, "a", encoding="utf-8") as config:
            config.write(f'[[account]]\naddress = "hand@here.test"\n{lines}')
        self.refused("hand@here.test", "hashed by hand")
        here.command("reload")
        self.signs_in("hand@here.test", "hashed by hand")
        self.assertEqual(self.session().scram("hand@here.test", "hashed by hand"), SIGNED_IN)

    def test_twisted_checker(self) -> None:
        """A checker of Twisted knows the passwords: by whole address, and by the name without the domain."""
        file = Path(self.mktemp()).absolute()
        file.write_text("joe@here.test:joe of the file\nann:ann of the file\nghost:nobody here\n", "ascii")
        here = self.start(f'{FAST}checkers = ["accounts", "file:{file}"]\n')
        self.assertEqual([one for one in self.session().mechanisms if one.startswith("SCRAM")], [])
        self.signs_in("joe@here.test", "joe of the file").must("MAIL FROM:<joe@here.test>")
        self.signs_in("ann@here.test", "ann of the file")
        self.signs_in("ann@here.test", PASSWORD)
        self.refused("joe@here.test", "ann of the file")
        self.refused("ghost", "nobody here")
        here.wait_event("signed-in", account="joe@here.test", mechanism="PLAIN")
