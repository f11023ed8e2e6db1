"""The mails an operator's command works on: those of a running node, or those of the spool while the node is down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.admin.messages import (
    HEADERS_AT_ONCE,
    IDS_AT_ONCE,
    MAILS_MAX,
    Order,
    Shape,
    chosen,
    filter_as_shape,
    mail_as_shape,
    read_header,
)
from twisted_mail_node.spool.mail import Filter, Mail

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings
    from twisted_mail_node.spool.sqlite import Store


class Changed(NamedTuple):
    """The queue ids an order found, and those nobody knows."""

    found: list[str]
    unknown: list[str]


class Mails(Protocol):
    """The mails in a spool, whoever has it open."""

    running: bool

    def find(self, wanted: Filter) -> list[Shape]:
        """Mails, oldest first."""

    def show(self, queue_ids: Sequence[str]) -> list[Shape]:
        """Mails with their headers."""

    def change(self, order: Order, wanted: Filter) -> Changed:
        """Do something to the mails with the filter's ids, or to all that it finds."""


class NodeMails:
    """Of a running node."""

    running = True

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def find(self, wanted: Filter) -> list[Shape]:
        if not wanted.queue_ids:
            return self._client.ask("queue.find", **filter_as_shape(wanted)).items
        found: list[Shape] = []
        for ids in _slices(wanted.queue_ids, IDS_AT_ONCE):
            found += self._client.ask("queue.find", **filter_as_shape(wanted._replace(queue_ids=ids))).items
        return found

    def show(self, queue_ids: Sequence[str]) -> list[Shape]:
        found: list[Shape] = []
        for ids in _slices(queue_ids, HEADERS_AT_ONCE):
            found += self._client.ask("queue.find", ids=ids, limit=HEADERS_AT_ONCE, header=True).items
        return found

    def change(self, order: Order, wanted: Filter) -> Changed:
        changed = Changed([], [])
        for ids in _slices(wanted.queue_ids, IDS_AT_ONCE) if wanted.queue_ids else [()]:
            request = filter_as_shape(wanted._replace(queue_ids=tuple(ids)))
            items, last = self._client.ask(f"queue.{order}", **request, all=not ids)
            changed.found.extend(item["queue_id"] for item in items)
            changed.unknown.extend(last["unknown"])
        return changed


class SpoolMails:
    """Of a spool that no node has open."""

    running = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, wanted: Filter) -> list[Shape]:
        return [mail_as_shape(mail) for mail in self._store.find(wanted)]

    def show(self, queue_ids: Sequence[str]) -> list[Shape]:
        return [{**mail_as_shape(mail), "header": _header(mail)} for mail in self._find(queue_ids)]

    def change(self, order: Order, wanted: Filter) -> Changed:
        if wanted.queue_ids:
            known = [mail.queue_id for mail in self._find(wanted.queue_ids)]
        else:
            known = chosen(order, self._store.find(wanted), time.time())
        unknown = [one for one in dict.fromkeys(wanted.queue_ids) if one not in set(known)]
        if order == "hold":
            return Changed(self._store.hold(known), unknown)
        if order == "remove":
            return Changed(self._store.remove(known), unknown)
        return Changed(self._store.release(known, time.time()), unknown)

    def _find(self, queue_ids: Sequence[str]) -> list[Mail]:
        found: list[Mail] = []
        for ids in _slices(queue_ids, IDS_AT_ONCE):
            found += self._store.find(Filter(tuple(ids), limit=IDS_AT_ONCE))
        return found


def open_mails(settings: Settings) -> Mails:
    """The mails of the node of these settings, running or not.

    :raises ControlError: a node may be running, but cannot be asked.
    :raises SpoolError: no node runs, and the spool cannot be opened.
    """
    client = ControlClient(settings.state_dir)
    if client.is_running():
        return NodeMails(client)
    from twisted_mail_node.spool.sqlite import Store

    return SpoolMails(Store(settings.state_dir / "spool", create=False))


def everything(wanted: Filter) -> Filter:
    """The filter, with as many mails as one order may take."""
    return wanted._replace(limit=MAILS_MAX)


def _header(mail: Mail) -> str:
    try:
        return read_header(mail)
    except OSError as error:
        return f"(the content cannot be read: {error})"


def _slices(ids: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(ids[start : start + length]) for start in range(0, len(ids), length)]
