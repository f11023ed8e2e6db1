"""Reads a settings file: octets to TOML to a table, and pydantic's findings to problems a person can mend."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from twisted_mail_node.settings_problems import Misspelt, Problem, SettingsError, did_you_mean, kind_of, shown

#: A settings file with 50 000 accounts has about 8 MiB; what is larger is not one.
FILE_MAX = 16 << 20

_PLACE = re.compile(r"(.*) \((?:at )?(line \d+, column \d+|end of document)\)\Z", re.DOTALL)


@dataclass(frozen=True)
class Allowed:
    """What a field may hold, in words; stands in the field's annotation.

    :ivar spell: writes the default as the file would have it.
    :ivar secret: the value must not be shown.
    """

    text: str
    spell: Callable[[Any], str] | None = None
    secret: bool = False


def read_text(path: Path) -> str:
    """The text of a settings file.

    :raises SettingsError: it is missing, unreadable, too large or not UTF-8.
    """
    name = str(path) if str(path).isprintable() else ascii(str(path))
    wanted = "a settings file in TOML, readable for this user"
    try:
        with open(path, "rb") as file:
            octets = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        raise SettingsError([Problem(name, "nothing: there is no such file", wanted)], name) from None
    except IsADirectoryError:
        raise SettingsError([Problem(name, "a directory", wanted)], name) from None
    except PermissionError:
        raise SettingsError([Problem(name, "a file that this user may not read", wanted)], name) from None
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise SettingsError([Problem(name, f"nothing that can be read: {words}", wanted)], name) from None
    if len(octets) > FILE_MAX:
        raise SettingsError([Problem(name, f"more than {FILE_MAX >> 20} MiB", wanted)], name)
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise SettingsError([Problem(f"{name}, line {line}", "octets that are not UTF-8", wanted)], name) from None


def read_toml(text: str, source: str) -> dict[str, Any]:
    """The table a TOML text stands for.

    :raises SettingsError: it is not TOML; the problem names line and column.
    """
    where = source or "The settings"
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.match(str(error))
        words, place = (match[1], match[2]) if match else (str(error), "")
        path = f"{where}, {place}" if place else where
        holds = f"something that is not TOML ({words[:1].lower()}{words[1:]})"
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets nested thousands deep.
        path, holds = where, "something that is too large or too deep to be settings"
    raise SettingsError([Problem(path, holds, "TOML; see https://toml.io")], source)


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """What pydantic found, in our words."""
    errors = error.errors(include_url=False)
    # A list is too short to pydantic, too, when what stands in it is wrong.
    wrong = {one["loc"][:-1] for one in errors}
    found = [_problem(one, model) for one in errors if one["type"] != "too_short" or one["loc"] not in wrong]
    return list(dict.fromkeys(found))


def key_path(loc: tuple[int | str, ...]) -> str:
    """``("listener", 1, "endpoint")`` → ``listener[2].endpoint``: people count from one."""
    path = ""
    for part in loc:
        path += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the keys the file has for them."""
    return {str(field.validation_alias or name): field for name, field in model.model_fields.items()}


def model_in(annotation: object) -> type[BaseModel] | None:
    """The model behind ``Limits`` or ``tuple[Listener, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_models(annotation), None)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _problem(error: Any, model: type[BaseModel]) -> Problem:
    loc: tuple[int | str, ...] = tuple(error["loc"])
    path, value = key_path(loc), error["input"]
    owner, field = _owner(loc, model)
    if error["type"] == "extra_forbidden":
        return _unknown_key(path, str(loc[-1]), value, owner, model)
    allowed = next((one for one in field.metadata if isinstance(one, Allowed)), None) if field else None
    holds = kind_of(value) if allowed and allowed.secret else shown(value)
    if error["type"] == "missing":
        return Problem(path, "nothing, but is needed", allowed.text if allowed else "a value")
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, Misspelt):
        return Problem(path, holds, cause.allowed, cause.hint)
    table = model_in(field.annotation) if field else None
    if table is not None:
        several = field is not None and field.annotation is not table
        name = str(loc[0])
        return Problem(
            path, kind_of(value), f"[[{name}]] tables, with double brackets" if several else f"a [{name}] table"
        )
    return Problem(path, holds, allowed.text if allowed else str(error["msg"]))


def _owner(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The model that has the key ``loc`` ends in, and the key's field."""
    owner, field = model, None
    for part in loc:
        if isinstance(part, int):
            continue
        if field is not None:
            inner = model_in(field.annotation)
            if inner is None:
                break
            owner = inner
        field = keys_of(owner).get(part)
        if field is None:
            break
    return owner, field


def _unknown_key(path: str, key: str, value: object, owner: type[BaseModel], model: type[BaseModel]) -> Problem:
    """An unknown key; its value is not shown, for it may be a misspelt ``password``."""
    known = keys_of(owner)
    hint = did_you_mean(key, known)
    above = None if owner is model else keys_of(model).get(key)
    if above is not None and model_in(above.annotation) is None:
        hint = f"'{key}' belongs at the top of the file, before the first table in brackets"
    path = path[: -len(key)] + (key if key.isprintable() and len(key) <= 60 else ascii(key[:60]))
    return Problem(path, f"{kind_of(value)}, but there is no such key", ", ".join(known), hint)
