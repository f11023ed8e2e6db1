"""The demo account of a node that is tried out: how to sign in to it.

``mailnode run`` without settings gives it a password. It is made at random at the first start and kept, readable for
its owner alone, in ``state_dir/demo-password``, so that the lines to paste go on working at the next start.
"""

from __future__ import annotations

import os
import shlex
import string
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from twisted_mail_node.admin.testmail import place_of

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings

#: Below ``state_dir``.
FILE_NAME = "demo-password"
#: Octets of the file that are read; a password is shorter.
FILE_MAX = 2048


def with_password(settings: Settings) -> Settings:
    """The settings, in which the first account has the password of the file. Makes the file where there is none. Takes
    a tenth of a second.

    :raises OSError: the file cannot be made or read.
    :raises ValueError: it holds what cannot be a password.
    """
    from twisted_mail_node.directory.account_keys import spell_scram
    from twisted_mail_node.directory.account_secrets import Secrets
    from twisted_mail_node.directory.passwords import hash_password

    password = _kept(settings.state_dir / FILE_NAME)
    try:
        hashed = hash_password(password)
    except ValueError as error:
        raise ValueError(f"{settings.state_dir / FILE_NAME} holds no password: {error}") from None
    secrets = Secrets().with_salt()
    scram = spell_scram(secrets.salt, secrets.iterations, secrets.derive(password, ("SHA-256",)))
    demo, *others = settings.accounts
    demo = demo.model_copy(update={"password": hashed, "scram": scram})
    return settings.model_copy(update={"accounts": (demo, *others)})


def _kept(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(_made() + "\n")
    with open(path, encoding="utf-8") as file:
        return file.read(FILE_MAX).rstrip("\n")


def _made() -> str:
    from secrets import choice

    return "".join(choice(string.ascii_letters + string.digits) for _ in range(20))


def how_to_sign_in(settings: Settings) -> Iterator[str]:
    """A line for people and one to paste, which sends a mail through the first submission listener with STARTTLS.

    The line reads the password from its file: it is shown nowhere. The certificate is one the node made itself, so it
    is not checked.
    """
    listeners = [one for one in settings.listeners if one.kind == "submission" and one.tls == "starttls"]
    place = place_of(listeners[0].endpoint) if listeners else None
    if place is None or not settings.accounts or settings.accounts[0].password is None:
        return
    name, file = str(settings.accounts[0].address), _short(settings.state_dir / FILE_NAME)
    yield f"  sign in    as {name} with the password in {file}"
    yield (
        f"Send a mail: printf 'From: {name}\\nSubject: hello\\n\\nIt works.\\n' | curl -sS -k --ssl-reqd --crlf "
        f'-u "{name}:$(cat {shlex.quote(file)})" --mail-from {name} --mail-rcpt {name} -T - '
        f"smtp://{place.host}:{place.port}"
    )


def _short(path: Path) -> str:
    """As it is typed here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
