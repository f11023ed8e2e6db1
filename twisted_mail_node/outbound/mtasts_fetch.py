"""Fetches MTA-STS policy files (RFC 8461 section 3.3): by HTTPS from ``mta-sts.DOMAIN``, as ``net.https`` asks it.

What that guards, in short (attack T37): no redirects, 64 KiB, one minute for all, a certificate that is good for
``mta-sts.DOMAIN``, public addresses only.
"""

from __future__ import annotations

from twisted_mail_node.net.https import Https, HttpsError
from twisted_mail_node.outbound.mtasts import POLICY_MAX

HTTPS_PORT = 443


class FetchError(Exception):
    """There is no policy file.

    :ivar words: a sentence for a person.
    :ivar result: what reports call it (RFC 8460 section 4.3).
    """

    def __init__(self, words: str, result: str) -> None:
        super().__init__(words)
        self.words = words
        self.result = result


class PolicyFetch:
    """``await fetch(domain)`` gives the octets of the policy file.

    :param port: another one is for tests.
    """

    def __init__(self, https: Https, port: int = HTTPS_PORT) -> None:
        self._https = https
        self._port = "" if port == HTTPS_PORT else f":{port}"

    async def __call__(self, domain: str) -> bytes:
        """The policy file of a domain.

        :param domain: in A-labels.
        :raises FetchError: there is none.
        """
        url = f"https://mta-sts.{domain}{self._port}/.well-known/mta-sts.txt"
        try:
            page = await self._https.get(url, POLICY_MAX)
        except HttpsError as error:
            result = "sts-webpki-invalid" if error.certificate else "sts-policy-fetch-error"
            raise FetchError(f"mta-sts.{domain}: {error.words}", result) from None
        if page.status != 200:
            # 3yz is not followed: whoever may redirect there would own the policy.
            raise FetchError(f"mta-sts.{domain} answers {page.status}", "sts-policy-fetch-error")
        if page.kind != "text/plain":
            words = f"mta-sts.{domain} gives no text/plain, but {page.kind or 'nothing with a type'}"
            raise FetchError(words, "sts-policy-fetch-error")
        return page.octets
