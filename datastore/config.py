"""How a datastore is to be built: one frozen tree of settings, from defaults, a TOML file and the command's options."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from datastore.cleaning.settings import CleanSettings
from datastore.errors import InvalidArgument, NotFound
from datastore.quantities import parse_bytes

_STRICT = ConfigDict(extra="forbid")
IndexChoice = Literal["auto", "flat", "ivf-pq", "ivf-pq4", "ivf-rabitq"]


@dataclass(frozen=True, slots=True)
class ChunkConfig:
    __pydantic_config__ = _STRICT
    words: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """Words in a passage at most, for the chunker `words`; 0 keeps each document whole."""
    chunker: Literal["words", "tokens", "sentences", "structure"] = "words"
    tokens: Annotated[int, Field(ge=8, le=1_000_000)] | None = None
    """The encoder's tokens in a passage's text at most, for the other chunkers; None for 256."""
    overlap: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Words or tokens that a passage may have in common with the one before it; at most half of its size."""

    @property
    def size(self) -> int:
        """In the chunker's own unit, words or tokens."""
        return self.words if self.chunker == "words" else self.tokens or 256

    def __post_init__(self) -> None:
        if self.chunker == "words" and self.tokens is not None:
            raise ValueError("tokens are for the chunkers tokens, sentences and structure; the chunker is words")
        if 2 * self.overlap > self.size:
            unit = "words" if self.chunker == "words" else "tokens"
            raise ValueError(
                f"the overlap is {self.overlap}; of {self.size} {unit} at most {self.size // 2} can overlap"
            )


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    __pydantic_config__ = _STRICT
    name: Annotated[str, Field(min_length=1)] = "all-minilm-l6-v2"
    """A registered encoder, a model's hub name, or the path of a model's folder."""
    revision: str | None = None
    """Of a hub model: commit, tag or branch."""
    query_prompt: str | None = None
    """Put before every query; None takes the model's own."""
    passage_prompt: str | None = None
    normalize: bool = True
    """Scale vectors to length 1, so that the inner product is the cosine."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32


def _memory(value: object) -> object:
    return parse_bytes(value, "index.memory") if isinstance(value, str) else value


def _task_bytes(value: object) -> object:
    return parse_bytes(value, "input.task_bytes") if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class IndexConfig:
    __pydantic_config__ = _STRICT
    kind: IndexChoice = "auto"
    nlist: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    """Lists of an IVF index; None chooses from the number of passages."""
    pq_m: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Sub-quantizers of a code: bytes of an ivf-pq code, half bytes of an ivf-pq4 code; None chooses by dimension."""
    copies: Annotated[int, Field(ge=1, le=2)] | None = None
    """Lists that a passage is put into, for ivf-pq4 and ivf-rabitq: a second one costs as much memory again and spares
    most probes. None takes two, if memory allows."""
    bits: Annotated[int, Field(ge=1, le=8)] = 1
    """Of each dimension, for ivf-rabitq."""
    memory: Annotated[int, Field(ge=1), BeforeValidator(_memory)] | None = None
    """Bytes that the index may take when it is open, as a number or as `2GiB`; None sets no limit."""
    train_vectors: Annotated[int, Field(ge=256)] = 262_144
    """Size of the training sample at most."""
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    tune_queries: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Stored vectors that the build measures recall with, unless the index is exact; 0 for not at all."""


@dataclass(frozen=True, slots=True)
class Bm25Config:
    __pydantic_config__ = _STRICT
    analyzer: str = "english"
    k1: Annotated[float, Field(ge=0, le=100)] = 0.9
    b: Annotated[float, Field(ge=0, le=1)] = 0.4


@dataclass(frozen=True, slots=True)
class InputConfig:
    __pydantic_config__ = _STRICT
    max_rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The build fails when more than this share of all input records is rejected."""
    max_document_bytes: Annotated[int, Field(ge=1024, le=1 << 32)] = 64 << 20
    """A larger record or file is rejected; of a compressed one, what comes out of it counts."""
    text_field: Annotated[str, Field(min_length=1)] = "text"
    """Where records (JSON Lines, Parquet, datasets) keep their text."""
    id_field: Annotated[str, Field(min_length=1)] | None = None
    """Where they keep their id; None takes the first of `_id` and `id` that is there."""
    title_field: Annotated[str, Field(min_length=1)] = "title"
    task_bytes: Annotated[int, Field(ge=1), BeforeValidator(_task_bytes)] | None = None
    """Bytes of input in a task, as a number or as `64MiB`; None takes a 64th of the input, 4 to 256 MiB."""


@dataclass(frozen=True, slots=True)
class SegmentConfig:
    __pydantic_config__ = _STRICT
    passages: Annotated[int, Field(ge=1)] | None = None
    """Passages in a segment at most; None grows segments with the datastore (see `segment_limit`)."""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """Everything that decides what a build makes of its input; the manifest keeps it, resolved."""

    __pydantic_config__ = _STRICT
    input: InputConfig = InputConfig()
    chunk: ChunkConfig = ChunkConfig()
    encoder: EncoderConfig = EncoderConfig()
    index: IndexConfig = IndexConfig()
    bm25: Bm25Config = Bm25Config()
    segment: SegmentConfig = SegmentConfig()
    clean: CleanSettings = field(default_factory=CleanSettings)


def segment_limit(config: SegmentConfig, passages_so_far: int) -> int:
    """Passages that the next segment holds at most.

    Unless configured: an eighth of what lies before it, between 1,024 and 131,072. So even a small datastore spreads
    over several shards, a large one has few segments, and a builder's memory is bounded by one segment.
    """
    if config.passages is not None:
        return config.passages
    return min(max(1024, passages_so_far // 8), 131_072)


_ADAPTER = TypeAdapter(BuildConfig)


def load_config(path: Path | None, options: Mapping[str, Mapping[str, Any]]) -> BuildConfig:
    """Defaults, then the TOML file, then `options` (section -> key -> value; None means not given).

    Raises:
        NotFound: there is no such file.
        InvalidArgument: the file is not TOML, a key or value is not one of ours, or two do not go together.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFound(f"no config file {path}", mend="check the path given to --config") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidArgument(
                f"{path} cannot be read as TOML: {error}", mend="mend the file", field="config"
            ) from None
    _merge(tree, options)
    chunk = tree.get("chunk", {})
    if isinstance(chunk, dict) and "words" in chunk and chunk.get("chunker", "words") != "words":
        raise InvalidArgument(
            f"chunk.words is {chunk['words']}, and the chunker is {chunk['chunker']}, which counts tokens",
            mend="give the size in tokens (--chunk-tokens, chunk.tokens), or take the chunker words",
            field="chunk.words",
        )
    try:
        return _ADAPTER.validate_python(tree)
    except ValidationError as error:
        raise _refusal(error.errors()[0], path) from None


def _refusal(error: ErrorDetails, path: Path | None) -> InvalidArgument:
    """The first thing that is wrong with a tree of settings, in words."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        problem = f"there is no setting {where}"
        meant = _meant(where)
        mend = f"write {meant}" if meant else f"leave out {where}"
    elif error["type"] == "value_error":  # our own words, of settings that do not go together
        problem = str(error["ctx"]["error"])
        mend = f"correct {where}"
    else:
        problem = f"{where or 'the config'} is {error['input']!r}: {error['msg']}"
        mend = f"correct {where or 'it'}"
    return InvalidArgument(problem, mend=f"{mend} in {path or 'the options'}", field=where)


def _meant(where: str) -> str | None:
    """The setting that one of no such name was most likely to be: in another table, or spelt otherwise in this one."""
    table, _, key = where.rpartition(".")
    names = [name.rpartition(".") for name in _setting_names(BuildConfig)]
    elsewhere = [".".join((at, name)) for at, _, name in names if name == key and at]
    if elsewhere:
        return elsewhere[0]
    close = difflib.get_close_matches(key, [name for at, _, name in names if at == table], 1)
    return ".".join(filter(None, (table, *close))) if close else None


def _setting_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """All settings of a dataclass and those in it, as `table.key`."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner):
                yield from _setting_names(inner, f"{prefix}{name}.")


def _merge(tree: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Put the options that are given over what is there, table by table."""
    for key, value in options.items():
        if isinstance(value, Mapping) and not value:  # an empty table, as in a file: its defaults
            tree.setdefault(key, {})
        elif isinstance(value, Mapping):
            existing = tree.get(key, {})
            if isinstance(existing, dict):  # what is no table is refused with the rest
                _merge(existing, value)
                if existing:
                    tree[key] = existing
        elif value is not None:
            tree[key] = value
