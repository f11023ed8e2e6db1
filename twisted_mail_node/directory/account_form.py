"""What stands in ``accounts.json``: its octets read into values and written from them, without a file.

Version 2; version 1, which had neither keys nor application passwords, is read too. Errors name the key that is wrong
and never what it holds: a password may stand where its hash should.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from twisted_mail_node.directory import account_keys
from twisted_mail_node.directory.account_secrets import APP_PASSWORDS_MAX, AppPassword, Secrets
from twisted_mail_node.directory.app_passwords import is_kept_form
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.settings import Account
from twisted_mail_node.settings_hashes import SCRAM_ITERATIONS_MAX, password_hash

#: The form that is written; a higher number means a newer node wrote the file.
VERSION = 2

#: An account's look-up spelling.
Name = tuple[str, str]

_ACCOUNT = {"address", "password", "quota", "disabled", "sends_as", "mails_per_hour"}
_SECRETS = {"salt", "iterations", "scram", "app_passwords"}
_APP = {"name", "hash", "created", "scram"}
_KEYS = {1: {"address", "password", "quota"}, 2: _ACCOUNT | _SECRETS}


class FormError(ValueError):
    """The octets are not of this form; a sentence whose subject is the file."""


@dataclass(slots=True)
class Kept:
    """Everything in the file.

    :ivar accounts: those that commands added, with their secrets.
    :ivar of_settings: secrets of accounts of the settings file.
    """

    accounts: dict[Name, tuple[Account, Secrets]] = field(default_factory=dict)
    of_settings: dict[Name, tuple[Address, Secrets]] = field(default_factory=dict)


def name_of(address: Address) -> Name:
    """The same for every spelling of the domain. :raises ValueError: the domain is no domain name."""
    return domain_key(address.domain), address.local_part


def understood(octets: bytes) -> Kept:
    """The values. :raises FormError: damaged, or of a newer form."""
    try:
        return _read(json.loads(octets))
    except ValidationError as error:
        loc = error.errors()[0]["loc"]
        raise FormError(f"is damaged: an account's {loc[0] if loc else 'entry'} is wrong") from None
    except FormError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormError("is damaged: it is not JSON as this node writes it") from None


def written(kept: Kept) -> bytes:
    """The octets."""
    table = {
        "version": VERSION,
        "accounts": [_account(account) | _secrets(secrets) for account, secrets in kept.accounts.values()],
        "of_settings": [
            {"address": str(address), "digest": secrets.digest, "password": secrets.password} | _secrets(secrets)
            for address, secrets in kept.of_settings.values()
        ],
    }
    return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _read(table: Any) -> Kept:
    version = table.get("version") if isinstance(table, dict) else None
    if version not in _KEYS or isinstance(version, bool):
        raise FormError(f"is not an account file of version {VERSION}")
    kept = Kept()
    for entry in _tables(table["accounts"], _KEYS[version]):
        account = Account.model_validate({key: entry[key] for key in _ACCOUNT & entry.keys()})
        kept.accounts.setdefault(name_of(account.address), (account, _secrets_of(entry, account.password)))
    for entry in _tables(table.get("of_settings", []), {"address", "digest", "password"} | _SECRETS):
        address = Account.model_validate({"address": entry["address"]}).address
        password = entry.get("password")
        secrets = _secrets_of(entry, None if password is None else password_hash(password), entry["digest"])
        kept.of_settings.setdefault(name_of(address), (address, secrets))
    return kept


def _tables(entries: Any, keys: set[str]) -> list[dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(one, dict) and one.keys() <= keys for one in entries):
        raise FormError("is damaged: its accounts are not a list of addresses")
    return entries


def _secrets_of(entry: dict[str, Any], password: str | None, digest: str = "") -> Secrets:
    salt = b64decode(_checked(entry, "salt", "", lambda value: isinstance(value, str) and len(value) < 200))
    iterations = _checked(
        entry, "iterations", 0, lambda value: type(value) is int and (0 if not salt else 1000) <= value
        and value <= SCRAM_ITERATIONS_MAX
    )  # fmt: skip
    apps = _checked(
        entry, "app_passwords", [], lambda value: isinstance(value, list) and len(value) <= APP_PASSWORDS_MAX
    )
    keys = account_keys.from_json(entry.get("scram", {}))
    _checked({"digest": digest}, "digest", "", lambda value: isinstance(value, str))
    return Secrets(password, salt, iterations, keys, tuple(map(_app_password, apps)), digest)


def _app_password(entry: Any) -> AppPassword:
    if not isinstance(entry, dict) or not entry.keys() <= _APP:
        raise FormError("is damaged: an application password is wrong")
    return AppPassword(
        _checked(entry, "name", None, lambda value: isinstance(value, str) and value.isprintable()),
        _checked(entry, "hash", None, lambda value: isinstance(value, str) and is_kept_form(value)),
        _checked(entry, "created", 0, lambda value: type(value) is int),
        account_keys.from_json(entry.get("scram", {})),
    )


def _checked(entry: dict[str, Any], key: str, default: Any, right: Callable[[Any], bool]) -> Any:
    value = entry.get(key, default)
    if not right(value):
        raise FormError(f"is damaged: an account's {key} is wrong")
    return value


def _account(account: Account) -> dict[str, Any]:
    table: dict[str, Any] = {
        "address": str(account.address),
        "password": account.password,
        "quota": account.quota,
        "disabled": account.disabled,
        "sends_as": list(account.sends_as),
        "mails_per_hour": account.mails_per_hour,
    }
    return table


def _secrets(secrets: Secrets) -> dict[str, Any]:
    return {
        "salt": b64encode(secrets.salt).decode("ascii"),
        "iterations": secrets.iterations,
        "scram": account_keys.as_json(secrets.keys),
        "app_passwords": [
            {"name": one.name, "hash": one.hash, "created": one.created, "scram": account_keys.as_json(one.keys)}
            for one in secrets.app_passwords
        ],
    }
