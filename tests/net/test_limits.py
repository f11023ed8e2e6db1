"""Tests of twisted_mail_node.net.limits."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.net.limits import Admission, is_in, network_of
from twisted_mail_node.reasons import Reason

CLIENTS = [None, "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "unix", ""]


class AdmissionTests(SynchronousTestCase):
    """Counting connections."""

    def test_in_all(self) -> None:
        """Not more than the total; who was refused is not counted."""
        admission = Admission(2, 2)
        found = [admission.enter(f"192.0.2.{number}") for number in range(3)]
        self.assertEqual(found, [None, None, Reason.TOO_MANY_CONNECTIONS])
        admission.leave("192.0.2.0")
        self.assertIsNone(admission.enter("192.0.2.2"))
        self.assertEqual(admission.connections, 2)

    def test_of_one(self) -> None:
        """Not more than so many of one address."""
        admission = Admission(100, 2)
        found = [admission.enter("192.0.2.1") for _ in range(3)]
        self.assertEqual(found, [None, None, Reason.TOO_MANY_FROM_ADDRESS])
        self.assertIsNone(admission.enter("192.0.2.2"))

    def test_reload(self) -> None:
        """Smaller limits count at once for those who come; nobody who is there is forgotten."""
        admission = Admission(10, 10)
        for _ in range(3):
            admission.enter("192.0.2.1")
        admission.total = 2
        self.assertEqual(admission.enter("192.0.2.2"), Reason.TOO_MANY_CONNECTIONS)
        for _ in range(3):
            admission.leave("192.0.2.1")
        self.assertEqual(admission.connections, 0)

    def test_moved(self) -> None:
        """Who turns out to be another is counted for that one, if there is room for it, and else as before."""
        admission = Admission(10, 1)
        for client in (None, None, "192.0.2.1"):
            self.assertIsNone(admission.enter(client))
        self.assertEqual(admission.move(None, "192.0.2.1"), Reason.TOO_MANY_FROM_ADDRESS)
        self.assertIsNone(admission.move(None, "2001:db8::1"))
        self.assertIsNone(admission.move("2001:db8::1", "2001:db8::2"))
        self.assertIsNone(admission.move("192.0.2.1", "192.0.2.2"))
        self.assertIsNone(admission.move(None, "192.0.2.1"))
        self.assertIsNone(admission.move("192.0.2.1", None))
        for client in (None, "2001:db8::3", "192.0.2.2"):
            admission.leave(client)
        self.assertEqual((admission.connections, admission._of), (0, {}))

    @given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(CLIENTS), st.sampled_from(CLIENTS)), max_size=60))
    def test_counts(self, steps: list[tuple[int, str | None, str | None]]) -> None:
        """Whatever comes, changes and goes, the counts agree, hold the limits, and end at zero with nothing
        remembered."""
        admission = Admission(5, 2)
        inside: list[str | None] = []
        for what, client, other in steps:
            if what == 0:
                if admission.enter(client) is None:
                    inside.append(client)
            elif what == 1 and client in inside:
                if admission.move(client, other) is None:
                    inside[inside.index(client)] = other
            elif client in inside:
                inside.remove(client)
                admission.leave(client)
            self.assertEqual(admission.connections, len(inside))
            self.assertLessEqual(len(inside), 5)
            networks = [network_of(one) for one in inside if one is not None]
            self.assertEqual(dict(Counter(networks)), admission._of)
            self.assertLessEqual(max(admission._of.values(), default=0), 2)
        for client in inside:
            admission.leave(client)
        self.assertEqual((admission.connections, admission._of), (0, {}))


class NetworkTests(SynchronousTestCase):
    """What counts as one client, and which networks hold it."""

    def test_network_of(self) -> None:
        """IPv4 by address, IPv6 by /64, IPv4 mapped into IPv6 as IPv4; anything else by itself."""
        table = {
            "192.0.2.1": "192.0.2.1",
            "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
            "2001:db8:1:2::": "2001:db8:1:2::",
            "fe80::1%eth0": "fe80::",
            "::ffff:192.0.2.1": "192.0.2.1",
            "unix": "unix",
            "not:an:address": "not:an:address",
        }
        self.assertEqual({client: network_of(client) for client in table}, table)

    def test_is_in(self) -> None:
        """Addresses in networks of either family; what is no address is nowhere."""
        networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
        table = {
            "10.255.0.1": True,
            "11.0.0.1": False,
            "2001:db8::1": True,
            "2001:db9::1": False,
            "::ffff:10.0.0.1": True,
            "::ffff:11.0.0.1": False,
            "::10.0.0.1": False,
            "unix": False,
            "": False,
            "10.0.0.1.": False,
        }
        self.assertEqual({client: is_in(client, networks) for client in table}, table)
        self.assertFalse(is_in("127.0.0.1", ()))
