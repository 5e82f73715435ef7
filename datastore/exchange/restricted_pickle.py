"""Embeddings out of pickle files, without ever unpickling: nothing that a file names is looked up, called or imported.

A pickle is a program for a small machine, some instructions of which call any function by its name. This machine knows
the instructions that build numbers, texts, bytes, lists, tuples and dicts, and takes the few names that NumPy's arrays
are written with for signs of an array, which it makes itself of the bytes. Any other instruction or name is refused.
What it understands is what MassiveDS and CompactDS keep their embeddings in: a tuple or list of ids and an array.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datastore.errors import InvalidArgument

_ARRAY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}
_BUFFER = {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}
_SCALAR = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}
_NDARRAY = ("numpy", "ndarray")
_DTYPE = ("numpy", "dtype")
_ENCODE = ("_codecs", "encode")
_NAMES = _ARRAY | _BUFFER | _SCALAR | {_NDARRAY, _DTYPE, _ENCODE}
_KINDS = frozenset("fiuU")
"""Of array elements: floats, integers and texts."""
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_STRINGS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8")
_VALUES = frozenset({*_NUMBERS, *_STRINGS})
"""Instructions whose argument is the value."""
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A name in the file: a sign, never what it names."""

    value: tuple[str, str]


@dataclass
class _Array:
    """An array that is being put together."""

    value: np.ndarray[Any, Any] | None = None


@dataclass
class _Type:
    """An element type that is being put together."""

    code: str
    order: str = "<"

    def numpy(self) -> np.dtype[Any]:
        if not self.code or self.code[0] not in _KINDS or not self.code[1:].isdecimal():
            raise ValueError(f"elements of the type {self.code!r}")
        return np.dtype((">" if self.order == ">" else "<") + self.code)


def read_arrays(path: Path) -> Any:
    """What the file holds: numbers, texts, lists, tuples, dicts and arrays.

    Raises:
        InvalidArgument: it holds anything else, or is no pickle.
    """
    try:
        return _finished(_run(path.read_bytes()), {})
    except InvalidArgument:
        raise
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be read: {error.strerror}", mend="check the path", field="input"
        ) from None
    except Exception as error:  # a file may be wrong in any way
        raise InvalidArgument(
            f"{path} holds more than ids and an array of numbers: {error or type(error).__name__}",
            mend="write ids and embeddings with numpy.save, where you trust the file",
            field="embeddings",
        ) from None


def _run(data: bytes) -> Any:
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return machine.stack.pop()
        parts = (machine.value, machine.container, machine.memory, machine.call)
        if not any(part(opcode.name, argument) for part in parts):
            raise ValueError(f"the instruction {opcode.name}")
    raise ValueError("it ends early")


class _Machine:
    """Its methods carry out one instruction, if it is one of theirs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def value(self, name: str, argument: Any) -> bool:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name == "BYTEARRAY8":
            self.stack.append(bytes(argument))
        return name in _VALUES or name in _CONSTANTS or name in ("BYTEARRAY8", "PROTO", "FRAME")

    def container(self, name: str, argument: Any) -> bool:
        stack = self.stack
        if name == "MARK":
            stack.append(_MARK)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "LIST":
            stack.append(self._to_mark())
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [stack.pop() for _ in range(int(name[-1]))]
            stack.append(tuple(reversed(items)))
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [stack.pop()]
            _list(stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _dict(stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        else:
            return False
        return True

    def memory(self, name: str, argument: Any) -> bool:
        if name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        else:
            return False
        return True

    def call(self, name: str, argument: Any) -> bool:
        """What would call something elsewhere."""
        stack = self.stack
        if name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_named(stack.pop(-2), stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_made(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _built(stack[-1], state)
        else:
            return False
        return True

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a container without a beginning")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError("an append to what is no list")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if type(value) is not dict:
        raise TypeError("an item of what is no dict")
    return value


def _named(module: str, function: str) -> _Name:
    name = (str(module), str(function))
    if name not in _NAMES:
        raise ValueError(f"the name {'.'.join(name)}")
    return _Name(name)


def _made(what: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(what, _Name):
        raise TypeError("a call of what is no name")
    name = what.value
    if name in _ARRAY:
        return _Array()
    if name == _DTYPE:
        return _Type(str(arguments[0]))
    if name == _ENCODE:
        text, encoding = arguments
        if encoding != "latin1":
            raise ValueError(f"the encoding {encoding!r}")
        return str(text).encode("latin1")
    if name in _BUFFER:
        data, kind, shape, order = arguments
        return _Array(_array(kind, shape, data, fortran=order == "F"))
    if name in _SCALAR:
        kind, data = arguments
        return _array(kind, (), data, fortran=False)[()]
    raise ValueError(f"a call of {'.'.join(name)}")


def _built(what: Any, state: Any) -> None:
    if isinstance(what, _Type):
        what.order = str(state[1])
    elif isinstance(what, _Array):
        _, shape, kind, fortran, data = state
        what.value = _array(kind, shape, data, fortran=bool(fortran))
    else:
        raise TypeError("a state for what is no array")


def _array(kind: Any, shape: Any, data: Any, *, fortran: bool) -> np.ndarray[Any, Any]:
    if not isinstance(kind, _Type) or not isinstance(data, bytes):
        raise TypeError("an array without a type or bytes")
    flat = np.frombuffer(data, kind.numpy())
    return flat.reshape(tuple(int(size) for size in shape), order="F" if fortran else "C")


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """With arrays in the place of what stood for them.

    Args:
        done: containers by their identity: one may be in many others, and those in many again, which written out would
            never end.
    """
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Name | _Type):
        raise TypeError("a name that is no value")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without its state")
        return value.value
    finished = value
    if isinstance(value, tuple):
        finished = tuple(_finished(item, done) for item in value)
    elif isinstance(value, list):
        if any(isinstance(item, _Array | tuple | list) for item in value):
            finished = [_finished(item, done) for item in value]
    elif isinstance(value, dict):
        finished = {key: _finished(item, done) for key, item in value.items()}
    else:
        return value
    done[id(value)] = finished
    return finished
