"""Tests of README and docs: the pages are well-formed, and what they name, run and set exists and works."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import smtplib
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import Reporter
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node import reference_docs
from twisted_mail_node.admin.cli import main
from twisted_mail_node.eventlog import event_name
from twisted_mail_node.message.cause import Kind, causes
from twisted_mail_node.policy.plugins import policies
from twisted_mail_node.policy.verdict import Asked, Hold
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import PolicySettings, Settings, load, parse

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "twisted_mail_node"
#: Seconds for a process of an example to say what it should, and to end.
WAIT = 30.0

#: What a part of a settings file is completed with before it is read.
NAME = 'hostname = "mx.example.org"\n'
LISTENER = '[[listener]]\nkind = "mx"\nendpoint = "tcp:2525:interface=127.0.0.1"\n'
DOMAIN = '[[domain]]\nname = "example.org"\n'
#: Runs the node that stands before it: sends a mail, waits until it is delivered, and ends.
DRIVER = """
from twisted.internet.defer import Deferred
from twisted_mail_node.events import RecipientDelivered

delivered = Deferred()

@implementer(IMailObserver)
class Done:
    def observe(self, event):
        if isinstance(event, RecipientDelivered):
            print("delivered", event.recipient)
            delivered.callback(None)

async def run():
    node.publish.observers.append(Done())
    await node.startService()
    await send(node, Address("demo", "mail.test"), b"Subject: hello\\r\\n\\r\\nFrom a program.\\r\\n")
    await delivered
    await node.stopService()

def begin():
    Deferred.fromCoroutine(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(begin)
reactor.run()
"""

_RFC = re.compile(r"RFC (\d+)")
_KEBAB = re.compile(r"[a-z]+(?:-[a-z]+)+\Z")
#: Words with hyphens in the pages that are neither events nor reasons.
OTHER_WORDS = {"subject-words"}


def pages() -> list[Path]:
    """README, changelog and everything below docs."""
    return [ROOT / "README.rst", ROOT / "CHANGELOG.rst", *sorted((ROOT / "docs").glob("*.rst"))]


@cache
def tree(path: Path) -> nodes.document:
    """A page, parsed; what is wrong with it becomes ``system_message`` nodes."""
    settings = {"report_level": Reporter.WARNING_LEVEL, "halt_level": 5, "warning_stream": False}
    return publish_doctree(path.read_text("utf-8"), str(path), settings_overrides=settings)


def literals(path: Path) -> Iterator[str]:
    """The text of every inline literal of a page."""
    yield from (node.astext() for node in tree(path).findall(nodes.literal))


def blocks(path: Path, language: str = "") -> Iterator[str]:
    """The text of every literal block of a page, or of those in one language."""
    for node in tree(path).findall(nodes.literal_block):
        if not language or language in node["classes"]:
            yield node.astext()


def python_blocks(page: str) -> list[str]:
    """The Python of a page of docs."""
    return list(blocks(ROOT / "docs" / page, "python"))


def commands(path: Path) -> Iterator[list[str]]:
    """Every command line of ``mailnode`` that a page shows, split into the words behind it."""
    for text in literals(path):
        if text.startswith("mailnode "):
            yield shlex.split(text)[1:]
    for block in blocks(path):
        for line in block.splitlines():
            words = shlex.split(line, comments=True) if "mailnode" in line and line.count('"') % 2 == 0 else []
            names = [at for at, word in enumerate(words) if word.rpartition("/")[2] == "mailnode" and "=" not in word]
            before = words[: names[0]] if names else ["twistd"]
            is_version = len(words) > 1 and words[1][:1].isdigit()  # what ``mailnode run`` prints first
            if all(word == "$" or "=" in word for word in before) and not is_version:
                yield words[names[0] + 1 :]


def problem_of(words: list[str]) -> str:
    """Why the command line cannot be; ``""`` when it can."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        found = command.commands.get(rest[0])
        if found is None:
            return f"no such command: mailnode {' '.join(words)}"
        command = found
        rest.pop(0)
    options = {name for parameter in command.params for name in parameter.opts}
    unknown = [word for word in rest if word.startswith("-") and word not in options | {"-h", "--help"}]
    return f"no such option {unknown[0]}: mailnode {' '.join(words)}" if unknown else ""


def completed(text: str) -> Settings:
    """The settings of a whole file, or of a part of one."""
    given = tomllib.loads(text)
    if "hostname" in given:
        return parse(text)
    at = text.find("[")
    top, tables = (text[:at], text[at:]) if re.match(r"(?m)\A(?:[^\[]*\n)?\[", text) else (text, "")
    rest = ("" if "listener" in given else LISTENER) + ("" if "domain" in given else DOMAIN)
    return parse(f"{NAME}{top}\n{rest}\n{tables}")


def settle(awaited: Any) -> Any:
    """What a coroutine that waits for nothing gives."""
    results: list[Any] = []
    Deferred.fromCoroutine(awaited).addCallbacks(results.append, lambda failure: failure.raiseException())
    return results[0]


def wait_for(what: Callable[[], Any], words: str) -> Any:
    """Ask again and again until something true comes."""
    end = time.monotonic() + WAIT
    while not (found := what()):
        if time.monotonic() > end:
            raise AssertionError(f"{words} did not happen within {WAIT:g} s")
        time.sleep(0.02)
    return found


class PagesTest(SynchronousTestCase):
    """The pages themselves."""

    def test_well_formed(self) -> None:
        """Every page parses without a warning."""
        for path in pages():
            with self.subTest(page=path.name):
                messages = tree(path).findall(nodes.system_message)
                wrong = [node.astext() for node in messages if node["level"] >= Reporter.WARNING_LEVEL]
                self.assertEqual(wrong, [])

    def test_links(self) -> None:
        """What a page links to is there."""
        for path in pages():
            for link in tree(path).findall(nodes.reference):
                target = link.get("refuri", "")
                if target and not re.match(r"\w+:", target):
                    with self.subTest(page=path.name, link=target):
                        self.assertTrue((path.parent / target).exists())

    def test_files(self) -> None:
        """Files that a page names are there: in the project, or in the package."""
        known = re.compile(r"(?:docs|examples|tac|tests|benchmarks|twisted_mail_node)/[\w./]*\Z|\w[\w/]*\.py\Z")
        for path in pages():
            for text in literals(path):
                if known.match(text) and text != "server.py":
                    with self.subTest(page=path.name, file=text):
                        self.assertTrue((ROOT / text).exists() or (PACKAGE / text).exists(), text)

    def test_modules(self) -> None:
        """Dotted names in the package can be imported."""
        for path in pages():
            for text in literals(path):
                if re.fullmatch(r"twisted_mail_node(?:\.\w+)+", text):
                    with self.subTest(page=path.name, name=text):
                        module, _, name = text.rpartition(".")
                        try:
                            import_module(text)
                        except ModuleNotFoundError:
                            self.assertTrue(hasattr(import_module(module), name), text)

    def test_commands(self) -> None:
        """Every ``mailnode`` command with its options exists."""
        count = 0
        for path in pages():
            for words in commands(path):
                with self.subTest(page=path.name, command=" ".join(words)):
                    count += 1
                    self.assertEqual(problem_of(words), "")
        self.assertGreater(count, 30)

    def test_wrong_commands_are_seen(self) -> None:
        """The check above finds what does not exist."""
        self.assertIn("no such command", problem_of(["queue", "flush"]))
        self.assertIn("no such option", problem_of(["queue", "list", "--flush"]))

    def test_settings(self) -> None:
        """Every example of settings is accepted."""
        count = 0
        for path in pages():
            for text in blocks(path, "toml"):
                with self.subTest(page=path.name, text=text):
                    count += 1
                    self.assertTrue(completed(text).hostname)
        self.assertGreater(count, 5)

    def test_events_and_reasons(self) -> None:
        """Words with hyphens are names of events or codes of reasons."""
        known = {event_name(event) for event in reference_docs.event_classes()} | {str(reason) for reason in Reason}
        for name in ("flow.rst", "queue.rst", "spool.rst", "policy.rst", "library.rst"):
            path = ROOT / "docs" / name
            found = {text for text in literals(path) if _KEBAB.match(text)}
            with self.subTest(page=name):
                self.assertEqual(found - known - OTHER_WORDS, set())

    def test_tree(self) -> None:
        """The tree in the architecture names every module of the package, and no other."""
        block = next(text for text in blocks(ROOT / "docs" / "architecture.rst") if "interfaces.py" in text)
        named: set[str] = set()
        folder = ""
        for line in block.splitlines():
            depth, (word, *_) = len(line) - len(line.lstrip()), line.split() or [""]
            if depth == 2:
                folder = word if word.endswith("/") else ""
            if depth and word.endswith(".py"):
                named.add((folder if depth == 4 else "") + word)
        there = {str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"}
        self.assertEqual(named, there)


class RfcTest(SynchronousTestCase):
    """docs/rfc.rst."""

    def rows(self) -> Iterator[tuple[str, str, list[str]]]:
        """RFC, section and files of each line of the tables."""
        for row in tree(ROOT / "docs" / "rfc.rst").findall(nodes.row):
            cells = [cell.astext() for cell in row.findall(nodes.entry)]
            if len(cells) == 4 and not cells[0].startswith("RFC"):
                continue  # the table of test vectors
            files = [literal.astext() for literal in row.findall(nodes.literal) if literal.astext().endswith(".py")]
            if cells[0] not in ("Section", "RFC"):
                number, section = (cells[0], cells[1]) if cells[0].startswith("RFC") else ("RFC 5321", cells[0])
                yield number, section, files

    def test_cited_where_it_says(self) -> None:
        """Each file in the tables cites the RFC, and the section where one is named."""
        rows = list(self.rows())
        self.assertGreater(len(rows), 60)
        for number, section, files in rows:
            self.assertTrue(files, f"{number} {section}")
            for file in files:
                with self.subTest(rfc=number, section=section, file=file):
                    text = (PACKAGE / file).read_text("utf-8")
                    self.assertRegex(text, rf"{number}\b")
                    if section:
                        self.assertRegex(text, rf"section {re.escape(section)}(?!\d)")

    def test_complete(self) -> None:
        """Every RFC that the package cites stands on the page."""
        page = set(_RFC.findall((ROOT / "docs" / "rfc.rst").read_text("utf-8")))
        for file in sorted(PACKAGE.rglob("*.py")):
            with self.subTest(file=str(file.relative_to(PACKAGE))):
                self.assertEqual(set(_RFC.findall(file.read_text("utf-8"))) - page, set())


class ReferenceTest(SynchronousTestCase):
    """docs/reasons.rst, docs/events.rst and docs/causes.rst."""

    def test_up_to_date(self) -> None:
        """The pages are what their generator writes."""
        for name, page in reference_docs.PAGES.items():
            again = f"run: python -m twisted_mail_node.reference_docs {name} > docs/{name}.rst"
            with self.subTest(page=name):
                self.assertEqual((ROOT / "docs" / f"{name}.rst").read_text("utf-8"), page(), again)

    def test_complete(self) -> None:
        """Every reason, every event and every cause has its entry, with its sentence."""
        reasons, events = reference_docs.reasons_page(), reference_docs.events_page()
        for reason in Reason:
            self.assertIn(f"``{reason}``\n   {reason.meaning}\n", reasons)
        for event in reference_docs.event_classes():
            self.assertIn(f"\n{event_name(event)}\n---", events)
        page = reference_docs.causes_page()
        self.assertEqual(set(reference_docs.KINDS), set(Kind))
        for cause in causes():
            self.assertEqual(page.count(f"\n``{cause.code}``\n   "), 1)
            self.assertIn(cause.title.replace("*", "\\*"), page)

    def test_fields(self) -> None:
        """Every field of an event is explained, and nothing else."""
        self.assertEqual(set(reference_docs.FIELDS), reference_docs.used_fields())

    def test_kept_for_later(self) -> None:
        """The reasons listed as not given are those that no module names, but those that only read reasons."""
        readers = ("reasons.py", "reference_docs.py", "cause.py")
        others = [path for path in PACKAGE.rglob("*.py") if path.name not in readers]
        source = "\n".join(path.read_text("utf-8") for path in others)
        unnamed = {reason for reason in Reason if not re.search(rf"Reason\.{reason.name}\b", source)}
        self.assertEqual(unnamed, reference_docs.KEPT_FOR_LATER)

    def test_command(self) -> None:
        """The generator prints the page it is asked for, and says so when there is none."""
        self.assertEqual(reference_docs.page(["reasons"]), reference_docs.reasons_page())
        error = self.assertRaises(SystemExit, reference_docs.page, ["colours"])
        self.assertIn("reasons or events", str(error))


class ExamplesTest(SynchronousTestCase):
    """What the pages and examples/ show, run."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def environment(self) -> dict[str, str]:
        """Of a process that finds the project, and plug-ins in our directory."""
        return os.environ | {"PYTHONPATH": f"{self.directory}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}

    def test_settings_file(self) -> None:
        """examples/settings.toml is accepted, and says something in every section."""
        settings = load(ROOT / "examples" / "settings.toml")
        self.assertEqual([listener.kind for listener in settings.listeners], ["mx", "submission", "submission"])
        self.assertTrue(settings.aliases and settings.routes and settings.accounts)

    def test_settings_file_commented(self) -> None:
        """What examples/settings.toml has behind a # is accepted, too, once the # is gone."""
        text = (ROOT / "examples" / "settings.toml").read_text("utf-8")
        settings = parse(re.sub(r"^#(?=\[\[|\w+ = )", "", text, flags=re.MULTILINE), self.directory)
        self.assertTrue(settings.destinations and settings.sources and settings.outbound.pin)
        self.assertEqual([rule.username for rule in settings.routes], [None, None, "joe@provider.example"])

    def test_python(self) -> None:
        """All Python in the pages is Python."""
        for path in pages():
            for text in blocks(path, "python"):
                with self.subTest(page=path.name):
                    self.assertTrue(ast.parse(text).body)

    def test_policy(self) -> None:
        """The policy of docs/policy.rst holds what it should, and refuses wrong options."""
        place: dict[str, Any] = {}
        exec(compile(python_blocks("policy.rst")[0], "policy.rst", "exec"), place)  # noqa: S102
        wanted = PolicySettings(name="subject-words", options={"words": ["Casino"]})
        (policy,) = policies([wanted], lambda: [place["maker"]])
        asked = Asked("1", "mx", "192.0.2.1", header=b"Subject: our CASINO\r\n\r\n")
        self.assertIsInstance(settle(policy.content(asked)), Hold)
        asked.header = b"Subject: hello\r\n\r\n"
        self.assertIsNone(settle(policy.content(asked)))
        wrong = PolicySettings(name="subject-words", options={"word": "x"})
        self.assertRaisesRegex(ValueError, "nothing else", policies, [wrong], lambda: [place["maker"]])

    def test_policy_is_found(self) -> None:
        """A file in a twisted/plugins folder on the path is found by the name that the settings say."""
        plugins = self.directory / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        settings = self.directory / "settings.toml"
        table = '[[policy]]\nname = "subject-words"\nwords = ["lottery"]\n'
        settings.write_text(f"{NAME}{LISTENER}{DOMAIN}{table}", "utf-8")
        command = [sys.executable, "-m", "twisted_mail_node.admin.cli", "check-config", "-c", str(settings)]
        without = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=WAIT)
        self.assertEqual((without.returncode, "no policy 'subject-words' is installed" in without.stderr), (2, True))
        (plugins / "subject_words.py").write_text(python_blocks("policy.rst")[0], "utf-8")
        found = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=WAIT)
        self.assertEqual((found.returncode, found.stderr), (0, ""))

    def test_server(self) -> None:
        """The server of docs/library.rst delivers to joe and to the robot, reports, and ends in order."""
        program = self.directory / "server.py"
        program.write_text(python_blocks("library.rst")[0], "utf-8")
        process, said = self._started([sys.executable, str(program), str(self.directory / "home"), "0"])
        port = wait_for(lambda: re.search(r"listening on (\d+)", said()), "listening")[1]
        with smtplib.SMTP("127.0.0.1", int(port), timeout=WAIT) as client:
            both = ["joe@example.org", "robot@example.org"]
            client.sendmail("joe@example.org", both, "Subject: one\r\n\r\nplease\r\n")
            client.sendmail("joe@example.org", both[1], "Subject: two\r\n\r\nnow\r\n")
            for stranger in ("ann@example.org", "ann@elsewhere.example"):
                error = self.assertRaises(
                    smtplib.SMTPRecipientsRefused, client.sendmail, "", stranger, "Subject: x\r\n"
                )
                self.assertEqual(error.recipients[stranger][0], 550)
        new = self.directory / "home" / "joe" / "new"
        wait_for(lambda: said().count("MailFinished") == 3, "the end of all mails")
        mails = sorted(file.read_text("utf-8") for file in new.iterdir())
        self.assertEqual(len(mails), 2)
        self.assertTrue(any("Subject: one" in mail for mail in mails))
        self.assertTrue(any("wants to be asked nicely" in mail for mail in mails))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(WAIT), 0, said())
        self.assertNotIn("Traceback", said())

    def test_node(self) -> None:
        """The node of docs/library.rst runs inside a program, and takes the mail that the program sends by itself."""
        made, send = python_blocks("library.rst")[1:]
        listener = 'development().listeners[0].model_copy(update={"endpoint": "tcp:0:interface=127.0.0.1"})'
        made = made.replace("development()", f'development().model_copy(update={{"listeners": ({listener},)}})', 1)
        program = f"{made}\n{send}\n{DRIVER}"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=self.directory, env=self.environment(), capture_output=True,
            text=True, timeout=WAIT,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        (file,) = (self.directory / "var" / "mail" / "mail.test" / "demo" / "new").iterdir()
        self.assertIn("From a program.", file.read_text("utf-8"))
        self.assertIn("delivered", done.stdout)

    def test_journey(self) -> None:
        """The events of a mail that docs/flow.rst names come in its order when a node runs with README's settings."""
        text = re.sub(r"tcp:2\d\d\d", "tcp:0", next(blocks(ROOT / "README.rst", "toml")))
        (self.directory / "settings.toml").write_text(text, "utf-8")
        self.assertEqual(text.count("tcp:0:"), 3)
        process, _ = self._started([sys.executable, "-m", "twisted_mail_node.admin.cli", "run", "-c", "settings.toml"])
        command = [sys.executable, "-m", "twisted_mail_node.admin.cli"]
        log = self.directory / "var" / "log" / "mail.jsonl"
        wait_for(lambda: log.exists() and "node-started" in log.read_text("utf-8"), "the start of the node")
        status = subprocess.run(
            [*command, "status", "-c", "settings.toml", "--json"], cwd=self.directory, env=self.environment(),
            capture_output=True, text=True, timeout=WAIT,
        )  # fmt: skip
        port = re.search(r":(\d+)$", json.loads(status.stdout)["listeners"][0]["address"])
        assert port is not None
        tested = subprocess.run(
            [*command, "test", "-c", "settings.toml", "--port", port[1]], cwd=self.directory, env=self.environment(),
            capture_output=True, text=True, timeout=2 * WAIT,
        )  # fmt: skip
        self.assertIn("The mail has arrived", tested.stdout)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(WAIT), 0)
        names = [json.loads(line)["event"] for line in log.read_text("utf-8").splitlines()]
        expected = ["session-opened", "mail-accepted", "recipient-delivered", "mail-finished", "node-stopped"]
        self.assertEqual([name for name in names if name in expected], expected)
        page = (ROOT / "docs" / "flow.rst").read_text("utf-8")
        for name in expected[:-1]:
            self.assertIn(f"``{name}``", page)

    def _started(self, command: list[str]) -> tuple[subprocess.Popen[bytes], Callable[[], str]]:
        """A process in our directory, and what it has said so far. It is ended with the test."""
        output = self.directory / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self.directory, env=self.environment(), stdout=file, stderr=subprocess.STDOUT
            )

        def end() -> None:
            if process.poll() is None:
                process.kill()
            process.wait(WAIT)

        self.addCleanup(end)
        return process, lambda: output.read_text("utf-8")
