"""The closed list of reason codes: why something was accepted, refused, delayed or given up.

A code is what a program compares; the sentence behind it is what a person reads in ``docs/reasons.rst``.
Add a code with its sentence; never rename one, for logs and histories keep them.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A reason code and what it means."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    def __str__(self) -> str:
        return str(self.value)

    # accepted and done
    ACCEPTED = "accepted", "The mail is in the spool; from here on it is ours to deliver or to report."
    DELIVERED = "delivered", "The mail lies in the recipient's mailbox."
    RELAYED = "relayed", "The next hop took the mail over with a 250 after the final dot."
    EXPANDED = "expanded", "The address is an alias; the mail went to the addresses behind it."
    DISCARDED = "discarded", "A policy had the mail accepted and thrown away."
    HELD = "held", "The mail waits until an operator releases it."
    RELEASED = "released", "An operator released a held mail."
    REMOVED = "removed", "An operator removed the mail from the queue."
    REROUTED = "rerouted", "An operator sent the mail to another next hop."
    RETRIED = "retried", "An operator asked for an attempt at once."

    FROZEN = "frozen", "An operator froze the destination; nothing is tried there until it is thawed."
    SUPPRESSED = (
        "suppressed",
        "Mail to the address bounced again and again; it is not tried any more (the suppression list).",
    )

    # what a client did
    SYNTAX = "syntax", "The command line does not follow RFC 5321's grammar."
    UNKNOWN_COMMAND = "unknown-command", "The command is not one we know."
    NOT_IMPLEMENTED = "not-implemented", "The command or parameter is known, but not offered here."
    BAD_SEQUENCE = (
        "bad-sequence",
        "The command came at a moment when RFC 5321 section 4.1.4 does not allow it.",
    )
    BAD_PARAMETER = "bad-parameter", "A MAIL or RCPT parameter is unknown, repeated or malformed."
    LINE_TOO_LONG = "line-too-long", "A command line was longer than we take."
    BARE_NEWLINE = (
        "bare-newline",
        "A line ended in a bare LF or CR; only CRLF ends a line (RFC 5321 section 2.3.8).",
    )
    NOT_SMTP = "not-smtp", "The client speaks another protocol (HTTP or TLS) on an SMTP port."
    TOO_MANY_ERRORS = "too-many-errors", "The client sent more wrong or idle commands than we bear."
    SMTPUTF8_NEEDED = "smtputf8-needed", "An address or header text outside ASCII came without the SMTPUTF8 parameter."
    TIMEOUT = "timeout", "The client said nothing for longer than RFC 5321 section 4.5.3.2 asks us to wait."
    SESSION_DEADLINE = "session-deadline", "The session lasted longer than any session may."
    CONNECTION_LOST = "connection-lost", "The connection ended without QUIT."
    QUIT = "quit", "The client said QUIT."
    EARLY_TALKER = "early-talker", "The client spoke before our greeting."

    # what we refuse
    RELAY_DENIED = "relay-denied", "The recipient's domain is not ours and the client may not relay."
    UNKNOWN_RECIPIENT = "unknown-recipient", "The domain is ours, but nobody there has this address."
    ALIAS_LOOP = "alias-loop", "The aliases behind the address lead in a circle."
    SRS_FORGED = "srs-forged", "The address looks like a reverse-path that we rewrote (SRS), but we did not write it."
    SRS_EXPIRED = "srs-expired", "The address is a reverse-path that we rewrote (SRS) too long ago."
    BOUNCES_ONLY = "bounces-only", "The address is a reverse-path that we rewrote (SRS): only bounces may go there."
    AUTH_REQUIRED = "auth-required", "The submission listener takes mail only from who has signed in."
    ENCRYPTION_REQUIRED = "encryption-required", "The client must say STARTTLS first."
    HANDSHAKE_FAILED = "handshake-failed", "The TLS handshake came to nothing."
    UNKNOWN_MECHANISM = "unknown-mechanism", "The SASL mechanism is not offered here (RFC 4954 section 4)."
    SIGN_IN_CANCELLED = "sign-in-cancelled", "The client broke the AUTH exchange off."
    WRONG_PASSWORD = "wrong-password", "User name or password is wrong, or there is no such user."
    ACCOUNT_DISABLED = (
        "account-disabled",
        "The account is disabled; the password was right, or the client signed in before that.",
    )
    TOO_MANY_GUESSES = (
        "too-many-guesses",
        "Too many wrong passwords came from the client's address; it must wait before the next try.",
    )
    SIGN_IN_FAILED = "sign-in-failed", "Whether the password is right cannot be found out now."
    NOT_YOUR_ADDRESS = (
        "not-your-address",
        "A signed-in user wrote from an address (reverse-path, From or Sender) that is not the account's.",
    )
    BAD_FROM = "bad-from", "The From field is missing, repeated or cannot be understood, so nobody knows who wrote."
    IPREV_FAILED = "iprev-failed", "The client's address has no name in the DNS that leads back to it."
    SPF_FAILED = "spf-failed", "The domain of the reverse-path does not let this client send for it (SPF)."
    DKIM_FAILED = "dkim-failed", "No signature of the mail is good (DKIM)."
    DMARC_FAILED = (
        "dmarc-failed",
        "The mail does not show that it comes from the domain in From, and that domain's DMARC record asks to refuse "
        "or to quarantine it.",
    )
    ARC_FAILED = "arc-failed", "The seals of those who passed the mail on are broken (ARC)."
    CHECK_LATER = (
        "check-later",
        "Who sent the mail cannot be checked now, for the DNS does not answer; the next try is taken in any case.",
    )
    TOO_MANY_MAILS = "too-many-mails", "The account has sent as much as it may within the hour."
    BAD_PROXY = "bad-proxy", "The PROXY header or XCLIENT command of a named peer is malformed or came too late."
    MESSAGE_TOO_LARGE = "message-too-large", "The content is larger than the SIZE we announce."
    TOO_MANY_RECIPIENTS = "too-many-recipients", "The mail has more recipients than we take at once."
    NO_RECIPIENTS = "no-recipients", "DATA or BDAT came while no recipient was accepted."
    TOO_MANY_HOPS = (
        "too-many-hops",
        "The header holds so many Received fields that the mail must be in a loop.",
    )
    HEADER_TOO_LARGE = "header-too-large", "The header is larger than we take."
    MAILBOX_FULL = "mailbox-full", "The recipient's mailbox is over its quota."
    TOO_MANY_CONNECTIONS = "too-many-connections", "All our connections are in use."
    TOO_MANY_FROM_ADDRESS = "too-many-from-address", "This client address has too many connections open."
    SHUTTING_DOWN = "shutting-down", "The node is stopping; the client may try again soon."
    POLICY = "policy", "A policy refused it for a reason of its own."
    POLICY_FAILED = (
        "policy-failed",
        "A policy broke or took too long; nothing was decided, so: try again later.",
    )
    SPOOL_FAILED = "spool-failed", "The spool could not keep the mail; nothing was accepted."
    DISK_FULL = "disk-full", "The disk that holds the spool is full; nothing was accepted."

    # on the way out
    NULL_MX = "null-mx", "The domain says that it takes no mail (RFC 7505)."
    NO_SUCH_DOMAIN = "no-such-domain", "The DNS says that the domain does not exist."
    NO_MX_ADDRESS = "no-mx-address", "No mail exchanger of the domain has an address."
    MX_IS_OURSELVES = "mx-is-ourselves", "The best mail exchanger of the domain is this node: a mail loop."
    DNS_FAILED = "dns-failed", "The DNS did not answer, or answered with an error."
    CONNECT_FAILED = "connect-failed", "No connection to the host: refused, unreachable or timed out."
    HOST_NOT_READY = "host-not-ready", "The host greeted with 4yz, or closed before its greeting."
    HOST_REFUSED = "host-refused", "The host greeted with 5yz: it takes no mail from us."
    BAD_REPLY = "bad-reply", "The host's replies do not follow RFC 5321."
    REMOTE_TIMEOUT = "remote-timeout", "The host did not answer in time."
    UNCERTAIN = (
        "uncertain",
        "The connection ended after the final dot; the host may have the mail, so we wait.",
    )
    REMOTE_DELAYED = "remote-delayed", "The host answered 4yz."
    REMOTE_REFUSED = "remote-refused", "The host answered 5yz."
    TLS_FAILED = "tls-failed", "No TLS as the route asks for it: not offered, broken, or the certificate is not good."
    DANE_FAILED = "dane-failed", "The host does not show a certificate that its TLSA records allow (RFC 7672)."
    MTA_STS_FAILED = "mta-sts-failed", "The host does not fit the domain's MTA-STS policy (RFC 8461)."
    SIGN_IN_REFUSED = "sign-in-refused", "The next hop refused the name and password that the route has for it."
    NO_SOURCE = "no-source", "No address of the pool to connect from can reach the host."
    REQUIRETLS = "requiretls", "The mail needs REQUIRETLS (RFC 8689), and the way to the host cannot promise it."
    NOT_IN_TIME = "not-in-time", "The mail could not be delivered by the time its sender set (BY, RFC 2852)."
    EIGHT_BIT = "eight-bit", "The content needs 8BITMIME or BINARYMIME, which the host does not offer."
    SMTPUTF8 = "smtputf8", "The mail needs SMTPUTF8 (RFC 6531), which the host does not offer."
    TOO_LARGE_FOR_HOST = "too-large-for-host", "The content is larger than the SIZE the host announces."
    SUSPENDED = (
        "suspended",
        "The destination did not answer lately; no attempt is made until its suspension ends.",
    )
    PACED = "paced", "The destination's rate is used up (our setting); the mail goes when it is its turn."
    SLOWED = "slowed", "The destination asked for less mail at a time; it gets none for a while, then less."
    DESTINATION_BUSY = "destination-busy", "Too many mails wait for this destination; we look again soon."
    EXPIRED = "expired", "Every attempt within the mail's lifetime was delayed; we gave up."
    STORE_FAILED = "store-failed", "The mailbox could not be written; we try again."
    NO_ROUTE = "no-route", "No rule says where mail for this domain goes."
    INTERNAL = "internal", "Something broke in the node; the traceback is in the log."
