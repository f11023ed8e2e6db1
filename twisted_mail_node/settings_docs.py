"""Writes ``docs/settings.rst`` from the settings' own fields: ``python -m twisted_mail_node.settings_docs > …``."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twisted_mail_node.settings import Settings
from twisted_mail_node.settings_reading import Allowed, keys_of, model_in

INTRODUCTION = """\
Settings
========

.. This page is generated: ``python -m twisted_mail_node.settings_docs > docs/settings.rst``. Change the sentences in
   ``twisted_mail_node/settings.py``.

The node reads one TOML file. It starts only when everything in it is right; otherwise it names every problem at once:
the key, what it holds, what is allowed. Unknown keys are problems too. ``[[listener]]`` and other tables in double
brackets may stand there several times; messages count them from one: ``listener[2].endpoint`` is a key of the second.
Keys without a table stand at the top of the file, before the first table.

**Sizes** are octets as a number, or text with ``K``, ``M``, ``G`` or ``T`` (powers of 1024). **Durations** are seconds
as a number, or text with ``s``, ``m``, ``h``, ``d`` or ``w``. ``state_dir`` is relative to the directory the node is
started in; other paths are below ``state_dir`` unless they are absolute.

"""

EXAMPLE = """\
hostname = "mx.example.org"
state_dir = "var"
relay_from = ["192.0.2.0/24"]

[[listener]]
kind = "mx"
endpoint = "tcp:2525:interface=127.0.0.1"

[[domain]]
name = "example.org"
subaddress_separator = "+"

[[account]]
address = "joe@example.org"

[[alias]]
address = "sales@example.org"
to = ["joe@example.org", "ann@elsewhere.example"]

[[route]]
domain = "partner.example"
next_hop = "[192.0.2.7]:25"

[queue]
retry = ["1m", "5m", "15m", "1h"]
"""

CLOSING = """\
Names that always exist
-----------------------

``postmaster`` and ``abuse`` take mail in every local domain, in any case (RFC 5321 section 4.5.1, RFC 2142). Without an
account or alias of their own, mail for ``abuse`` goes to ``postmaster``, and mail for ``postmaster`` to the domain's
catch-all, else to its first account, else into a Maildir named ``postmaster``. ``<postmaster>`` without a domain
means the local domain named like the host, else the first.

Which address wins
------------------

A local-part is looked for as it is written, then without regard to case, then without its subaddress; each time among
accounts and aliases together. Where an address is both, the alias is followed, and an alias that names its own address
keeps a copy in the account. Then come the names that always exist, then the catch-all.
"""


def page() -> str:
    """The whole page, reStructuredText."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield INTRODUCTION
    yield _heading("An example")
    yield ".. code-block:: toml\n\n" + "".join(f"   {line}\n" if line else "\n" for line in EXAMPLE.split("\n")[:-1])
    yield "\n"
    yield _heading("At the top of the file")
    tables: list[tuple[str, FieldInfo, type[BaseModel]]] = []
    for key, field in keys_of(Settings).items():
        model = model_in(field.annotation)
        if model is None:
            yield _entry(key, field)
        else:
            tables.append((key, field, model))
    for key, field, model in tables:
        yield _heading(f"[{key}]" if field.annotation is model else f"[[{key}]]")
        yield " ".join((model.__doc__ or "").split()) + "\n\n"
        for inner, inner_field in keys_of(model).items():
            yield _entry(inner, inner_field)
    yield CLOSING


def _heading(text: str) -> str:
    return f"{text}\n{'-' * len(text)}\n\n"


def _entry(key: str, field: FieldInfo) -> str:
    """One key: its sentence, what is allowed, its default. A policy's ``options`` are no key of the file."""
    allowed = next((one for one in field.metadata if isinstance(one, Allowed)), None)
    if allowed is None:
        return ""
    lines = [f"``{key}``", f"   {field.description}", "", f"   Allowed: {_escaped(allowed.text)}."]
    lines += ["", f"   {_default(field, allowed)}"]
    return "\n".join(lines) + "\n\n"


def _default(field: FieldInfo, allowed: Allowed) -> str:
    if field.is_required():
        return "Must be given."
    if field.default is None:
        return "Default: none."
    return f"Default: ``{allowed.spell(field.default) if allowed.spell else field.default}``."


def _escaped(text: str) -> str:
    """Text in which reStructuredText sees no markup."""
    for mark in "\\*`_|":
        text = text.replace(mark, "\\" + mark)
    return text


if __name__ == "__main__":
    print(page(), end="")
