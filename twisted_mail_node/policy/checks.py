"""What follows of what was found out about who sent a mail: refuse it, put it in quarantine, or only note it.

Pure: rules (``[[check]]``) and an outcome in, a decision out. The codes of refusals are those of RFC 7372.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from twisted_mail_node.mailauth.author import Author
from twisted_mail_node.mailauth.outcome import Outcome
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf
from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings_routes import fits
from twisted_mail_node.settings_verification import METHODS, Action, CheckRule
from twisted_mail_node.smtp.reply import Reply

#: What is done where no rule of the settings fits; what stands in neither is noted.
USUAL = (
    CheckRule(method="from", results=("fail",), action="refuse"),
    CheckRule(method="from", results=("permerror",), action="quarantine"),
    CheckRule(method="dmarc", results=("reject", "temperror"), action="refuse"),
    CheckRule(method="dmarc", results=("quarantine",), action="quarantine"),
)
_MILD: tuple[Action, ...] = ("note", "quarantine", "refuse")
#: Enhanced status codes of refusals (RFC 7372 section 3, RFC 8617 section 10.3 for the last), and their reasons.
_CODES = {
    "from": ("5.7.1", Reason.BAD_FROM),
    "iprev": ("5.7.25", Reason.IPREV_FAILED),
    "helo": ("5.7.23", Reason.SPF_FAILED),
    "spf": ("5.7.23", Reason.SPF_FAILED),
    "dkim": ("5.7.20", Reason.DKIM_FAILED),
    "dmarc": ("5.7.26", Reason.DMARC_FAILED),
    "arc": ("5.7.29", Reason.ARC_FAILED),
}
#: SPF records that cannot be used.
_SPF_ERROR = "5.7.24"
#: A check that could not be made: the DNS is a directory that failed (RFC 3463 X.4.3).
_LATER = "4.4.3"


class Decision(NamedTuple):
    """What is done with a mail.

    :ivar method: the check that decided; ``""``: none had anything to say.
    :ivar reason: why, unless it is only noted.
    :ivar reply: of a refusal.
    :ivar words: for people: the log, ``X-Quarantine``.
    :ivar overridden: DMARC asked for more, and a trusted sealer vouched for the mail.
    """

    action: Action
    method: str = ""
    reason: Reason = Reason.ACCEPTED
    reply: Reply | None = None
    words: str = ""
    overridden: bool = False

    @property
    def strength(self) -> float:
        """By which decisions are compared."""
        return _strength(self.action, "temperror" if self.reason is Reason.CHECK_LATER else "")


def _strength(action: Action, result: str) -> float:
    """A refusal for good is stronger than one for now: who waits for the DNS of one check must not outlive another."""
    return _MILD.index(action) - (0.5 if action == "refuse" and result == "temperror" else 0)


class Checks:
    """The rules of the settings, with the usual ones behind them."""

    def __init__(self, rules: Sequence[CheckRule] = ()) -> None:
        self._rules: dict[tuple[str, str], list[CheckRule]] = {}
        for rule in (*rules, *USUAL):
            for result in rule.results:
                self._rules.setdefault((rule.method, result), []).append(rule)

    def decide(self, outcome: Outcome, domains: Collection[str], *, later: bool = True) -> Decision:
        """The strongest of what follows from the checks; of several methods that come to the same, the first. Who is
        refused for good is not put off.

        :param domains: of the recipients, in look-up spelling.
        :param later: the mail may be put off; else what could not be checked is noted, and the other checks decide. But
            where a DMARC record asks for more, and only what it is compared with has no answer in the DNS, that may be
            a name that a forger has chosen for it: then the mail goes into quarantine.
        """
        found = Decision("note")
        results = _results(outcome)
        for method in METHODS:
            result = results[method]
            rules = self._rules.get((method, result))
            if rules is None:
                continue
            action = _mildest(rules, _sender(outcome, method), domains)
            if action == "refuse" and result == "temperror" and not later:
                known = method == "dmarc" and outcome.dmarc.policy in ("reject", "quarantine")
                action = "quarantine" if known else "note"
                if action == found.action == "note" and not found.method:
                    found = _decision(action, method, result, outcome, found.overridden)
            if method == "dmarc" and action != "note" and outcome.vouched:
                found = found._replace(overridden=True)
            elif _strength(action, result) > found.strength:
                found = _decision(action, method, result, outcome, found.overridden)
        return found


def _results(outcome: Outcome) -> dict[str, str]:
    """The word of each method that rules are about."""
    dmarc = outcome.dmarc
    asks = dmarc.result is Result.FAIL and dmarc.asked in ("reject", "quarantine")
    return {
        "from": _author(outcome.author),
        "iprev": str(outcome.iprev.result),
        "helo": str(outcome.helo_spf.result),
        "spf": str(outcome.spf.result),
        "dkim": str(outcome.dkim_result),
        "dmarc": dmarc.asked if asks else str(dmarc.result),
        "arc": str(outcome.arc.result),
    }


def _author(author: Author) -> str:
    if not author.problem:
        return "pass"
    return "fail" if author.grave else "permerror"


def _sender(outcome: Outcome, method: str) -> str:
    """Whose mail it is, as a check of this method sees it."""
    if method == "spf":
        return outcome.spf.domain
    if method == "helo":
        return outcome.helo_spf.domain
    if method == "iprev":
        return _key(outcome.iprev.name)
    return outcome.author.domain


def _key(domain: str) -> str:
    try:
        return domain_key(domain) if domain else ""
    except ValueError:
        return ""


def _mildest(rules: list[CheckRule], sender: str, domains: Collection[str]) -> Action:
    """For each recipient the first rule that fits counts; a mail for several is treated as the mildest says."""
    actions = {_first(rules, sender, domain) for domain in domains or ("",)}
    return min(actions, key=_MILD.index)


def _first(rules: list[CheckRule], sender: str, recipient: str) -> Action:
    for rule in rules:
        for_sender = not rule.senders or any(fits(one, sender) for one in rule.senders)
        if for_sender and (not rule.recipients or any(fits(one, recipient) for one in rule.recipients)):
            return rule.action
    return "note"


def _decision(action: Action, method: str, result: str, outcome: Outcome, overridden: bool) -> Decision:
    words = one_line(_words(method, result, outcome))
    code, reason = _CODES[method]
    if result == "temperror":
        reason = Reason.CHECK_LATER
    if action != "refuse":
        return Decision(action, method, reason, None, words, overridden)
    if result == "temperror":
        reply = Reply.make(451, _LATER, f"{words}; please try again later", reason)
    else:
        if result == "permerror" and method in ("spf", "helo"):
            code = _SPF_ERROR
        reply = Reply.make(550, code, words, reason)
    return Decision(action, method, reason, reply, words, overridden)


def _words(method: str, result: str, outcome: Outcome) -> str:
    """What happened, for the person whose mail it was."""
    match method:
        case "from":
            return f"Nobody can be sure who wrote this: {outcome.author.problem}"
        case "iprev":
            return outcome.iprev.problem or f"iprev={result} (client {outcome.client})"
        case "helo":
            return _spf_words("the name in EHLO", outcome.helo_spf, outcome.client)
        case "spf":
            return _spf_words("the reverse-path", outcome.spf, outcome.client)
        case "dkim":
            problem = next((one.problem for one in outcome.dkim if one.result == result and one.problem), "")
            return f"DKIM of {outcome.author.domain or 'the mail'}: {problem or result}"
        case "dmarc":
            return _dmarc_words(outcome)
        case _:
            return f"ARC: {outcome.arc.problem or result}"


def _spf_words(identity: str, spf: Spf, client: str) -> str:
    result, domain = spf.result, spf.domain
    if result in (Result.FAIL, Result.SOFTFAIL):
        words = f"SPF of {domain} does not let {client} send for {identity}"
        mechanism, explanation = spf.mechanism, spf.explanation
        words += f" ({mechanism})" if mechanism else ""
        return f"{words}; {domain} says: {explanation}" if explanation else words
    return f"SPF of {domain}: {spf.problem or result} (client {client})"


def _dmarc_words(outcome: Outcome) -> str:
    dmarc = outcome.dmarc
    if dmarc.result is not Result.FAIL:
        return f"DMARC of {dmarc.domain}: {dmarc.problem or dmarc.result}"
    spf, dkim = str(outcome.spf.result), str(outcome.dkim_result)
    if outcome.spf.result is Result.PASS:
        spf += f" for {outcome.spf.domain}, not {dmarc.domain}"
    else:
        spf += f" (client {outcome.client})"
    if outcome.dkim_result is Result.PASS:
        signers = ", ".join(one.domain for one in outcome.dkim if one.result is Result.PASS)
        dkim += f" for {signers}, not {dmarc.domain}"
    asked = f"asks to {dmarc.asked}" if dmarc.asked in ("reject", "quarantine") else "fails"
    return f"DMARC of {dmarc.domain} {asked}: spf={spf}, dkim={dkim}"
