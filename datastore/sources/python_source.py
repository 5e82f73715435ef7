"""Documentation in the library's Python source files, read as syntax trees: no module is imported or run."""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Literal, NamedTuple

from datastore.sources.rejects import RefusedError

PUBLIC_NAMES = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "_threading_local": "threading",
    "posixpath": "os.path",
}
"""Modules of the library that are meant to be known by another name."""

EXCLUDED = frozenset(
    ["__main__", "antigravity", "idlelib", "lib2to3", "ntpath", "pydoc_data", "test", "tests", "this", "turtledemo"]
)
"""Tests, jokes, programs, data, and the other system's twin of os.path."""

_EVERYTHING = "*"


class Entry(NamedTuple):
    """The documentation of one thing, under its public name, and the place that it is at."""

    kind: Literal["topic", "module", "class", "function"]
    name: str
    text: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module of the library with its source file."""

    name: str
    path: Path

    @property
    def public_name(self) -> str:
        return PUBLIC_NAMES.get(self.name, self.name)

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.public_name.split("."))


def find_modules(library: Path, names: Sequence[str]) -> list[ModuleFile]:
    """The modules of these top-level names and below them that lie in `library`, in the order of their public names."""
    found: list[ModuleFile] = []
    for name in names:
        if name in EXCLUDED:
            continue
        if (path := library / f"{name}.py").is_file():
            found.append(ModuleFile(name, path))
        else:
            found.extend(_find_package(name, library / name))
    return sorted(found, key=lambda module: (module.public_name, module.public_name != module.name))


def _find_package(name: str, folder: Path) -> Iterator[ModuleFile]:
    if not (init := folder / "__init__.py").is_file():
        return
    yield ModuleFile(name, init)
    for path in folder.iterdir():
        if path.stem in EXCLUDED or path.name == "__init__.py":
            continue
        if path.suffix == ".py":
            yield ModuleFile(f"{name}.{path.stem}", path)
        elif path.is_dir():
            yield from _find_package(f"{name}.{path.name}", path)


class SourceReader:
    """Reads the documentation of modules, each thing under the name that its package exports it by."""

    def __init__(self, modules: Sequence[ModuleFile]) -> None:
        self._exports: dict[str, dict[str, str]] = {}
        for package in modules:
            if package.path.name == "__init__.py":
                for module, name in _reexports(package):
                    self._exports.setdefault(module, {}).setdefault(name, package.public_name)

    def entries(self, module: ModuleFile) -> Iterator[Entry]:
        """The module's docstring, its public classes, each with its public methods, and its functions, as in the file.

        What has no docstring is left out, and so is what a private module does not export through its package.

        Raises:
            RefusedError: the file is not Python.
        """
        tree = _parse(module.path)
        exports = self._exports.get(module.name, {})
        owners = dict.fromkeys(_exported_names(tree), exports[_EVERYTHING]) if _EVERYTHING in exports else {}
        owners |= exports
        file = str(module.path)
        if module.is_public and (docstring := ast.get_docstring(tree)):
            yield Entry("module", module.public_name, docstring, file, 1)
        for node in _definitions(tree.body):
            owner = owners.get(node.name, module.public_name if module.is_public else "")
            if not owner or node.name.startswith("_"):
                continue
            name = f"{owner}.{node.name}"
            if isinstance(node, ast.ClassDef):
                if text := _class_text(node):
                    yield Entry("class", name, text, file, node.lineno)
            elif text := _function_text(node):
                yield Entry("function", name, text, file, node.lineno)


def _parse(path: Path) -> ast.Module:
    try:
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the library's source
            return ast.parse(file.read())
    except (SyntaxError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise RefusedError("not Python", str(error)) from error


def _reexports(package: ModuleFile) -> Iterator[tuple[str, str]]:
    """(module of the package, name) for each `from .module import name` of its `__init__`."""
    try:
        tree = _parse(package.path)
    except RefusedError:  # `entries` says so
        return
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            module = f"{package.name}.{node.module}" if node.level == 1 else node.module or ""
            if module.startswith(f"{package.name}."):
                yield from ((module, name.name) for name in node.names if name.asname is None)


def _exported_names(tree: ast.Module) -> frozenset[str]:
    """What `from module import *` brings: `__all__`, or else every public name that is defined."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == "__all__" for at in node.targets):
            return frozenset(str(at.value) for at in ast.walk(node.value) if isinstance(at, ast.Constant))
    return frozenset(node.name for node in _definitions(tree.body) if not node.name.startswith("_"))


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class, those under `if` and `try` too."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)
            if isinstance(node, ast.Try):
                for handler in node.handlers:
                    yield from _statements(handler.body)
            yield from _statements(node.orelse)
        else:
            yield node


def _definitions(body: Sequence[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    return (
        node for node in _statements(body) if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _function_text(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    docstring = ast.get_docstring(node)
    if not docstring:
        return ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}\n\n{docstring}"


def _class_text(node: ast.ClassDef) -> str:
    methods: dict[str, str] = {}
    for method in _definitions(node.body):
        if isinstance(method, ast.ClassDef) or (method.name.startswith("_") and method.name != "__init__"):
            continue
        if text := _function_text(method):
            methods.setdefault(method.name, indent(text, "    "))
    parts = [ast.get_docstring(node) or "", *methods.values()]
    if not any(parts):
        return ""
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    return "\n\n".join([f"class {node.name}{bases}", *filter(None, parts)])
