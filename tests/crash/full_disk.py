"""A life on a disk that fills up, told line by line: ``python full_disk.py DIRECTORY`` (a small file system).

Says ``kept <id> <name>`` for each mail that was accepted, ``refused <name> <full>`` for each that was not, ``step …``
for what it does, and ``found …`` for what the spool holds at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.crash.child import HEADER, SIZES, content_of, envelope_of, say
from twisted_mail_node.spool.mail import Change, Filter, SpoolError, State
from twisted_mail_node.spool.spool import Spool

reactor: Any = _reactor

#: Tenths of a second that the file of a refused mail may still be there.
PATIENCE = 100
#: Mails that are tried before the disk counts as one that does not fill up.
ENOUGH = 5000


async def accept(spool: Spool, name: str, size: int) -> str:
    """Bring a mail; gives its id, ``""`` when it was refused."""
    incoming = spool.begin()
    octets = content_of(name, size)
    try:
        for at in range(0, size, 65_536):
            await incoming.write(octets[at : at + 65_536])
        mail = await incoming.commit(envelope_of(name), HEADER)
    except SpoolError as error:
        incoming.abort()
        say("refused", name, str(error.full))
        return ""
    say("kept", mail.queue_id, name)
    return mail.queue_id


def fill(filler: Path) -> None:
    """Take all the room there is."""
    with open(filler, "ab", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            try:
                while file.write(b"x" * size) == size:
                    continue
            except OSError:
                continue


async def story(directory: Path) -> None:
    """Small mails until the disk is full, large ones too; then there is room again."""
    spool = Spool(directory / "spool", reactor, reactor.seconds)
    filler = directory / "filler"
    filler.write_bytes(b"x" * 8_000_000)
    first = await accept(spool, "first", SIZES["small"])
    say("step", "filling")
    for number in range(ENOUGH):
        if not await accept(spool, f"s{number}", SIZES["small"]):
            break
    fill(filler)
    await accept(spool, "large", SIZES["large"])
    await accept(spool, "small", SIZES["small"])
    content = directory / "spool" / "content"
    for _ in range(PATIENCE):  # a thread takes away what was refused
        if not any(content.iterdir()):
            break
        await deferLater(reactor, 0.1)
    say("step", "content", str(len(list(content.iterdir()))))
    try:
        await spool.record([Change(first, place, State.FINISHED) for place in (0, 1)])
        say("finished", "first")
    except SpoolError as error:
        say("refused", "finished", str(error.full))
    say("step", "room")
    os.unlink(filler)
    await accept(spool, "large-again", SIZES["large"])
    await accept(spool, "small-again", SIZES["small"])
    await spool.record([Change(first, place, State.FINISHED) for place in (0, 1)])
    spool.close()
    spool = Spool(directory / "spool", reactor, reactor.seconds)
    for mail in await spool.find(Filter(limit=ENOUGH)):
        name = mail.envelope.recipients[0].address.local_part
        assert b"".join(mail.content.blocks()) == content_of(name, mail.content.size)
        say("found", mail.queue_id, name)
    spool.close()


def main(directory: str) -> None:
    """Live to the end."""
    failed: list[Any] = []

    def ended(failure: Any) -> None:
        if failure is not None:
            failed.append(failure)
            failure.printTraceback(sys.stderr)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(story(Path(directory))).addBoth(ended))
    reactor.run()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
