"""Tests of following aliases: everybody once, no circles, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.aliases import TARGETS_MAX, Expansion, Step, expand
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_checks import ALIAS_DEPTH


def at(local_part: str) -> Address:
    """An address here."""
    return Address(local_part, "example.org")


class World:
    """Accounts and aliases by local-part."""

    def __init__(self, accounts: str, **aliases: str) -> None:
        self.accounts = set(accounts.split())
        self.aliases = {name: tuple(at(local) for local in to.split()) for name, to in aliases.items()}
        self.looks = 0

    def __call__(self, address: Address) -> Step | None:
        """What ``expand`` asks."""
        self.looks += 1
        name = address.local_part
        if name not in self.accounts and name not in self.aliases:
            return None
        mailbox = address if name in self.accounts else None
        return Step((address.domain, name), mailbox, self.aliases.get(name, ()))

    def names(self, start: str) -> list[str]:
        """The local-parts behind one."""
        return [address.local_part for address in expand(at(start), self).targets]


class ExpandTests(SynchronousTestCase):
    """What is behind an address."""

    def test_account(self) -> None:
        """Behind an account there is the account."""
        self.assertEqual(expand(at("joe"), World("joe")), Expansion((at("joe"),)))

    def test_nested_once(self) -> None:
        """Aliases lead through aliases; everybody gets one copy, in the order of the aliases."""
        world = World("a b c", all="x b y", x="a c", y="c a b", top="all x y all")
        self.assertEqual(world.names("top"), ["a", "c", "b"])

    def test_circle(self) -> None:
        """A circle gives nobody, and is told."""
        self.assertEqual(expand(at("a"), World("", a="b", b="c", c="a")), Expansion((), True))

    def test_circle_with_a_way_out(self) -> None:
        """Those beside the circle get their mail."""
        expansion = expand(at("a"), World("joe", a="b joe", b="a"))
        self.assertEqual(expansion, Expansion((at("joe"),), True))

    def test_copy(self) -> None:
        """An alias that leads back to its own account keeps a copy there."""
        self.assertEqual(World("joe ann", joe="joe ann").names("joe"), ["joe", "ann"])
        self.assertEqual(World("joe ann", joe="team ann", team="joe").names("joe"), ["joe", "ann"])
        self.assertEqual(World("joe ann", joe="ann").names("joe"), ["ann"])

    def test_missing(self) -> None:
        """Who does not exist is told; the others get their mail."""
        expansion = expand(at("a"), World("joe", a="nobody joe"))
        self.assertEqual(expansion, Expansion((at("joe"),), False, (at("nobody"),)))

    def test_depth(self) -> None:
        """Ten aliases deep is followed; deeper gives nobody at all rather than some."""
        chain = {f"a{n}": f"a{n + 1} joe" for n in range(ALIAS_DEPTH + 1)}
        world = World(f"joe a{ALIAS_DEPTH + 1}", **chain)
        self.assertEqual(len(world.names("a1")), 2)
        self.assertEqual(expand(at("a0"), world).targets, ())
        self.assertTrue(expand(at("a0"), world).looped)

    def test_width(self) -> None:
        """A thousand targets are reached; one more and it is nobody."""
        people = [f"p{n}" for n in range(TARGETS_MAX + 1)]
        world = World(" ".join(people), most=" ".join(people[:-1]), all="most " + people[-1])
        self.assertEqual(len(world.names("most")), TARGETS_MAX)
        self.assertEqual(expand(at("all"), world), Expansion((), True))

    def test_web(self) -> None:
        """T35: aliases that all name each other are each followed once."""
        names = [f"a{n}" for n in range(ALIAS_DEPTH)]
        world = World("joe", **{name: " ".join([*names, "joe"]) for name in names})
        self.assertEqual(world.names("a0"), ["joe"])
        self.assertLessEqual(world.looks, (ALIAS_DEPTH + 1) ** 2)

    @given(
        st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghxyz"), min_size=1, max_size=4))
    )
    def test_any_web(self, aliases: dict[str, list[str]]) -> None:
        """In any web, what is reached is exactly what can be reached."""
        world = World("x y z", **{name: " ".join(to) for name, to in aliases.items()})
        reached, waiting = set(), ["a"]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += aliases.get(name, [])
        self.assertEqual(set(world.names("a")), reached & set("xyz"))
