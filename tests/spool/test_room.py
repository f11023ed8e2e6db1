"""Tests of the room on the disk."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.spool.room import LOOK_EVERY, Room


class RoomTests(SynchronousTestCase):
    """Whether there is room."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.free = 1000
        self.looks = 0
        self.room = Room(Path("/spool"), 400, self.clock.seconds, self.look)

    def look(self, path: Path) -> int:
        """The free space, as the disk tells it."""
        self.looks += 1
        if self.free < 0:
            raise OSError("the disk is gone")
        return self.free

    def test_floor(self) -> None:
        """A mail may be half as large as what is free above the floor: it will be in the spool and in a mailbox."""
        self.assertTrue(self.room.has(0))
        self.assertTrue(self.room.has(300))
        self.assertFalse(self.room.has(301))

    def test_looks_now_and_then(self) -> None:
        """The disk is looked at once a second at most, also when the clock was set back."""
        self.assertTrue(self.room.has(0))
        self.free = 399
        self.assertTrue(self.room.has(0))
        self.clock.advance(LOOK_EVERY)
        self.assertFalse(self.room.has(0))
        self.clock.rightNow = -5.0
        self.free = 400
        self.assertTrue(self.room.has(0))
        self.assertEqual(self.looks, 3)

    def test_cannot_tell(self) -> None:
        """Where the free space cannot be told, the commit decides."""
        self.free = -1
        self.assertTrue(self.room.has(1 << 40))

    def test_real(self) -> None:
        """A real directory has room for something, but not for everything."""
        room = Room(Path("."), 0, self.clock.seconds)
        self.assertTrue(room.has(1))
        self.assertFalse(room.has(1 << 60))
