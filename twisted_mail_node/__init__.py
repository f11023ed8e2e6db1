"""An event-driven mail node on Twisted: receives, keeps, delivers and relays mail.

The public names stand here; they are loaded when they are first used, so that ``import twisted_mail_node`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted_mail_node.delivery.maildir import MaildirStore as MaildirStore
    from twisted_mail_node.inbound.factory import ESMTPFactory as ESMTPFactory
    from twisted_mail_node.outbound.relay import RelayManager as RelayManager
    from twisted_mail_node.queue.queue import OutgoingQueue as OutgoingQueue
    from twisted_mail_node.service import MailNode as MailNode

__version__ = "0.1.0"

_PLACES = {
    "ESMTPFactory": "inbound.factory",
    "MaildirStore": "delivery.maildir",
    "RelayManager": "outbound.relay",
    "OutgoingQueue": "queue.queue",
    "MailNode": "service",
}

__all__ = ["ESMTPFactory", "MailNode", "MaildirStore", "OutgoingQueue", "RelayManager", "__version__"]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{place}"), name)
