"""What the node itself knows of the records a domain of its should publish: names, addresses, ports, keys.

Reads the settings and the disk, and asks nobody. Everything here blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twisted_mail_node.net.tls_files import read_chain, sources
from twisted_mail_node.net.tls_names import UNREADABLE, look_up, names_of
from twisted_mail_node.net.tls_selfsigned import FILE_NAME
from twisted_mail_node.outbound.sources import DEFAULT
from twisted_mail_node.settings import Listener, Settings
from twisted_mail_node.settings_endpoint import parts
from twisted_mail_node.signing.files import KeyFileError, KeyFiles
from twisted_mail_node.signing.keys import signing_domains
from twisted_mail_node.signing.life import KeyState, in_state
from twisted_mail_node.signing.record import owner

#: Ports of submission (RFC 6409, RFC 8314), for listeners that get a socket from elsewhere.
PORTS = {"submission": 587, "submissions": 465}
_KINDS = (
    (ec.EllipticCurvePublicKey, "ECDSA"),
    (rsa.RSAPublicKey, "RSA"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (ed448.Ed448PublicKey, "Ed448"),
)


class Host(NamedTuple):
    """A name that EHLO says, and the public addresses we connect from under it."""

    name: str
    addresses: tuple[str, ...] = ()


class Service(NamedTuple):
    """A service for mail programs: ``submission`` or ``submissions``. ``outside``: not on loopback alone."""

    name: str
    port: int
    outside: bool = True


class Key(NamedTuple):
    """A key that signs mail of ``domain`` (DKIM). ``text``: its TXT record; ``algorithm``: what it signs with."""

    domain: str
    selector: str
    state: str
    text: str
    algorithm: str = "rsa-sha256"

    @property
    def owner(self) -> str:
        """Where its record stands."""
        return owner(self.selector, self.domain)


class Served(NamedTuple):
    """A certificate that a client gets who asks for the host name.

    :ivar kind: the kind of its key. :ivar digest: SHA-256 of its SubjectPublicKeyInfo.
    :ivar verifiable: it is for the host name, and another than itself signed it.
    """

    kind: str
    digest: bytes
    verifiable: bool
    chain: tuple[x509.Certificate, ...] = ()


class Facts(NamedTuple):
    """All of it, for one domain.

    :ivar domain: in A-labels.
    :ivar local: all local domains.
    :ivar receives: public addresses of this machine where mail can come in; none: not known, as behind NAT or a load
        balancer.
    :ivar hosts: what EHLO says; the host name is the first.
    :ivar keys: those of the domain, and of the host name where that is no local domain, for it is whom DSNs are from.
    :ivar signer: the local domain above with whose keys mail is signed, where the domain has none that sign.
    :ivar served: certificates for the host name, one for each kind of key.
    :ivar relayhost: where all mail of the domain goes out by a route; ``""``: it goes by MX.
    :ivar problems: what could not be read.
    """

    domain: str
    hostname: str
    local: frozenset[str] = frozenset()
    receives: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = ()
    services: tuple[Service, ...] = ()
    keys: tuple[Key, ...] = ()
    signer: str = ""
    served: tuple[Served, ...] = ()
    relayhost: str = ""
    problems: tuple[str, ...] = ()

    @property
    def verifiable(self) -> bool:
        """Whether others can verify the host's certificates, as MTA-STS makes them."""
        return bool(self.served) and all(one.verifiable for one in self.served)

    def holds(self, name: str) -> bool:
        """Whether a name lies in the domain."""
        return name == self.domain or name.endswith(f".{self.domain}")


def local_domains(settings: Settings) -> list[str]:
    """The local domains in their order; those that have records: no address literals."""
    names = [domain.name for domain in settings.domains] or [settings.hostname]
    return [name for name in names if not name.startswith("[")]


def facts_of(settings: Settings, domain: str, own: Collection[str], now: float) -> Facts:
    """What is known for a domain.

    :param own: the addresses of this machine. :param now: seconds since the epoch.
    """
    problems: list[str] = []
    served = tuple(_served(settings, now, problems))
    local = local_domains(settings)
    keys = _keys(settings, domain, problems)
    signer = "" if _sign(keys) else _signer(settings, domain, problems)
    if settings.hostname not in local and not settings.hostname.startswith("["):
        keys += _keys(settings, settings.hostname, problems)
    return Facts(
        domain=domain,
        hostname=settings.hostname,
        local=frozenset(local),
        receives=public(_receives(settings.listeners, own)),
        hosts=tuple(_hosts(settings, own)),
        services=tuple(_services(settings.listeners)),
        keys=keys,
        signer=signer,
        served=served,
        relayhost=next(
            (
                rule.next_hop
                for rule in settings.routes
                if rule.domain == "*" and rule.next_hop and not rule.senders and not rule.accounts
            ),
            "",
        ),
        problems=tuple(problems),
    )


def public(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those that everybody can reach, IPv4 first."""
    found = {ip_address(address) for address in addresses}
    return tuple(str(one) for one in sorted(found, key=lambda one: (one.version, int(one))) if one.is_global)


def _receives(listeners: Sequence[Listener], own: Collection[str]) -> Iterator[str]:
    """Where mail can come in. Behind a load balancer others see only its address."""
    if any(listener.kind == "mx" and listener.proxy_from for listener in listeners):
        return
    for listener in listeners:
        kind, given = parts(listener.endpoint)
        if listener.kind != "mx" or kind == "unix" or given.get("domain") == "UNIX":
            continue
        interface = given.get("interface", "")
        if interface not in ("", "0.0.0.0", "::"):
            yield interface
        elif kind == "tcp":
            yield from (address for address in own if ":" not in address)
        else:  # a socket of tcp6, and one of systemd, takes IPv4 as well where the system is as it comes
            yield from own


def _hosts(settings: Settings, own: Collection[str]) -> Iterator[Host]:
    """Names of EHLO with their addresses. Where no pool is ``default`` the system chooses among its own."""
    names: dict[str, list[str]] = {settings.hostname: []}
    for source in settings.sources:
        names.setdefault(source.hostname or settings.hostname, []).append(source.address)
    if not any(source.pool == DEFAULT for source in settings.sources):
        names[settings.hostname] += own
    for name, addresses in names.items():
        if not name.startswith("["):
            yield Host(name, public(addresses))


def _services(listeners: Iterable[Listener]) -> Iterator[Service]:
    """Where mail programs hand in; of several listeners the first that others reach."""
    found: dict[str, Service] = {}
    for listener in listeners:
        name = {"implicit": "submissions", "starttls": "submission"}.get(listener.tls, "")
        if listener.kind != "submission" or not name:
            continue
        kind, given = parts(listener.endpoint)
        port = int(given["port"]) if kind in ("tcp", "tcp6") else PORTS[name]
        interface = given.get("interface", "") if kind in ("tcp", "tcp6") else ""
        outside = not interface or not ip_address(interface).is_loopback
        if port and (name not in found or (outside and not found[name].outside)):
            found[name] = Service(name, port, outside)
    yield from found.values()


def _keys(settings: Settings, domain: str, problems: list[str]) -> tuple[Key, ...]:
    """Keys that sign for a domain, those that will, and those that did so lately."""
    try:
        found = KeyFiles(settings.state_dir).read(domain)
    except KeyFileError as error:
        problems.append(str(error))
        return ()
    live = in_state(found, KeyState.ACTIVE, KeyState.NEW, KeyState.RETIRING)
    return tuple(Key(domain, key.selector, str(key.state), key.record, key.algorithm) for key in live)


def _sign(keys: Iterable[Key]) -> bool:
    return any(key.state == KeyState.ACTIVE for key in keys)


def _signer(settings: Settings, domain: str, problems: list[str]) -> str:
    """The nearest of our domains above that has keys that sign, as ``signing.keys`` chooses it."""
    ours = signing_domains(settings)
    while domain := domain.partition(".")[2]:
        if domain in ours and _sign(_keys(settings, domain, problems)):
            return domain
    return ""


def _served(settings: Settings, now: float, problems: list[str]) -> Iterator[Served]:
    """The certificates of the host name, chosen as ``net.certificates`` and ``net.tls_contexts`` do. No key is read:
    whoever runs the command may not be the node's user."""
    found, incomplete = sources(settings)
    problems += incomplete
    chains: list[tuple[tuple[bool, bool, float], tuple[x509.Certificate, ...]]] = []
    for source in found:
        chain = _chain(source.chain, problems)
        if chain:
            ends = chain[0].not_valid_after_utc.timestamp()
            chains.append(((ends <= now, not source.named, 0.0 if source.named else -ends), chain))
    path = settings.state_dir / FILE_NAME
    if not chains and path.exists():
        chain = _chain(path, problems)
        if chain:
            chains.append(((False, True, 0.0), chain))
    chains.sort(key=lambda one: one[0])
    named: dict[str, dict[str, tuple[x509.Certificate, ...]]] = {}
    for _, chain in chains:
        for name in names_of(chain[0]):
            named.setdefault(name, {}).setdefault(_kind(chain[0]), chain)
    chosen = look_up(settings.hostname, named)
    shown = chosen or {_kind(chain[0]): chain for _, chain in chains[:1]}
    for kind, chain in sorted(shown.items(), key=lambda one: one[0]):
        try:
            octets = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except UNREADABLE:
            problems.append(f"the public key of a certificate for {settings.hostname} cannot be read")
            continue
        signed = chain[0].issuer != chain[0].subject
        yield Served(kind, sha256(octets).digest(), signed and chosen is not None, chain)


def _chain(path: Path, problems: list[str]) -> tuple[x509.Certificate, ...]:
    try:
        return read_chain(path)
    except ValueError as error:
        problems.append(str(error))
        return ()


def _kind(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except UNREADABLE:
        return ""
    return next((kind for wanted, kind in _KINDS if isinstance(key, wanted)), "")
