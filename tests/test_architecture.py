"""The import table of the architecture, held by reading every module's source, and a few rules that go with it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

import twisted_mail_node

ROOT = Path(__file__).parents[1]
NAME = "twisted_mail_node"
PACKAGE = ROOT / NAME

#: What stands in which layer; a module may import those below it, and those beside it but for layer 3.
LAYERS: dict[int, tuple[str, ...]] = {
    4: (
        "service",
        "service_inbound",
        "service_outbound",
        "service_signing",
        "service_tls",
        "tap",
        "admin",
        "reference_docs",
    ),
    3: ("inbound", "outbound", "delivery", "report"),
    2: ("policy", "queue", "routing", "routing_conditions", "directory", "signing", "net"),
    1: (
        "spool",
        "state",
        "dns",
        "events",
        "events_outbound",
        "events_checked",
        "events_signing",
        "eventlog",
        "threads",
        "waiting",
        "settings",
    ),
    0: ("message", "smtp", "mailauth", "reasons"),
}
LAYER_OF = {part: layer for layer, parts in LAYERS.items() for part in parts}
#: Parts of layer 3 know each other nowhere but here.
EXCEPTIONS = {("delivery.lmtp", "outbound.connection")}
#: Who may import the reactor; ``tac`` files may, too.
REACTOR = ("tap", "admin")
#: A file is one idea. 200 lines are the aim, this is the end.
LINES_MAX = 450
#: A .tac file only says which service to run.
TAC_LINES_MAX = 15


class Module(NamedTuple):
    """A module of the package: its name below the package (``smtp.server``), its file and what it imports."""

    name: str
    path: Path
    tree: ast.Module
    imports: frozenset[str]

    @property
    def part(self) -> str:
        """What the table calls it: the first word of its name. ``settings_routes`` and the like belong to settings."""
        first = self.name.partition(".")[0]
        return "settings" if first.startswith("settings_") else first


def imports_of(node: ast.AST) -> Iterator[str]:
    """Every module a source imports, at its top or in a function, as full names; not what only types need."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for other in node.orelse:
            yield from imports_of(other)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports_of(child)


@cache
def modules() -> list[Module]:
    """Every module of the package but its own ``__init__``."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name == "__init__":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.append(Module(name, path, tree, frozenset(imports_of(tree))))
    return found


def ours(module: Module) -> Iterator[tuple[str, str]]:
    """What a module imports of the package: (part, module) without the package's name; only from other parts."""
    for imported in module.imports:
        if imported.startswith(f"{NAME}."):
            below = imported.removeprefix(f"{NAME}.")
            first = below.partition(".")[0]
            part = "settings" if first.startswith("settings_") else first
            if part != module.part:
                yield part, below


def reactors(tree: ast.AST) -> bool:
    """Whether a source imports the reactor."""
    return "twisted.internet.reactor" in set(imports_of(tree))


class ImportTest(SynchronousTestCase):
    """Imports run one way."""

    def setUp(self) -> None:
        self.modules = modules()

    def test_everything_has_a_layer(self) -> None:
        """Every module belongs to a part that stands in the table; interfaces stand beside it."""
        unknown = {module.part for module in self.modules} - set(LAYER_OF) - {"interfaces"}
        self.assertEqual(unknown, set())

    def test_downwards(self) -> None:
        """No module imports a part of a layer above its own, and no part of layer 3 another one."""
        wrong = []
        for module in self.modules:
            if module.part == "interfaces":
                continue
            layer = LAYER_OF[module.part]
            for part, below in ours(module):
                if part == "interfaces":
                    continue
                beside = LAYER_OF[part] == layer == 3 and not any(
                    module.name == one and below.startswith(other) for one, other in EXCEPTIONS
                )
                if LAYER_OF[part] > layer or beside:
                    wrong.append(f"{module.name} (layer {layer}) imports {below} (layer {LAYER_OF[part]})")
        self.assertEqual(wrong, [])

    def test_no_circle(self) -> None:
        """Parts beside each other in a layer do not import each other in a circle."""
        graph: dict[str, set[str]] = {}
        for module in self.modules:
            graph.setdefault(module.part, set()).update(part for part, _ in ours(module))
        del graph["service"], graph["admin"]  # the composition root starts the control socket, which may ask anybody
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            self.fail(f"a circle of imports: {error.args[1]}")
        self.assertLess(order.index("message"), order.index("inbound"))

    def test_interfaces(self) -> None:
        """interfaces imports nothing but zope and the standard library's typing."""
        found = next(module for module in self.modules if module.name == "interfaces")
        allowed = ("zope.interface.", "typing.", "__future__.")
        self.assertEqual([name for name in found.imports if not name.startswith(allowed)], [])

    def test_the_wire_is_pure(self) -> None:
        """Nothing of layer 0 imports Twisted, whatever a type checker may read there."""
        wrong = [
            f"{module.name} imports {name}"
            for module in self.modules
            if LAYER_OF.get(module.part) == 0
            for name in module.imports
            if name.partition(".")[0] in ("twisted", "zope")
        ]
        self.assertEqual(wrong, [])

    def test_relative_imports(self) -> None:
        """Imports name the whole module, so that this table can be read off them."""
        wrong = [module.name for module in self.modules if any(name.startswith(".") for name in module.imports)]
        self.assertEqual(wrong, [])

    def test_reactor(self) -> None:
        """Nobody imports the reactor but tap, admin and tac files."""
        having = {module.name for module in self.modules if reactors(module.tree)}
        self.assertEqual({name for name in having if name.partition(".")[0] not in REACTOR}, set())

    def test_reactor_is_not_installed_by_import(self) -> None:
        """Those that may import the reactor do so in the function that runs it: importing the module installs none."""
        for module in self.modules:
            with self.subTest(module=module.name):
                top = [node for node in module.tree.body if isinstance(node, ast.ImportFrom)]
                self.assertFalse(any(reactors(node) for node in top))


class PublicNamesTest(SynchronousTestCase):
    """What people coming from Twisted look for."""

    def test_importable(self) -> None:
        """The five public names, and the version, are importable from the package."""
        for name in ("ESMTPFactory", "MaildirStore", "RelayManager", "OutgoingQueue", "MailNode"):
            with self.subTest(name=name):
                self.assertEqual(getattr(twisted_mail_node, name).__name__, name)
                self.assertIn(name, twisted_mail_node.__all__)
        self.assertRegex(twisted_mail_node.__version__, r"^\d+\.\d+\.\d+$")

    def test_unknown(self) -> None:
        """Another name is an AttributeError that names it."""
        with self.assertRaisesRegex(AttributeError, "Mailbag"):
            _ = twisted_mail_node.Mailbag


class FilesTest(SynchronousTestCase):
    """A file is one idea, and says which."""

    def sources(self) -> list[Path]:
        """Every Python file of the project but the tests, which mirror it."""
        found = [*PACKAGE.rglob("*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py")]
        return [*found, *ROOT.glob("twisted/plugins/*.py")]

    def test_length(self) -> None:
        """No file is longer than a person reads at a sitting."""
        lines = {str(path.relative_to(ROOT)): path.read_bytes().count(b"\n") for path in self.sources()}
        self.assertEqual({path: count for path, count in lines.items() if count > LINES_MAX}, {})

    def test_docstrings(self) -> None:
        """Every module says in its first sentence what it is for, the tests' too."""
        paths = [*self.sources(), *ROOT.glob("tests/**/*.py")]
        without = []
        for path in paths:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if not any(mark in docstring.split("\n\n")[0] for mark in ".:?"):
                without.append(str(path.relative_to(ROOT)))
        self.assertEqual(without, [])

    def test_tac(self) -> None:
        """A .tac file has at most 15 lines."""
        paths = list(ROOT.glob("tac/*.tac"))
        self.assertGreaterEqual(len(paths), 2)
        for path in paths:
            with self.subTest(path=path.name):
                self.assertLessEqual(len(path.read_text(encoding="utf-8").splitlines()), TAC_LINES_MAX)
