"""The mails an operator's command works on: those of a running node, or those of the spool while the node is down."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.admin.freezing import frozen_alone
from twisted_mail_node.admin.messages import (
    CONTENT_AT_ONCE,
    GROUPS_MAX,
    HEADERS_AT_ONCE,
    IDS_AT_ONCE,
    By,
    Order,
    Shape,
    filter_as_shape,
)
from twisted_mail_node.admin.shapes import MAKE_DUE, attempt_as_shape, chosen, mail_as_shape, read_content, read_header
from twisted_mail_node.admin.tallies import grouped, questions
from twisted_mail_node.message.cause import understand
from twisted_mail_node.queue.removed import removed
from twisted_mail_node.spool.mail import Filter, Mail, SpoolError, Tally

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings
    from twisted_mail_node.spool.sqlite import Store


class Changed(NamedTuple):
    """The queue ids an order found, and those nobody knows."""

    found: list[str]
    unknown: list[str]


class Counted(NamedTuple):
    """A tally: its groups, the largest first, and what they are in all."""

    groups: list[Shape]
    total: Shape


#: Is told how many mails were changed so far.
Progress = Callable[[int], object]


class Mails(Protocol):
    """The mails in a spool, whoever has it open."""

    running: bool

    def find(self, wanted: Filter) -> list[Shape]:
        """Mails, oldest first."""

    def show(self, queue_ids: Sequence[str]) -> list[Shape]:
        """Mails with their headers and attempts."""

    def content(self, queue_id: str) -> Iterator[bytes]:
        """A whole mail as it will be passed on, in pieces. It must be there."""

    def tally(self, wanted: Filter, by: By) -> Counted:
        """How many recipients wait, in groups."""

    def frozen(self) -> list[Shape]:
        """The destinations that are frozen."""

    def count(self, order: Order, wanted: Filter) -> int:
        """How many mails ``change`` would change."""

    def change(self, order: Order, wanted: Filter, progress: Progress, **more: str) -> Changed:
        """Do something to the mails with the filter's ids, or to all that it finds, a page at a time.

        :param more: ``next_hop`` of ``reroute``; ``words`` of ``fail``.
        """


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
        for mail in found:
            mail["tried"] = self._client.ask("queue.attempts", id=mail["queue_id"]).items
        return _with_freezes(found, self.frozen())

    def content(self, queue_id: str) -> Iterator[bytes]:
        offset = 0
        while True:
            answer = self._client.ask("queue.content", id=queue_id, offset=offset).last
            octets = base64.b64decode(answer["octets"])
            if not octets:
                return
            yield octets
            offset += len(octets)

    def tally(self, wanted: Filter, by: By) -> Counted:
        groups, total = self._client.ask("queue.tally", **filter_as_shape(wanted), by=by, groups=GROUPS_MAX)
        return Counted(groups, {key: value for key, value in total.items() if key != "ok"})

    def frozen(self) -> list[Shape]:
        return self._client.ask("queue.frozen").items

    def count(self, order: Order, wanted: Filter) -> int:
        return sum(last["count"] for _, last in self._pages(order, wanted, {"dry_run": True}))

    def change(self, order: Order, wanted: Filter, progress: Progress, **more: str) -> Changed:
        changed = Changed([], [])
        for items, last in self._pages(order, wanted, more):
            changed.found.extend(item["queue_id"] for item in items)
            changed.unknown.extend(last["unknown"])
            progress(len(changed.found))
        return changed

    def _pages(self, order: Order, wanted: Filter, more: dict[str, Any]) -> Iterator[tuple[list[Shape], Shape]]:
        """The answers to an order, page by page."""
        if wanted.queue_ids:
            for ids in _slices(wanted.queue_ids, IDS_AT_ONCE):
                yield self._client.ask(f"queue.{order}", **filter_as_shape(wanted._replace(queue_ids=ids)), **more)
            return
        shape, behind = filter_as_shape(wanted._replace(limit=IDS_AT_ONCE)), ""
        while True:
            answer = self._client.ask(f"queue.{order}", **shape, **more, all=True, behind=behind)
            yield answer
            behind = answer.last.get("behind") or ""
            if not behind:
                return


class SpoolMails:
    """Of a spool that no node has open."""

    running = False

    def __init__(self, store: Store, state_dir: Path) -> None:
        self._store = store
        self._state_dir = state_dir

    def find(self, wanted: Filter) -> list[Shape]:
        return [mail_as_shape(mail) for mail in self._store.find(wanted)]

    def show(self, queue_ids: Sequence[str]) -> list[Shape]:
        found = [
            {
                **mail_as_shape(mail),
                "header": _header(mail),
                "tried": list(map(attempt_as_shape, self._store.attempts(mail.queue_id))),
            }
            for mail in self._find(queue_ids)
        ]
        return _with_freezes(found, self.frozen())

    def content(self, queue_id: str) -> Iterator[bytes]:
        offset = 0
        for mail in self._find([queue_id]):
            try:
                while octets := read_content(mail, offset, CONTENT_AT_ONCE):
                    yield octets
                    offset += len(octets)
            except OSError as error:
                raise SpoolError(f"the content cannot be read: {error}") from error

    def tally(self, wanted: Filter, by: By) -> Counted:
        answers = [
            (question, self._tally(question.wanted, question.by)) for question in questions(wanted, by, time.time())
        ]
        return Counted(*grouped(by, answers, GROUPS_MAX))

    def _tally(self, wanted: Filter, by: str) -> list[Tally]:
        return self._store.tally_senders(wanted) if by == "sender" else self._store.tally(wanted)

    def frozen(self) -> list[Shape]:
        return frozen_alone(self._state_dir)

    def count(self, order: Order, wanted: Filter) -> int:
        return sum(len(known) for known, _ in self._pages(order, wanted))

    def change(self, order: Order, wanted: Filter, progress: Progress, **more: str) -> Changed:
        changed = Changed([], [])
        for known, unknown in self._pages(order, wanted):
            changed.found.extend(self._carry_out(order, known, more))
            changed.unknown.extend(unknown)
            progress(len(changed.found))
        return changed

    def _pages(self, order: Order, wanted: Filter) -> Iterator[tuple[list[str], list[str]]]:
        """The mails meant, page by page: those that are there, and ids nobody knows."""
        if wanted.queue_ids:
            for ids in _slices(list(dict.fromkeys(wanted.queue_ids)), IDS_AT_ONCE):
                known = [mail.queue_id for mail in self._find(ids)]
                yield known, [one for one in ids if one not in set(known)]
            return
        behind = ""
        while page := self._store.select(wanted, IDS_AT_ONCE, behind):
            yield chosen(order, self._find(page), time.time()) if order in MAKE_DUE else page, []
            behind = page[-1]

    def _carry_out(self, order: Order, queue_ids: Sequence[str], more: dict[str, str]) -> list[str]:
        store, now = self._store, time.time()
        if order == "hold":
            return store.hold(queue_ids)
        if order == "remove":
            return store.remove(queue_ids)
        if order == "reroute":
            return store.reroute(queue_ids, more["next_hop"], now)
        if order == "fail":
            status = removed(more.get("words", ""))
            return store.give_up(queue_ids, status, understand(status).code, now)
        return store.release(queue_ids, now)

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

    return SpoolMails(Store(settings.state_dir / "spool", create=False), settings.state_dir)


def _with_freezes(mails: list[Shape], frozen: list[Shape]) -> list[Shape]:
    """The same mails; each recipient says whether its destination is frozen."""
    names = {one["destination"] for one in frozen}
    for mail in mails:
        for recipient in mail["recipients"]:
            recipient["frozen"] = recipient["destination"] in names
    return mails


def _header(mail: Mail) -> str:
    try:
        return read_header(mail)
    except OSError as error:
        return f"(the content cannot be read: {error})"


def _slices(ids: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(ids[start : start + length]) for start in range(0, len(ids), length)]
