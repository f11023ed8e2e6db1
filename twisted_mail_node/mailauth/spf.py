"""SPF: whether a domain lets a host use its name, by the check_host() function (RFC 7208 section 4).

``check_mail`` and ``check_helo`` check the two identities of an SMTP session; ``check_host`` is the function itself.

Questions go to the DNS one after the other, and none is asked that the result does not need. Their number is bounded by
``TERMS_MAX``, ``VOIDS_MAX``, ``NAMES_MAX`` and ``QUESTIONS_MAX``. There is no clock here: who awaits a check gives it a
deadline of 20 seconds or more, and takes a check that is not done by then for a temperror (RFC 7208 section 4.6.4).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NamedTuple

from twisted_mail_node.mailauth.resolving import NoAnswerError, Resolver
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf_evaluation import Evaluation, EvaluationError
from twisted_mail_node.mailauth.spf_macros import MacroValues, cut, read_client, well_formed

#: Macros that make a result depend on more than address and domain.
_PERSONAL = frozenset("slht")
#: Characters of a problem that are told.
PROBLEM_MAX = 400


class Spf(NamedTuple):
    """What a check came to (RFC 7208 section 2.6).

    :ivar domain: the domain that was checked, lower case, A-labels; ``""`` when it was none.
    :ivar scope: ``mfrom`` or ``helo``: which identity it is of.
    :ivar sender: the identity.
    :ivar mechanism: what decided, as the record has it: ``-all``, ``ip4:192.0.2.0/24``; ``""`` when nothing matched.
    :ivar explanation: why the domain says ``fail``: its own text, for which it alone is responsible. One line of
        printable ASCII, bounded, often ``""``.
    :ivar problem: a sentence for none, permerror and temperror.
    :ivar personal: a macro made it depend on more than the client's address and the domain: on the local-part, the name
        in EHLO or the time.
    """

    result: Result
    domain: str
    scope: str
    sender: str = ""
    mechanism: str = ""
    explanation: str = ""
    problem: str = ""
    personal: bool = False


def check_mail(
    resolver: Resolver, *, ip: str, helo: str, reverse_path: str, receiver: str, now: float, explain: bool = True
) -> Coroutine[Any, Any, Spf]:
    """Check the "MAIL FROM" identity (RFC 7208 section 2.4). Arguments are those of ``check_host``.

    :param reverse_path: without angle brackets; ``""`` is the null reverse-path, which stands for ``postmaster`` at
        the HELO domain.
    """
    sender = reverse_path or f"postmaster@{helo}"
    domain = sender.rpartition("@")[2]
    return _check(resolver, ip, domain, sender, helo, receiver, now, "mfrom", explain)


async def check_helo(resolver: Resolver, *, ip: str, helo: str, receiver: str, now: float, explain: bool = True) -> Spf:
    """Check the "HELO" identity (RFC 7208 section 2.3). Arguments are those of ``check_host``."""
    found = await _check(resolver, ip, helo, f"postmaster@{helo}", helo, receiver, now, "helo", explain)
    return found._replace(sender=helo)


def check_host(
    resolver: Resolver, *, ip: str, domain: str, sender: str, helo: str, receiver: str, now: float, explain: bool = True
) -> Coroutine[Any, Any, Spf]:
    """The function of RFC 7208 section 4. Whatever is wrong with the arguments, it has a result and raises nothing.

    :param ip: the client's address. An IPv4-mapped IPv6 address is an IPv4 address.
    :param domain: whose record is asked for.
    :param sender: the identity; ``postmaster`` stands for a local-part that is missing.
    :param helo: what the client said in EHLO or HELO.
    :param receiver: our own name, for explanations.
    :param now: seconds since the epoch, for explanations.
    :param explain: fetch the explanation of a fail; nobody needs it who does not tell it.
    """
    return _check(resolver, ip, domain, sender, helo, receiver, now, "mfrom", explain)


async def _check(
    resolver: Resolver,
    ip: str,
    domain: str,
    sender: str,
    helo: str,
    receiver: str,
    now: float,
    scope: str,
    explain: bool,
) -> Spf:
    name = well_formed(domain)
    if name is None:
        return Spf(Result.NONE, "", scope, sender, problem=_not_a_domain(domain))
    client = read_client(ip)
    if client is None:
        return Spf(Result.NONE, name, scope, sender, problem=f"{cut(ip)!r} is not the address of a client")
    values = MacroValues(client, sender, helo, receiver, now)
    check = Evaluation(resolver, client, values)
    try:
        found = await check.check_host(name)
        if found is None:
            return Spf(Result.NONE, name, scope, sender, "", "", f"{name} has no SPF record")
        directive, record, last = found
        if directive is None:
            return Spf(Result.NEUTRAL, name, scope, sender)  # RFC 7208 section 4.7
        explanation = ""
        if explain and directive.result is Result.FAIL and record.explanation is not None:
            explanation = await check.explain(record.explanation, last)
        personal = not _PERSONAL.isdisjoint(values)
        return Spf(directive.result, name, scope, sender, directive.text, explanation, personal=personal)
    except EvaluationError as error:
        result, problem = Result.PERMERROR, str(error)
    except NoAnswerError as error:
        result, problem = Result.TEMPERROR, str(error)
    return Spf(result, name, scope, sender, check.term, "", cut(problem, PROBLEM_MAX))


def _not_a_domain(domain: str) -> str:
    if domain.startswith("["):
        return "an address literal has no SPF record"
    return f"{cut(domain)!r} is not a domain name of two labels or more" if domain else "there is no domain"
