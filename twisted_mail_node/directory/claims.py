"""What a bearer token says (RFC 7519 section 4.1, RFC 7662 section 2.2), and whether it is meant for us, now."""

from __future__ import annotations

from collections.abc import Mapping

from twisted_mail_node.settings import OAuthSettings

#: Seconds that the issuer's clock may be ahead of ours.
LEEWAY = 60.0


class TokenError(Exception):
    """A token is not good; a sentence that holds nothing of it."""


def name_in(claims: Mapping[str, object], settings: OAuthSettings, now: float, *, must_expire: bool) -> str:
    """Whom the token is for: the claim that the settings name.

    :param now: seconds since the epoch.
    :param must_expire: a token without ``exp`` is not good (RFC 9068 section 2.2).
    :raises TokenError: too late, too early, of another issuer, for another service, or without that claim.
    """
    expires, begins = _time(claims, "exp"), _time(claims, "nbf")
    if expires is None and must_expire:
        raise TokenError("the token has no exp")
    if expires is not None and now >= expires:
        raise TokenError("the token has expired")
    if begins is not None and now + LEEWAY < begins:
        raise TokenError("the token is not valid yet")
    if settings.issuer is not None and claims.get("iss") != settings.issuer:
        raise TokenError("the token is of another issuer")
    if settings.audience is not None and settings.audience not in _texts(claims.get("aud")):
        raise TokenError("the token is for another service")
    if settings.scope is not None and settings.scope not in _scopes(claims):
        raise TokenError(f"the token has not the scope {settings.scope}")
    name = claims.get(settings.name_claim)
    if not isinstance(name, str) or not name:
        raise TokenError(f"the token has no {settings.name_claim}")
    if settings.name_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
        # OpenID Connect Core 1.0 section 5.1: anybody may have written it there.
        raise TokenError("the issuer has not verified the address")
    return name


def expiry(claims: Mapping[str, object]) -> float | None:
    """When the token ends, seconds since the epoch. :raises TokenError: it is no number."""
    return _time(claims, "exp")


def _time(claims: Mapping[str, object], key: str) -> float | None:
    value = claims.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
        raise TokenError(f"the token's {key} is no time")
    return float(value)


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _scopes(claims: Mapping[str, object]) -> list[object]:
    """RFC 8693 section 4.2: words in one text; some issuers write a list, some call it ``scp``."""
    value = claims.get("scope", claims.get("scp"))
    return list(value.split()) if isinstance(value, str) else _texts(value)
