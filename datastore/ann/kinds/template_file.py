"""What a kind trained, as a file: named arrays in NumPy's archive, read without unpickling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss
from datastore.store.checksums import MEND, unreadable

Shape = tuple[int, ...]


def read_arrays(
    path: Path | None, spec: IndexSpec, shapes: Mapping[str, Shape | None], may_lack: Collection[str] = ()
) -> dict[str, NDArray[np.float32]]:
    """The arrays of a template by their names.

    Args:
        path: the file; None where the manifest names none.
        shapes: name -> the shape that the array must have; None for any.
        may_lack: names that older files do not have.

    Raises:
        DataLoss: there is no file, it cannot be read, or an array is missing or of another shape.
    """
    if path is None:
        raise DataLoss(f"the manifest names no template for the index {spec.kind}", mend=MEND)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in shapes if name in archive or name not in may_lack}
    except Exception as error:  # a damaged archive raises errors of many classes, those of zlib among them
        raise unreadable(path, error) from None
    for name, array in arrays.items():
        if (wanted := shapes[name]) is not None and array.shape != wanted:
            raise DataLoss(f"{path} has {name} of the shape {array.shape}; wanted {wanted}", mend=MEND)
    return arrays
