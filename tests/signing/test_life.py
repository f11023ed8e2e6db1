"""Tests of the life of a key, as values and as it is written down."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.signing.life import (
    FORGET_AFTER,
    KEYS_MAX,
    FormError,
    Key,
    KeyState,
    activated,
    aged,
    in_state,
    is_selector,
    publishing,
    retired,
    understood,
    with_new,
    written,
)


def key(selector: str, state: KeyState = KeyState.NEW, since: float = 0.0, **more: object) -> Key:
    """A key."""
    made = Key(selector, "ed25519-sha256", 256, "v=DKIM1; k=ed25519; p=AAAA", state, 0.0, since)
    return made._replace(**more)  # type: ignore[arg-type]


class LifeTest(SynchronousTestCase):
    """From new to forgotten."""

    def test_replaces(self) -> None:
        """A key that becomes active retires those that it replaces, and no other."""
        before = (key("a", KeyState.ACTIVE), key("b", KeyState.ACTIVE), key("c", replaces=("a", "gone")))
        after = activated(before, "c", 5.0)
        self.assertEqual([one.state for one in after], [KeyState.RETIRING, KeyState.ACTIVE, KeyState.ACTIVE])
        self.assertEqual([one.since for one in after], [5.0, 0.0, 5.0])

    def test_activated_once(self) -> None:
        """Only a new key becomes active: one that was given up meanwhile stays so."""
        before = (key("a", KeyState.RETIRED), key("b", KeyState.RETIRING), key("c", KeyState.ACTIVE))
        for selector in ("a", "b", "c", "none"):
            self.assertIs(activated(before, selector, 5.0), before)

    def test_retired(self) -> None:
        """An active key first retires, a new one is gone at once; both at once where that is wanted."""
        before = (key("a", KeyState.ACTIVE), key("b"))
        self.assertEqual(retired(before, "a", 5.0)[0].state, KeyState.RETIRING)
        self.assertEqual(retired(before, "a", 5.0, at_once=True)[0].state, KeyState.RETIRED)
        self.assertEqual(retired(before, "b", 5.0)[1].state, KeyState.RETIRED)
        leaving = (key("a", KeyState.RETIRING),)
        self.assertEqual(retired(leaving, "a", 5.0, at_once=True)[0], key("a", KeyState.RETIRED, 5.0))

    def test_not_retired(self) -> None:
        """What cannot be retired is a sentence that helps."""
        keys = (key("a", KeyState.RETIRING), key("b", KeyState.RETIRED))
        for selector, words in (("a", "with --now"), ("b", "retired already"), ("c", "there are: a, b")):
            with self.assertRaisesRegex(ValueError, words):
                retired(keys, selector, 5.0)

    def test_aged(self) -> None:
        """A retiring key is retired when its time is over, and a retired one forgotten; neither earlier."""
        keys = (key("a", KeyState.RETIRING, 100.0), key("b", KeyState.ACTIVE), key("c"))
        self.assertEqual(aged(keys, 109.0, 10.0), keys)
        self.assertEqual(aged(keys, 110.0, 10.0)[0], key("a", KeyState.RETIRED, 110.0))
        self.assertEqual(aged(keys, 1e12, 10.0)[1:], keys[1:])
        gone = (key("a", KeyState.RETIRED, 100.0), key("b", KeyState.RETIRED, 100.0, published=True))
        self.assertEqual(aged(gone, 99.0 + FORGET_AFTER, 10.0), gone)
        # A record that the node itself must still take out is not forgotten.
        self.assertEqual(aged(gone, 100.0 + FORGET_AFTER, 10.0), gone[1:])
        self.assertEqual(aged(publishing(gone, "b", False), 100.0 + FORGET_AFTER, 10.0), ())

    def test_with_new(self) -> None:
        """No selector is there twice, not even that of a retired key, whose record may be cached; and there are not
        too many."""
        keys = (key("a", KeyState.RETIRED),)
        with self.assertRaisesRegex(ValueError, "there is a key a already; it is retired"):
            with_new(keys, [key("b"), key("a")])
        many = tuple(key(f"k{number}") for number in range(KEYS_MAX))
        with self.assertRaisesRegex(ValueError, f"at most {KEYS_MAX}"):
            with_new(many, [key("a")])

    @settings(max_examples=200)
    @given(st.lists(st.tuples(st.sampled_from(["new", "up", "retire", "kill", "age"]), st.integers(0, 5)), max_size=40))
    def test_any_order(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is done in whatever order, states only go forward, and nobody but a retired key is forgotten."""
        order = list(KeyState)
        keys: tuple[Key, ...] = ()
        now = 0.0
        for number, (what, which) in enumerate(steps):
            now += 1.0
            before = {one.selector: one.state for one in keys}
            selector = keys[which % len(keys)].selector if keys else "none"
            try:
                if what == "new":
                    active = tuple(one.selector for one in in_state(keys, KeyState.ACTIVE))
                    keys = with_new(keys, [key(f"s{number}", since=now, replaces=active)])
                elif what == "up":
                    keys = activated(keys, selector, now)
                elif what == "age":
                    now += FORGET_AFTER / 2
                    keys = aged(keys, now, 10.0)
                else:
                    keys = retired(keys, selector, now, at_once=what == "kill")
            except ValueError:
                continue
            after = {one.selector: one.state for one in keys}
            for name, state in before.items():
                self.assertLessEqual(order.index(state), order.index(after.get(name, KeyState.RETIRED)))
                if name not in after:
                    self.assertIs(state, KeyState.RETIRED)
            self.assertEqual(understood(written(keys)), keys)


class FormTest(SynchronousTestCase):
    """What is written down."""

    def test_wrong(self) -> None:
        """What cannot be understood is a FormError, never another exception."""
        good = json.loads(written((key("a"),)))
        for octets in (
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b"[" * 100_000,
            json.dumps({"version": 2, "keys": []}).encode(),
            json.dumps({"version": 1, "keys": [5]}).encode(),
            json.dumps({"version": 1, "keys": good["keys"] * 2}).encode(),
            *(
                json.dumps({"version": 1, "keys": [good["keys"][0] | change]}).encode()
                for change in (
                    {"selector": "../a"},
                    {"selector": "a/b"},
                    {"selector": None},
                    {"state": "odd"},
                    {"bits": None},
                    {"since": "x"},
                    {"created": float("nan")},
                    {"algorithm": "rsa-sha1"},
                    {"replaces": 5},
                )
            ),
        ):
            with self.subTest(octets=octets[:80]):
                self.assertRaises(FormError, understood, octets)

    @given(st.binary(max_size=200))
    def test_any(self, octets: bytes) -> None:
        """Any octets are keys or a FormError."""
        try:
            understood(octets)
        except FormError:
            pass

    def test_selectors(self) -> None:
        """A selector is sub-domains in lower case (RFC 6376 section 3.1), and never a path."""
        for good in ("a", "20261128r", "20261128-2r", "a.b", "x" * 63):
            self.assertTrue(is_selector(good), good)
        for bad in ("", ".", "..", "a.", ".a", "a..b", "-a", "a-", "a/b", "A", "a_b", "ä", "a\n", "a\0", "x" * 64):
            self.assertFalse(is_selector(bad), bad)
