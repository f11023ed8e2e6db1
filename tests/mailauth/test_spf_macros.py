"""Macros of SPF records (RFC 7208 section 7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.mailauth.spf_macros import (
    EXPLANATION_MAX,
    MACROS_MAX,
    NAME_MAX,
    MacroValues,
    SpfSyntaxError,
    cut,
    domain_spec,
    expand_explanation,
    expand_name,
    explain_string,
    read_client,
)


def values(ip: str = "192.0.2.3", sender: str = "strong-bad@email.example.com", helo: str = "h.example") -> MacroValues:
    """What macros stand for; the client's name is that of the RFC's examples."""
    client = read_client(ip)
    assert client is not None
    found = MacroValues(client, sender, helo, "us.example", 1234.5)
    found["d"] = "email.example.com"
    found["p"] = "mx.example.org"
    return found


class ExampleTest(SynchronousTestCase):
    """RFC 7208 section 7.4."""

    def test_macros(self) -> None:
        """Every example of the RFC expands as it says."""
        for text, expanded in (
            ("%{s}", "strong-bad@email.example.com"), ("%{o}", "email.example.com"), ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"), ("%{d3}", "email.example.com"), ("%{d2}", "example.com"), ("%{d1}", "com"),
            ("%{dr}", "com.example.email"), ("%{d2r}", "example.email"), ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"), ("%{lr}", "strong-bad"), ("%{lr-}", "bad.strong"), ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ):  # fmt: skip
            self.assertEqual(expand_name(domain_spec(text), values()), expanded)

    def test_ip6(self) -> None:
        """An IPv6 address is its digits with dots."""
        expanded = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
        self.assertEqual(expand_name(domain_spec("%{ir}.%{v}._spf.%{d2}"), values("2001:db8::cb01")), expanded)

    def test_explanation_letters(self) -> None:
        """What only explanations may have: the client's address to read, our name, the time."""
        pieces = explain_string(b"%{c} %{r} %{t} %{p} %{v}%%%_%-.")
        self.assertEqual(expand_explanation(pieces, values()), "192.0.2.3 us.example 1234 mx.example.org in-addr% %20.")
        found = expand_explanation(pieces, values("2001:DB8:0::CB01"))
        self.assertEqual(found, "2001:db8::cb01 us.example 1234 mx.example.org ip6% %20.")


class SyntaxTest(SynchronousTestCase):
    """RFC 7208 sections 7.1 and 7.3."""

    def test_good(self) -> None:
        """Texts that the grammar has, and what they stand for."""
        for text, expanded in (
            ("a.b", "a.b"), ("A.B.", "a.b"), (".com", None), ("a..com", None), ("x:y/z.example", "x:y/z.example"),
            ("a.xn--p1ai", "a.xn--p1ai"), ("a.1b", "a.1b"), ("a.1-2", "a.1-2"), ("a.b--c", "a.b--c"), ("_.a", "_.a"),
            ("%%", "%"), ("%_", " "), ("%-", "%20"), ("a%%", "a%"), ("%{D2}", "example.com"),
            ("%{d99}", "email.example.com"), ("%{d00002}", "example.com"), ("%{d2R}", "example.email"),
            ("%{S}", "strong-bad%40email.example.com"), ("%{s2}", "example.com"), ("%{d.-}.x", "email.example.com.x"),
            ("%{d+}", "email.example.com"), ("%{l-}", "strong.bad"), ("1.2.3.4.%{v}", "1.2.3.4.in-addr"),
        ):  # fmt: skip
            self.assertEqual(expand_name(domain_spec(text), values()), expanded, text)

    def test_bad(self) -> None:
        """Texts that it has not."""
        for text in ("", "a", "a.", "com", ".", "..", "a.1", "a.-b", "a.b-", "a.b_c", "a.b/24", "192.0.2.1", "%{d}x",
                     "%{d}.", "%{d}.1", "x%{d}y.", "%", "a.b%", "%a.b", "%{", "%{}", "%{d", "%{x}", "%{dd}", "%{d0}",
                     "%{d00r}", "%{dr2}", "%{d!}", "%{d r}", "%{c}", "%{r}.x", "%{T}.x", "%(d).x", "%%%.x", "a.b..",
                     "%{d}" * (MACROS_MAX + 1)):  # fmt: skip
            with self.assertRaises(SpfSyntaxError, msg=text):
                domain_spec(text)

    def test_delimiters(self) -> None:
        """Each delimiter parts, empty parts stay, and dots join (RFC 7208 section 7.3)."""
        found = values(sender="a-b+c,d/e_f=g--h@x.example")
        for text, expanded in (
            ("%{l.-+,/_=}", "a.b.c.d.e.f.g..h"),
            ("%{l2-+}", ".h"),
            ("%{l3-}", "b+c,d/e_f=g..h"),
            ("%{l3r=-}", "g.b+c,d/e_f.a"),
            ("%{l2r}", "a-b+c,d/e_f=g--h"),
            ("%{L2r=}", "g--h.a-b%2Bc%2Cd%2Fe_f"),
        ):
            self.assertEqual(expand_explanation(explain_string(text.encode()), found), expanded)
        self.assertEqual(expand_name(domain_spec("%{l3r=-}"), found), "g.b+c,d/e_f.a")
        self.assertIsNone(expand_name(domain_spec("%{l2-+}"), found))  # an empty label

    def test_too_long(self) -> None:
        """Labels are taken off the left of a name until 253 characters are left."""
        for sender, length in ((f"{'a.' * 200}@x", 253), (f"{'a' * 30 + '.'}" * 8 + "@x", 251)):
            name = expand_name(domain_spec("%{l}bc.example"), values(sender=sender))
            assert name is not None
            self.assertLessEqual(len(name), NAME_MAX)
            self.assertTrue(name.endswith("bc.example"))
            self.assertLess(length - len(name), 32)
        exact = "a." * 122 + "example"
        self.assertEqual(len(exact), 251)
        self.assertEqual(expand_name(domain_spec(f"x.{exact}"), values()), f"x.{exact}")
        self.assertEqual(expand_name(domain_spec(f"y.x.{exact}"), values()), f"x.{exact}")
        self.assertEqual(expand_name(domain_spec(f"yy{exact}"), values()), f"yy{exact}")
        self.assertEqual(expand_name(domain_spec(f"yyy{exact}"), values()), exact[2:])
        self.assertIsNone(expand_name(domain_spec("%{l}"), values(sender="x" * 300 + "@x")))

    def test_many_pieces(self) -> None:
        """A text of many macros is cut like the whole would be."""
        for count in range(1, MACROS_MAX):
            whole = ("email.example.com-" * count + ".x.y")[-400:]
            wanted = whole
            while len(wanted) > NAME_MAX:
                wanted = wanted.partition(".")[2]
            self.assertEqual(expand_name(domain_spec("%{d}-" * count + ".x.y"), values()), wanted)


class HostileTest(SynchronousTestCase):
    """Whatever is published and said."""

    @given(st.text(alphabet="%{}sdlipvhcrt0129.-+_=/aZ\xe9\r", max_size=60), st.text(max_size=40), st.text(max_size=40))
    def test_names(self, text: str, local_part: str, helo: str) -> None:
        """A text is an error or has a name that can be asked for, or none."""
        try:
            spec = domain_spec(text)
        except SpfSyntaxError as error:
            self.assertTrue(str(error).isascii() and str(error).isprintable())
            return
        name = expand_name(spec, values(sender=f"{local_part}@x.example", helo=helo))
        if name:
            self.assertTrue(name.isascii() and name.isprintable() and len(name) <= NAME_MAX)
            self.assertTrue(all(1 <= len(label) <= 63 for label in name.split(".")), name)

    @given(
        st.binary(max_size=80) | st.text(alphabet="%{}SLHsdp1r- x", max_size=60).map(str.encode), st.text(), st.text()
    )
    def test_explanations(self, text: bytes, local_part: str, helo: str) -> None:
        """A text is an error or one bounded line of printable ASCII."""
        try:
            pieces = explain_string(text)
        except SpfSyntaxError:
            return
        found = expand_explanation(pieces, values(sender=f"{local_part}@x.example", helo=helo))
        self.assertTrue(found.isascii() and (found.isprintable()) and len(found) <= EXPLANATION_MAX)

    def test_cut(self) -> None:
        """Words of others are short, and one line, in sentences of ours."""
        self.assertEqual(cut("a\r\n\x1b\x7f\u2028é", 10), "a??????")
        self.assertEqual(cut("x" * 11, 10), "xxxxxxx...")
