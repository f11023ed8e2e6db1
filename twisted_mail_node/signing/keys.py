"""The keys that sign now, loaded: who asks gets them from memory (RFC 6376 section 5.1).

A domain signs with its own keys. A local domain that has none, and the host name, sign with those of the nearest local
domain above that has: ``d=`` is then the organizational domain's, aligned in DMARC's relaxed mode.

Private keys are loaded at the start, and when ``keys.json`` of a domain has changed; those that stay are not loaded
again, for an RSA key takes 30 ms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.message.address import domain_key
from twisted_mail_node.settings import Settings
from twisted_mail_node.signing.files import KeyFileError, KeyFiles, Stamp
from twisted_mail_node.signing.life import KeyState, in_state

Loaded = tuple[SigningKey, ...]


class Ring(NamedTuple):
    """What was loaded of the disk.

    :ivar own: each domain that has active keys, and these; RSA first.
    :ivar stamps: each domain's ``keys.json`` as it was then.
    """

    own: Mapping[str, Loaded]
    stamps: Mapping[str, Stamp]


_EMPTY = Ring({}, {})


class SigningKeys:
    """The loaded keys of the local domains.

    :ivar domains: who may have keys, in look-up spelling: the local domains, and the host name.
    """

    def __init__(self, settings: Settings, files: KeyFiles | None = None) -> None:
        self.files = files or KeyFiles(settings.state_dir)
        self._ring = _EMPTY
        self._signers: dict[str, Loaded] = {}
        self.domains: tuple[str, ...] = ()
        self._enabled = True
        self.configure(settings, _EMPTY)

    @classmethod
    def loaded(cls, settings: Settings) -> SigningKeys:
        """With the keys on the disk. Blocks.

        :raises ValueError: see ``load``.
        """
        keys = cls(settings)
        keys.use(keys.load(keys.domains))
        return keys

    def __bool__(self) -> bool:
        """Whether any mail is signed."""
        return self._enabled and bool(self._signers)

    def of(self, domain: str) -> Loaded:
        """What mail of this author's domain is signed with; nothing for a domain that is not ours or has no keys."""
        if not self._enabled:
            return ()
        return self._signers.get(domain) or self._signers.get(_key(domain), ())

    def sealing(self, domain: str) -> SigningKey | None:
        """What a seal in the name of this domain is made with: an RSA key (RFC 8617 section 4.1.2), whether or not
        mail is signed; ``None`` where there is none."""
        keys = self._signers.get(domain) or self._signers.get(_key(domain), ())
        return next((key for key in keys if key.algorithm == "rsa-sha256"), None)

    # ---- loading -----------------------------------------------------------------------------------------------

    def load(self, domains: Collection[str]) -> Ring:
        """The active keys of these domains. Blocks; may run in a thread. Nothing changes until ``use``.

        :raises KeyFileError: one cannot be read, or others may read it, or it is not what its record says.
        """
        before = {(key.domain, key.selector): key for keys in self._ring.own.values() for key in keys}
        own: dict[str, Loaded] = {}
        stamps: dict[str, Stamp] = {}
        for domain in domains:
            stamps[domain] = self.files.stamp(domain)
            if stamps[domain] is None:
                continue
            found: list[SigningKey] = []
            for one in in_state(self.files.read(domain), KeyState.ACTIVE):
                key = before.get((domain, one.selector))
                if key is None or key.public_record() != one.record:
                    key = self._load(domain, one.selector)
                if key.public_record() != one.record:
                    raise KeyFileError(
                        f"{self.files.place(domain) / one.selector}.pem is not the key whose record was published; "
                        f"bring it back, or say: mailnode dkim retire {domain} {one.selector}"
                    )
                found.append(key)
            if found:
                own[domain] = tuple(sorted(found, key=lambda key: (key.algorithm != "rsa-sha256", key.selector)))
        return Ring(own, stamps)

    def _load(self, domain: str, selector: str) -> SigningKey:
        pem = self.files.private_key(domain, selector)
        try:
            return SigningKey.load(pem, domain, selector)
        except ValueError as error:
            raise KeyFileError(f"{self.files.place(domain) / selector}.pem: {error}") from None

    def use(self, ring: Ring) -> None:
        """Sign with these from now on."""
        self._ring = ring
        self._signers = {name: keys for name in self.domains if (keys := _nearest(name, ring.own))}

    def configure(self, settings: Settings, ring: Ring) -> None:
        """Let other settings be in force.

        :param ring: loaded for their domains.
        """
        self._enabled = settings.dkim.enabled
        self.domains = signing_domains(settings)
        self.use(ring)

    def stale(self) -> bool:
        """Whether something on the disk is not what was loaded. Looks at one file a domain."""
        return any(self._ring.stamps.get(domain) != self.files.stamp(domain) for domain in self.domains)


def signing_domains(settings: Settings) -> tuple[str, ...]:
    """Who may have keys, in look-up spelling: the local domains, and the host name, which is the author of DSNs and of
    reports."""
    names: Iterable[str] = (*(domain.name for domain in settings.domains), settings.hostname)
    return tuple(dict.fromkeys(domain_key(name) for name in names if not name.startswith("[")))


def _nearest(name: str, own: Mapping[str, Loaded]) -> Loaded:
    """The keys of a domain, or of the nearest of ours above it that has some."""
    while name:
        if name in own:
            return own[name]
        name = name.partition(".")[2]
    return ()


def _key(domain: str) -> str:
    try:
        return domain_key(domain)
    except ValueError:
        return ""
