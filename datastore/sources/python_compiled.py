"""Documentation of the library's compiled modules: those that are safe to import, and have no Python source."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from textwrap import indent
from types import ModuleType

from datastore.sources.python_source import Entry

COMPILED_MODULES = {
    "array": "array",
    "atexit": "atexit",
    "binascii": "binascii",
    "builtins": "builtins",
    "cmath": "cmath",
    "_collections": "collections",
    "_contextvars": "contextvars",
    "_csv": "csv",
    "errno": "errno",
    "faulthandler": "faulthandler",
    "fcntl": "fcntl",
    "gc": "gc",
    "grp": "grp",
    "itertools": "itertools",
    "marshal": "marshal",
    "math": "math",
    "mmap": "mmap",
    "posix": "os",
    "pwd": "pwd",
    "pyexpat": "pyexpat",
    "_queue": "queue",
    "resource": "resource",
    "select": "select",
    "_signal": "signal",
    "_socket": "socket",
    "_sqlite3": "sqlite3",
    "_struct": "struct",
    "sys": "sys",
    "syslog": "syslog",
    "termios": "termios",
    "time": "time",
    "unicodedata": "unicodedata",
    "_weakref": "weakref",
    "zlib": "zlib",
}
"""Module -> the name that it is known by. Importing any of them has no side effect."""

_BOUND_PARAMETER = re.compile(r"\$\w+(, )?(/(, )?)?")
"""`$self, /, `: the module or object that a function is called on."""


def available_modules() -> list[str]:
    """Those of COMPILED_MODULES that this Python has, in the order of their public names."""
    return sorted(filter(find_spec, COMPILED_MODULES), key=COMPILED_MODULES.__getitem__)


def compiled_entries(module_name: str) -> Iterator[Entry]:
    """The module's own documentation, then its public classes, each with its public methods, and functions."""
    module = importlib.import_module(module_name)
    public_name = COMPILED_MODULES[module_name]
    if text := _docstring(module):
        yield Entry("module", public_name, text, module_name)
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or getattr(value, "__name__", "") != name:  # private, a constant, or an alias
            continue
        qualified = name if public_name == "builtins" else f"{public_name}.{name}"
        if inspect.isclass(value):
            if text := _class_text(value):
                yield Entry("class", qualified, text, module_name)
        elif inspect.isroutine(value) and (text := _function_text(name, value)):
            yield Entry("function", qualified, text, module_name)


def _docstring(value: ModuleType | object) -> str:
    return inspect.cleandoc(getattr(value, "__doc__", None) or "")


def _function_text(name: str, value: object) -> str:
    docstring = _docstring(value)
    return f"{name}{_signature(value)}\n\n{docstring}" if docstring else ""


def _class_text(value: type) -> str:
    methods = [
        indent(text, "    ")
        for name, member in sorted(vars(value).items())
        if not name.startswith("_") and (text := _function_text(name, member))
    ]
    docstring = _docstring(value)
    return (
        "\n\n".join(filter(None, [f"class {value.__name__}{_signature(value)}", docstring, *methods]))
        if docstring or methods
        else ""
    )


def _signature(value: object) -> str:
    """As `(iterable, /)`; empty where the object does not say, as its docstring's first line then often does.

    Read from the text and not by `inspect.signature`, which evaluates defaults and fails on some of the library's own.
    """
    text: str = getattr(value, "__text_signature__", None) or ""
    return _BOUND_PARAMETER.sub("", text)
