"""The examples do what they say, and are installed the way they say."""

from __future__ import annotations

import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from examples import policy_greylist
from examples.policy_greylist import Greylist
from tests.interop.mails import plain
from tests.interop.node import NodeTest, wait_for
from tests.interop.wire import Client
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.plugins import policies
from twisted_mail_node.policy.verdict import Asked, Refuse
from twisted_mail_node.settings import PolicySettings

EXAMPLES = Path(__file__).parents[1] / "examples"
JOE = Address("joe", "here.test")


class GreylistTest(SynchronousTestCase):
    """examples/policy_greylist.py."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.policy = Greylist(300, self.clock.seconds)

    def ask(self, client: str = "192.0.2.1", sender: Address | None = None, **more: Any) -> bool:
        """Whether a recipient is refused for now."""
        asked = Asked("s1", more.pop("listener", "mx"), client, reverse_path=sender, forward_path=JOE, **more)
        asking: Coroutine[Deferred[Any], Any, Any] = self.policy.rcpt(asked)
        verdict = self.successResultOf(Deferred.fromCoroutine(asking))
        if verdict is None:
            return False
        assert isinstance(verdict, Refuse)
        self.assertEqual((verdict.reply.code, verdict.reply.enhanced), (451, "4.7.1"))
        return True

    def test_again(self) -> None:
        """Who is new waits; who comes again later is let in, and stays so."""
        self.assertTrue(self.ask())
        self.clock.advance(299)
        self.assertTrue(self.ask())
        self.clock.advance(1)
        self.assertFalse(self.ask())
        self.assertFalse(self.ask())

    def test_each(self) -> None:
        """Another client, and another sender, are new; an IPv6 network is one client."""
        self.assertTrue(self.ask(client="2001:db8::1"))
        self.clock.advance(300)
        self.assertFalse(self.ask(client="2001:db8::2"))
        self.assertTrue(self.ask(client="2001:db8:1::1"))
        self.assertTrue(self.ask(client="2001:db8::1", sender=Address("a", "b.test")))

    def test_not_asked(self) -> None:
        """Our own people never wait."""
        self.assertFalse(self.ask(may_relay=True))
        self.assertFalse(self.ask(listener="submission"))

    def test_bound(self) -> None:
        """The memory is bounded: the longest unseen are forgotten."""
        self.patch(policy_greylist, "KNOWN_MAX", 2)
        for number in range(3):
            self.assertTrue(self.ask(client=f"192.0.2.{number}"))
        self.clock.advance(300)
        self.assertEqual([self.ask(client=f"192.0.2.{number}") for number in (2, 1, 0)], [False, False, True])

    def test_options(self) -> None:
        """The settings name it with its option; a wrong option is refused in a sentence that names the table."""
        makers = [policy_greylist.greylist]
        (made,) = policies([PolicySettings(name="greylist", options={"wait": 5})], lambda: makers)
        self.assertIsInstance(made, Greylist)
        for options in ({"wiat": 5}, {"wait": -1}, {"wait": "long"}):
            with self.subTest(options=options), self.assertRaisesRegex(ValueError, r"policy\[1\] \(greylist\): .*wait"):
                policies([PolicySettings(name="greylist", options=options)], lambda: makers)


class InstalledTest(NodeTest):
    """A policy in a real node."""

    def test_greylist(self) -> None:
        """Copied to a folder twisted/plugins on the path and named in the settings, it decides about mail."""
        here = self.node(tables='[[policy]]\nname = "greylist"\nwait = 1\n')
        folder = here.place / "plugins" / "twisted" / "plugins"
        folder.mkdir(parents=True)
        shutil.copy(EXAMPLES / "policy_greylist.py", folder)
        here.start(environment={"PYTHONPATH": str(here.place / "plugins")})
        with Client(here.port) as client:
            client.must("MAIL FROM:<a@b.test>")
            self.assertRegex(client.ask("RCPT TO:<joe@here.test>"), "^451 4.7.1 You are new here")
            event = here.wait_event("recipient-refused", recipient="joe@here.test")
            self.assertEqual(event["reason"], "policy")

            def later() -> bool:
                return client.ask("RCPT TO:<joe@here.test>").startswith("250")

            wait_for(later, "a yes after a second")
            self.assertTrue(client.data(plain("patient")).startswith("250"))
        here.wait_mail("joe", having=b"patient")

    def test_not_installed(self) -> None:
        """A policy that is not installed is an error at the start: nothing is let in that it should have seen."""
        here = self.node(tables='[[policy]]\nname = "greylisting"\n')
        process = here.launch()
        self.assertEqual(process.wait(30), 1)
        self.assertIn("no policy 'greylisting' is installed", process.err)
        self.assertIn("no policy 'greylisting' is installed", here.command("check-config", code=2))
