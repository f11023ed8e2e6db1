"""Tests of twisted_mail_node.policy.plugins."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mail_node.interfaces import IPolicy, IPolicyMaker
from twisted_mail_node.policy.plugins import installed, policies
from twisted_mail_node.policy.verdict import Policy
from twisted_mail_node.settings import PolicySettings


@implementer(IPolicyMaker)
class Maker:
    """Makes policies that know their options."""

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, options: dict[str, object]) -> IPolicy:
        if "colour" in options:
            raise ValueError("colour is no option")
        policy = Policy()
        policy.name = f"{self.name} {options}"
        options["changed"] = True
        return policy


class PoliciesTests(SynchronousTestCase):
    """Policies named in the settings."""

    def make(self, *wanted: PolicySettings) -> list[str]:
        """The names of what is made."""
        return [policy.name for policy in policies(wanted, lambda: [Maker("greylist"), Maker("helo-check")])]

    def test_order(self) -> None:
        """They are made in the settings' order, also twice, with options of their own."""
        settings = PolicySettings(name="greylist", options={"a": 1})
        self.assertEqual(
            self.make(PolicySettings(name="helo-check"), settings, settings),
            ["helo-check {}", "greylist {'a': 1}", "greylist {'a': 1}"],
        )
        self.assertEqual(settings.options, {"a": 1})

    def test_none_wanted(self) -> None:
        """Where none is named, plug-ins are not even looked for."""
        self.assertEqual(policies([], lambda: self.fail("looked")), [])

    def test_unknown(self) -> None:
        """A name nobody has: which, what there is, and what was meant perhaps."""
        error = self.assertRaises(ValueError, self.make, PolicySettings(name="greylst"))
        self.assertEqual(
            str(error),
            "policy[1].name: no policy 'greylst' is installed (installed: greylist, helo-check); "
            "did you mean 'greylist'?",
        )
        self.assertIn("none", str(self.assertRaises(ValueError, policies, [PolicySettings(name="x")], list)))

    def test_wrong_option(self) -> None:
        """A wrong option is told with the policy's place."""
        wanted = (PolicySettings(name="helo-check"), PolicySettings(name="greylist", options={"colour": "red"}))
        error = self.assertRaises(ValueError, self.make, *wanted)
        self.assertEqual(str(error), "policy[2] (greylist): colour is no option")

    def test_installed(self) -> None:
        """Those that are installed have a name and can make policies."""
        for maker in installed():
            self.assertTrue(IPolicyMaker.providedBy(maker))
            self.assertTrue(maker.name)
        self.assertIsNotNone(installed())
