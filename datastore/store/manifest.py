"""The manifest: the one file that says what a datastore is. Publishing it is the commit of a generation.

`docs/FORMAT.md` specifies each field. The file carries a checksum of itself, so a changed byte is found at every open.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datastore.ann.drift import Drift
from datastore.ann.operating_curve import OperatingCurve
from datastore.ann.spec import IndexSpec
from datastore.config import BuildConfig
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from datastore.store.checksums import MEND, FileRecord, hash_bytes
from datastore.store.durable import fsync_path, replace_file
from datastore.store.refusals import exhausted

MANIFEST_NAME = "manifest.json"
OWN_FILE = re.compile(r"(rejects-\d+\.jsonl|template(-\d+)?\.(faiss|npz)|manifest\.json)(\.tmp)?")
"""Names in a store's folder that its writers make, beside folders; whatever else lies there is somebody's."""
GENERATIONS_FOLDER = "generations"
DELETIONS_FOLDER = "deletions"
FORMAT_NAME = "pergamon"
FORMAT_VERSION = 1
DELETIONS_FEATURE = "deletions"
SUPPORTED_FEATURES = frozenset({DELETIONS_FEATURE, "ivf-pq4", "ivf-rabitq"})
"""Features that a store may require of its reader beyond the base format."""

_CHECKSUM_NAME = "manifest_xxh3_128"
_NO_CHECKSUM = "0" * 32
_CHECKSUM_FIELD = re.compile(rf'"{_CHECKSUM_NAME}": "([0-9a-f]{{32}})"'.encode())
"""In the file: XXH3-128 of all its bytes with this value as 32 zeros."""


@dataclass(frozen=True, slots=True)
class Deletions:
    """Rows of a segment that are deleted: its files still have them, no search finds them."""

    file: FileRecord
    """See `datastore.store.deletions`."""
    passages: int
    documents: int


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """One immutable segment. Row `r` of every file is passage `r`, `0 <= r < passages`.

    Counts are of all rows, deleted ones too.
    """

    segment_id: str
    passages: int
    documents: int
    words: int
    tokens: int
    """In the encoder's own tokens."""
    truncated_passages: int
    """Passages longer than the encoder reads; their tail has no part in the vector, but is found by BM25."""
    files: tuple[FileRecord, ...]
    deletions: Deletions | None = None

    @property
    def live_passages(self) -> int:
        return self.passages - (self.deletions.passages if self.deletions else 0)

    @property
    def live_documents(self) -> int:
        return self.documents - (self.deletions.documents if self.deletions else 0)


@dataclass(frozen=True, slots=True)
class RejectSummary:
    """Input records left out of this generation, by reason; the file lists them."""

    total: int
    by_reason: dict[str, int]
    file: FileRecord | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of a datastore."""

    datastore_id: str
    generation: int
    created: str
    """UTC, ISO 8601."""
    writer: str
    """Program and version."""
    config: BuildConfig
    encoder: EncoderFingerprint
    index: IndexSpec
    template: FileRecord | None
    """The trained part of the index that all segments share; flat has none."""
    segments: tuple[SegmentRecord, ...]
    rejects: RejectSummary
    metric: str = "inner_product"
    format: str = FORMAT_NAME
    format_version: int = FORMAT_VERSION
    required_features: tuple[str, ...] = ()
    masked: dict[str, int] = field(default_factory=dict)
    """Places where cleaning put a tag for personal data, by kind."""
    log: FileRecord | None = None
    """What happened in the build, and when."""
    operating_curve: OperatingCurve | None = None
    """What recall costs; None where it was not measured, as with an index that is exact anyway."""
    drift: Drift | None = None
    """How well the index fits what was added since its training; None where nothing was, or it has no lists."""

    @property
    def passages(self) -> int:
        """That can be found: deleted ones are not counted."""
        return sum(segment.live_passages for segment in self.segments)

    @property
    def documents(self) -> int:
        """That can be found."""
        return sum(segment.live_documents for segment in self.segments)

    @property
    def rows(self) -> int:
        """Passages that the segments hold, deleted ones too."""
        return sum(segment.passages for segment in self.segments)

    def searched_files(self) -> list[FileRecord]:
        """Every file that a search needs, but the manifest itself."""
        records = [record for segment in self.segments for record in segment.files]
        records += [segment.deletions.file for segment in self.segments if segment.deletions]
        return records + ([self.template] if self.template else [])

    def files(self) -> list[FileRecord]:
        """Every file of this generation but the manifest itself."""
        return self.searched_files() + [record for record in (self.rejects.file, self.log) if record is not None]


_ADAPTER = TypeAdapter(Manifest)


def generation_path(store: Path, generation: int) -> Path:
    """Of the copy of that generation's manifest: what its readers lock (`datastore.store.generations`)."""
    return store / GENERATIONS_FOLDER / f"{generation:08d}.json"


def succeeding(manifest: Manifest, **changes: Any) -> Manifest:
    """The generation after `manifest`: the same but for `changes`, made now by this program."""
    changed = replace(manifest, generation=manifest.generation + 1, created=utc_now(), writer=our_name(), **changes)
    deleted = any(segment.deletions for segment in changed.segments)
    features = (*changed.index.required_features, *([DELETIONS_FEATURE] if deleted else []))
    return replace(changed, required_features=features)


def utc_now() -> str:
    """ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def our_name() -> str:
    """Program and version."""
    return f"pergamon {version('pergamon')}"


def publish(store: Path, manifest: Manifest) -> None:
    """Make `manifest` the store's current generation, atomically. All its files must be on disk, synced, before.

    Its copy for readers to lock lies in place before: a reader that sees the generation finds it.
    """
    data = encode_manifest(manifest)
    keep_copy(store, manifest.generation, data)
    replace_file(store / MANIFEST_NAME, data)


def keep_copy(store: Path, generation: int, data: bytes) -> None:
    """Put a manifest's bytes where the readers of its generation lock it."""
    path = generation_path(store, generation)
    path.parent.mkdir(exist_ok=True)
    replace_file(path, data)
    fsync_path(store)


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's bytes."""
    tree = _ADAPTER.dump_python(manifest, mode="json") | {_CHECKSUM_NAME: _NO_CHECKSUM}
    data = json.dumps(tree, indent=1, ensure_ascii=False).encode() + b"\n"
    field = _CHECKSUM_FIELD.search(data)
    assert field is not None
    return data[: field.start(1)] + hash_bytes(data).encode() + data[field.end(1) :]


def read_manifest(store: Path) -> Manifest:
    """The store's current generation.

    Raises:
        NotFound: the folder holds no datastore.
        InvalidArgument: the manifest may not be read.
        FailedPrecondition: the format is of another version, or requires a feature that this version does not know.
        DataLoss: the manifest is not what was written.
    """
    return decode_manifest(store / MANIFEST_NAME, read_manifest_bytes(store))


def read_manifest_bytes(store: Path) -> bytes:
    """The file's bytes; NotFound and InvalidArgument as `read_manifest`."""
    path = store / MANIFEST_NAME
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        seen = "holds no manifest.json" if store.exists() else "does not exist"
        mend = f"build one: pergamon build --input PATH --store {store}"
        if any((store / GENERATIONS_FOLDER).glob("*.json")):
            mend = f"there is a copy of one: pergamon repair {store}"
        raise NotFound(f"no datastore at {store}: the folder {seen}", mend=mend) from None
    except OSError as error:
        if short := exhausted(path, error):
            raise short from None
        raise InvalidArgument(
            f"{path} cannot be read: {error.strerror}", mend="check what it is, and its permissions", field="store"
        ) from None


def decode_manifest(path: Path, data: bytes) -> Manifest:
    """The manifest that these bytes, read from `path`, are; FailedPrecondition and DataLoss as `read_manifest`."""
    try:
        tree = json.loads(data)
        if not isinstance(tree, dict):
            raise TypeError("not an object")
    except (ValueError, TypeError, RecursionError) as error:
        raise _corrupt(path, f"it is not a JSON object ({error})") from None
    field = _CHECKSUM_FIELD.search(data)  # quotes inside JSON strings are escaped, so no string can look like it
    if field is None:
        _check_format(path, tree)  # a format to come may keep it elsewhere
        raise _corrupt(path, "its checksum is missing")
    if hash_bytes(data[: field.start(1)] + _NO_CHECKSUM.encode() + data[field.end(1) :]) != field[1].decode():
        raise _corrupt(path, f"its bytes do not have the checksum {field[1].decode()}")
    _check_format(path, tree)
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        # Its bytes are what was written, so it was written by a program that differs from this one.
        first = error.errors()[0]
        raise FailedPrecondition(
            f"{path} was written by {tree.get('writer')!r} with a value that this program does not know: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            mend="read it with the program that wrote it, or build the store again",
        ) from None


def _check_format(path: Path, tree: dict[str, Any]) -> None:
    if tree.get("format") != FORMAT_NAME:
        raise FailedPrecondition(
            f"{path} is of format {tree.get('format')!r}; wanted {FORMAT_NAME!r}",
            mend="point to a folder that pergamon built",
        )
    version = tree.get("format_version")
    if version != FORMAT_VERSION:
        raise FailedPrecondition(
            f"{path} is of format version {version!r}; this program reads version {FORMAT_VERSION}",
            mend="install a version of pergamon that reads it, or build the store again",
        )
    features = tree.get("required_features", [])
    unknown = (
        [feature for feature in features if feature not in SUPPORTED_FEATURES]
        if isinstance(features, list)
        else [features]
    )
    if unknown:
        raise FailedPrecondition(
            f"{path} requires the features {unknown!r}, which this program does not know",
            mend="install a newer version of pergamon",
        )


def _corrupt(path: Path, why: str) -> DataLoss:
    return DataLoss(f"{path} is damaged: {why}", mend=MEND)
