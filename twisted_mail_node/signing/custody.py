"""What operators order about keys: make, replace, retire, list. Blocks; it asks and tells nobody but the disk.

A command uses it directly while the node is down; the node uses it in a thread (``signing.rotation``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.settings import Settings
from twisted_mail_node.settings_problems import did_you_mean
from twisted_mail_node.signing.files import KeyFiles
from twisted_mail_node.signing.keys import signing_domains
from twisted_mail_node.signing.life import Key, Keys, KeyState, Kind, activated, in_state, retired
from twisted_mail_node.signing.making import BITS, Wish, made, selectors
from twisted_mail_node.signing.record import owner, zone_line

KINDS: tuple[Kind, ...] = ("rsa", "ed25519")

#: How alike domains are of which one is probably meant: all of a top level domain are alike at their ends.
NEAR = 0.8


class Changed(NamedTuple):
    """What an order did to the keys of a domain."""

    domain: str
    before: Keys
    after: Keys

    @property
    def made(self) -> Keys:
        """The new ones."""
        there = {key.selector for key in self.before}
        return tuple(key for key in self.after if key.selector not in there)

    @property
    def touched(self) -> Keys:
        """Those that are not as they were, as they are now."""
        return tuple(key for key in self.after if key not in self.before)


class Custody:
    """The keys of a node, on the disk.

    :param settings: whose domains may have keys.
    :param now: seconds since the epoch.
    """

    def __init__(self, settings: Settings, files: KeyFiles, now: Callable[[], float]) -> None:
        self._domains = signing_domains(settings)
        self._retire_after = settings.dkim.retire_after
        self._files = files
        self._now = now

    def create(
        self, domain: str, kinds: Sequence[Kind] = KINDS, *, selector: str = "", bits: int = BITS, at_once: bool = False
    ) -> Changed:
        """New keys, beside those that are there.

        :param selector: what they are called; ``""``: by the day.
        :param at_once: they sign from now on, whatever the DNS shows.
        :raises ValueError: the domain is not local, there is such a selector already, it cannot be written …
        """
        name = self.local(domain)
        chosen = selectors(kinds, self._files.taken(name), self._now(), selector)
        wishes = [Wish(kind, one, bits) for kind, one in zip(kinds, chosen, strict=True)]
        return self._make(name, wishes, at_once)

    def rotate(self, domain: str, *, bits: int = BITS, at_once: bool = False) -> Changed:
        """New keys of the same kinds, which replace the active ones once their records are seen.

        :raises ValueError: nothing is to be replaced, or is being replaced already; see ``create``.
        """
        name = self.local(domain)
        keys = self._files.read(name)
        active = in_state(keys, KeyState.ACTIVE)
        if not active:
            raise ValueError(f"{name} has no active key to replace: mailnode dkim create {name}")
        waiting = [key.selector for key in in_state(keys, KeyState.NEW) if key.replaces]
        if waiting:
            wait = "waits for its record" if len(waiting) == 1 else "wait for their records"
            raise ValueError(
                f"the keys of {name} are being replaced already: {' and '.join(waiting)} {wait} to be seen; to give "
                f"that up: mailnode dkim retire {name} {' '.join(waiting)}"
            )
        kinds = [kind for kind in KINDS if any(key.kind == kind for key in active)]
        chosen = selectors(kinds, self._files.taken(name), self._now())
        wishes = []
        for kind, one in zip(kinds, chosen, strict=True):
            old = [key for key in active if key.kind == kind]
            most = max([bits, *(key.bits for key in old)]) if kind == "rsa" else bits
            wishes.append(Wish(kind, one, most, tuple(key.selector for key in old)))
        return self._make(name, wishes, at_once)

    def _make(self, domain: str, wishes: Sequence[Wish], at_once: bool) -> Changed:
        before = self._files.read(domain)
        after = self._files.add(domain, [made(domain, wish, self._now()) for wish in wishes])
        for wish in wishes if at_once else ():
            after = self.activate(domain, wish.selector).after
        return Changed(domain, before, after)

    def activate(self, domain: str, selector: str) -> Changed:
        """A new key signs from now on.

        :raises KeyFileError: it cannot be written, or its private key cannot be used; then the old ones go on.
        """
        self._files.private_key(domain, selector)
        return self.change(domain, lambda keys: activated(keys, selector, self._now()))

    def retire(self, domain: str, selector: str, *, at_once: bool = False) -> Changed:
        """A key signs no more; its record stays for a while. A new one is given up.

        :raises ValueError: there is none, or nothing is left to do; the domain is not local and has no keys.
        """
        name = self.local(domain, kept=True)
        return self.change(name, lambda keys: retired(keys, selector, self._now(), at_once=at_once))

    def change(self, domain: str, changed: Callable[[Keys], Keys]) -> Changed:
        """:raises KeyFileError: it cannot be written."""
        seen: list[Keys] = []

        def noted(keys: Keys) -> Keys:
            seen.append(keys)
            return changed(keys)

        after = self._files.change(domain, noted)
        return Changed(domain, seen[0], after)

    # ---- looking -----------------------------------------------------------------------------------------------

    def keys(self, domain: str = "") -> list[tuple[str, Key]]:
        """Every key of a domain, or of all that may have some, with its domain; domains in the order of the settings.

        :raises ValueError: the domain is not local.
        """
        domains = [self.local(domain, kept=True)] if domain else self._domains
        return [(name, key) for name in domains for key in self._files.read(name)]

    def shape(self, domain: str, key: Key) -> dict[str, Any]:
        """A key as JSON shows it."""
        retires = key.since + self._retire_after if key.state is KeyState.RETIRING else None
        return {
            "domain": domain,
            "selector": key.selector,
            "algorithm": key.algorithm,
            "bits": key.bits,
            "state": str(key.state),
            "created": key.created,
            "since": key.since,
            "retires": retires,
            "replaces": list(key.replaces),
            "published": key.published,
            "name": owner(key.selector, domain),
            "record": key.record,
            "zone": zone_line(key.selector, domain, key.record),
            "missing": None,
            "looked": None,
            "trouble": "",
        }

    def local(self, domain: str, *, kept: bool = False) -> str:
        """The look-up spelling of a domain that may have keys.

        :param kept: one that has some is enough, though it is not local any more.
        :raises ValueError: it may not.
        """
        try:
            name = domain_key(domain)
        except ValueError:
            name = ""
        if name in self._domains or (kept and self._files.stamp(name) is not None):
            return name
        near = did_you_mean(domain, self._domains, NEAR)
        hint = f"; {near}" if near else f"; local are: {', '.join(self._domains[:10]) or 'none'}"
        raise ValueError(f"{domain!a} is no local domain{hint}")
