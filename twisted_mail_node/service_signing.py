"""What the node signs with: keys, their coming and going, and the queue's door where mail is signed. A part of the
composition root: built, started, reloaded and stopped by ``service``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted_mail_node.dns.transport import SocketTransport
from twisted_mail_node.events import Publish
from twisted_mail_node.interfaces import IMailQueue, IResolver
from twisted_mail_node.settings import Settings
from twisted_mail_node.signing.keys import Ring, SigningKeys, signing_domains
from twisted_mail_node.signing.publishing import Updates, updates_of
from twisted_mail_node.signing.queue import SignedQueue
from twisted_mail_node.signing.rotation import Rotation
from twisted_mail_node.signing.shown import NameServers


class KeysRead(NamedTuple):
    """What a reload needs of the disk, read before anything is changed."""

    ring: Ring
    updates: Updates | None


class Signing:
    """These parts.

    :ivar keys: what is signed with.
    :ivar rotation: makes, publishes, waits for, retires keys; what operators order.
    :raises ValueError: a key cannot be used, or the key of updates.
    """

    def __init__(self, settings: Settings, reactor: Any, publish: Publish, resolver: IResolver) -> None:
        self._settings = settings
        self._reactor = reactor
        self._publish = publish
        self.keys = SigningKeys.loaded(settings)
        self.rotation = Rotation(
            settings,
            self.keys,
            servers=NameServers.over(resolver, reactor),
            updates=self._updates(settings),
            reactor=reactor,
            publish=publish,
        )

    def queue(self, queue: IMailQueue, *, must: bool) -> SignedQueue:
        """The door to a queue where mail is signed.

        :param must: see ``SignedQueue``.
        """
        return SignedQueue(
            queue,
            self.keys,
            reactor=self._reactor,
            publish=self._publish,
            expires=lambda: self._settings.dkim.expires,
            must=must,
        )

    def read(self, settings: Settings) -> KeysRead:
        """What these settings need of the disk.

        :raises ValueError: a key cannot be used.
        """
        return KeysRead(self.keys.load(signing_domains(settings)), self._updates(settings))

    def reload(self, settings: Settings, read: KeysRead) -> None:
        """Let other settings be in force."""
        self._settings = settings
        self.keys.configure(settings, read.ring)
        self.rotation.configure(settings, read.updates)
        self.rotation.hasten()

    def start(self) -> None:
        """Look after the keys from now on."""
        self.rotation.start()

    def stop(self) -> None:
        """End what is under way."""
        self.rotation.stop()

    def _updates(self, settings: Settings) -> Updates | None:
        transport = SocketTransport(self._reactor, self._reactor)
        return updates_of(settings.dkim, settings.state_dir, transport, self._reactor)
