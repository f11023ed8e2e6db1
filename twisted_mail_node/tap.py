"""``twistd mailnode -c settings.toml``: the options of the twistd plug-in and the service it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from twisted.application.service import IService
from twisted.python import usage

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings

#: The environment variable that stands for ``--config``, as for ``mailnode``.
VARIABLE = "MAILNODE_SETTINGS"
#: Exit code when the settings are wrong.
WRONG_SETTINGS = 2


class Options(usage.Options):
    """The options of ``twistd mailnode``."""

    synopsis = "[-c settings.toml]"
    longdesc = "A mail node: receives, keeps, delivers and relays mail."
    optParameters = [
        [
            "config",
            "c",
            None,
            f"The settings (TOML). Default: ${VARIABLE}, else the development settings with their state in ./var.",
        ],
    ]


def makeService(options: Options) -> IService:
    """The node of the settings that ``options`` name.

    :raises SystemExit: (code 2) the settings are wrong; every problem was printed.
    """
    from twisted.internet import reactor
    from twisted_mail_node.service import MailNode

    given = options["config"] or os.environ.get(VARIABLE)
    # twistd changes its directory when it becomes a daemon
    path = Path(given).absolute() if given else None
    node: IService = MailNode(read_settings(path), reactor, path)
    return node


def read_settings(path: Path | None) -> Settings:
    """The settings of a file, or the development settings.

    :raises SystemExit: (code 2) they are wrong; every problem was printed.
    """
    from twisted_mail_node import settings

    if path is None:
        return settings.development()
    try:
        return settings.load(path)
    except settings.SettingsError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"the settings {path} cannot be read: {error.strerror or error}")


def _refuse(words: str) -> NoReturn:
    print(words, file=sys.stderr)
    raise SystemExit(WRONG_SETTINGS)
