"""Runs the examples of ``authres`` (doctests of another's API) against ``message.authresults``.

The examples call the classes below, which have the names of that API and pass everything on to our ``parse`` and
``field``. An example counts when it says what should come out. Those that are about something else than reading and
writing fields are left out: ``match_signature`` compares strings, and ``has no attribute`` names a Python class.
"""

from __future__ import annotations

import doctest
import io
import re
from types import SimpleNamespace
from typing import Any

from tests.mailauth.counts import Counts
from tests.smtp.vectors import vector
from twisted_mail_node.message import authresults
from twisted_mail_node.message.authresults import AuthenticationResults, MethodResult, Property

#: Where we differ: what the example wants, and why not.
CONTESTED = {
    "'Authentication-Results: test.example.org 1; none'": (
        'A version 1 that is written. RFC 7601 section 2.2: "the absence of a version implies this version of the '
        'specification"; we leave it out.'
    ),
    "'Authentication-Results: test.example.org; none (SPF not checked for localhost)'": (
        'A comment behind "none", "non-RFC" in its own words; RFC 7601 section 2.2: "the special case of \\"none\\" is '
        'used to indicate that no message authentication was performed". A field of ours says no more then.'
    ),
    "'Authentication-Results: example.com; iprev=pass policy.iprev=\"2001:db8:ea1::dead:beef\" (yummy.example.net)'": (
        'RFC 7601 section 2.2 has "[CFWS]" on both sides of what it says, and a comment means the same on either: '
        "a result of ours has one comment, behind the word for the result."
    ),
    '"Authentication-Results: example.net; rrvs=fail (Mail box expired.) smtp.rrvs=user@example.com '
    "(These are not the droids you're looking for.)\"": "Two comments: as above.",
}


class _Result:
    """A result made by keyword arguments, ``smtp_mailfrom="…"``, or one that was read."""

    kind = ""

    def __init__(self, found: MethodResult | None = None, **given: str) -> None:
        comments = [given.pop(key) for key in list(given) if key.endswith("_comment") or key == "comment"]
        if found is None:
            result, reason = given.pop("result", "none"), given.pop("reason", "")
            if "policy" in given:
                given["policy_dmarc"] = given.pop("policy")
            names = [name.replace("_", ".", 1).replace("_", "-").split(".") for name in given]
            properties = tuple(Property(names[at][0], names[at][1], text) for at, text in enumerate(given.values()))
            found = MethodResult(self.kind, result, properties, reason, " ".join(comments))
        self.found = found

    def __str__(self) -> str:
        value = written(AuthenticationResults("id", (self.found._replace(comment=""),)))
        return value.removeprefix("Authentication-Results: id; ")

    def __getattr__(self, name: str) -> Any:
        if name in ("method", "result", "version"):
            return getattr(self.found, name)
        if name == "reason":
            return self.found.reason or None
        if name == "properties":
            return [SimpleNamespace(type=ptype, name=name, value=text) for ptype, name, text in self.found.properties]
        ptype, _, property_name = name.partition("_")
        return self.found.value(ptype, property_name.replace("_", "-")) or None


def written(results: AuthenticationResults) -> str:
    """Our field on one line. The examples write every ``header.b`` and ``smtp.mailfrom`` as we do."""
    return re.sub(r"\r\n(?= )", "", authresults.field(results).decode()).removesuffix("\r\n")


class _Field:
    def __init__(self, authserv_id: str, results: Any = (), version: int = 1) -> None:
        found = tuple(result.found for result in results if result.kind)
        self.found = AuthenticationResults(authserv_id, found, version)

    def __str__(self) -> str:
        return written(self.found)

    @classmethod
    def parse(cls, text: str) -> _Field:
        name, _, value = text.partition(":")
        assert name.lower() == "authentication-results"
        made = cls("")
        try:
            made.found = authresults.parse(value)
        except ValueError as error:
            raise _SyntaxError(error) from None
        return made

    @property
    def authserv_id(self) -> str:
        return self.found.authserv_id

    @property
    def results(self) -> list[_Result]:
        return [_Result(found) for found in self.found.results]


class _SyntaxError(Exception):
    """What the examples expect of an unreadable field. Its words are theirs: any ``ValueError`` of ours will do."""

    def __str__(self) -> str:
        return "Syntax error: …"


def _kind(method: str) -> type[_Result]:
    return type("Result", (_Result,), {"kind": method})


def _module() -> SimpleNamespace:
    """Stands for the package ``authres`` and those in it."""
    context = SimpleNamespace(parse=_Field.parse, header=_Field)
    dkim = _kind("dkim")
    return SimpleNamespace(
        AuthenticationResultsHeader=_Field,
        FeatureContext=lambda *features: context,
        SyntaxError=_SyntaxError,
        NoneAuthenticationResult=_kind(""),
        DKIMAuthenticationResult=dkim,
        SPFAuthenticationResult=_kind("spf"),
        SMTPAUTHAuthenticationResult=_kind("auth"),
        IPRevAuthenticationResult=_kind("iprev"),
        arc=SimpleNamespace(ARCAuthenticationResult=_kind("arc")),
        dkim_b=SimpleNamespace(DKIMAuthenticationResult=dkim),
        dkim_adsp=SimpleNamespace(DKIMADSPAuthenticationResult=_kind("dkim-adsp")),
        vbr=SimpleNamespace(VBRAuthenticationResult=_kind("vbr")),
        dmarc=SimpleNamespace(DMARCAuthenticationResult=_kind("dmarc")),
        smime=SimpleNamespace(SMIMEAuthenticationResult=_kind("smime")),
        rrvs=SimpleNamespace(RRVSAuthenticationResult=_kind("rrvs")),
    )


class _Counting(doctest.DocTestRunner):
    """Tells each example that expects something as passed or failed."""

    def __init__(self) -> None:
        super().__init__(verbose=False)
        self.good = 0
        self.bad: list[str] = []

    def report_start(self, out: Any, test: doctest.DocTest, example: doctest.Example) -> None:
        pass

    def report_success(self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str) -> None:
        self.good += bool(example.want)

    def report_failure(self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str) -> None:
        self.bad.append(f"line {example.lineno + 1}: {example.source.strip()[:200]} gave {got.strip()}")

    def report_unexpected_exception(
        self, out: Any, test: doctest.DocTest, example: doctest.Example, exc_info: Any
    ) -> None:
        self.bad.append(f"line {example.lineno + 1}: {example.source.strip()[:200]} raised {exc_info[1]!r}")


def run() -> Counts:
    """Every example that expects something."""
    text = vector("authres/authres-1.2.0-doctests.txt").read_text("utf-8")
    text = re.sub(r"(?m)^(Syntax error: ).*$", r"\1…", text)
    module = _module()
    names = {"str": str, "print": print, "AttributeError": AttributeError, "__import__": lambda *names: module}
    examples = []
    contested = total = 0
    for example in doctest.DocTestParser().get_examples(text):
        if "match_signature" in example.source or "has no attribute" in example.want:
            continue
        total += bool(example.want)
        if example.want.strip() in CONTESTED:
            contested += 1
        else:
            examples.append(example)
    test = doctest.DocTest(examples, {"__builtins__": names}, "authres", None, None, None)
    runner = _Counting()
    runner.run(test, out=io.StringIO().write, clear_globs=False)
    return Counts(runner.good, total, contested, tuple(runner.bad))
