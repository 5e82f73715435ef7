"""Datasets of the Hugging Face hub, by name, row by row as they are downloaded: `hf:NAME[:CONFIG][@SPLIT]`.

Code that a dataset's repository brings is never run. Tokens for private ones come from the environment, as
`huggingface_hub` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from datastore.config import InputConfig
from datastore.errors import InvalidArgument, NotFound, PergamonError, Unavailable
from datastore.sources.found import Found, Piece, whole
from datastore.sources.rejects import Rejects
from datastore.sources.remote_errors import told
from datastore.sources.tables import read_rows, require_column

PREFIX = "hf:"
_REACHED_SECONDS = 5
_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?(?:@([\w.-]+))?")


class HubName(NamedTuple):
    name: str
    config: str | None
    split: str

    @classmethod
    def parse(cls, value: str) -> HubName:
        """What an input such as `hf:allenai/c4:en@validation` names. Raises InvalidArgument."""
        match = _NAME.fullmatch(value.removeprefix(PREFIX))
        if match is None:
            raise InvalidArgument(
                f"{value!r} names no dataset; wanted hf:NAME, hf:NAME:CONFIG, hf:NAME@SPLIT or hf:NAME:CONFIG@SPLIT",
                mend="write for example hf:allenai/c4:en@validation; a folder is named without hf:",
                field="input",
            )
        name, config, split = match.groups()
        return cls(name, config, split or "train")


class HubDataset:
    """Reads a dataset of the hub; its location is the input itself. Columns are as in `ParquetFiles`."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        name = HubName.parse(piece.location)
        rows = _open(name, piece.location)
        if rows.column_names is not None:
            require_column(rows.column_names, piece, config)
        for number, row in enumerate(_guarded(rows, piece.location), 1):
            yield from read_rows([row], number, piece, rejects, config)


def _open(name: HubName, value: str) -> Any:
    import datasets

    _reach_hub(value)
    try:
        return datasets.load_dataset(name.name, name.config, split=name.split, streaming=True)
    except Exception as error:  # the hub's libraries have many, and so has what they call
        raise _not_loaded(value, error) from error


def _reach_hub(value: str) -> None:
    """One short look: the hub's own library tries for half a minute before it gives up. Offline, its cache may do."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=_REACHED_SECONDS)
    except Exception as error:  # a class of each HTTP library
        raise Unavailable(
            f"the hub cannot be reached for {value!r}: {error or type(error).__name__}",
            mend="check the network, and HF_ENDPOINT; a downloaded dataset can be given as a folder",
            field="input",
        ) from error


def _guarded(rows: Any, value: str) -> Iterator[dict[str, Any]]:
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise _not_loaded(value, error) from error
        yield row


def _not_loaded(value: str, error: Exception) -> PergamonError:
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and (problem := told(value, error)) is not None:
        return problem
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return NotFound(
        f"the dataset {value!r} cannot be loaded: {reason[:300]}",
        mend="check its name, configuration and split, and the network; a downloaded one can be given as a folder",
        field="input",
    )
