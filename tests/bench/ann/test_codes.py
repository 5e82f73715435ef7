"""The table of codes, over few vectors."""

from __future__ import annotations

import numpy as np

from bench.ann.codes import SETTINGS, table, variants
from bench.ann.dataset import Dataset


def test_longer_codes_and_more_candidates_find_more(dataset: Dataset) -> None:
    settings = variants(32)
    rows = table(np.asarray(dataset.base), dataset.queries[:100], settings)
    assert [row[:3] for row in rows] == [
        *([["ivf-pq4", copies, size] for copies in ("2", "1") for size in ("6", "5", "4")]),
        ["ivf-rabitq", "2", "12"],
        ["ivf-rabitq", "1", "12"],
        ["ivf-rabitq, 2 bits", "1", "28"],
    ]
    assert [row[3] for row in rows] == ["28", "26", "24", "14", "13", "12", "40", "20", "36"]
    recalls = np.array([[float(cell) for cell in row[4:]] for row in rows])
    assert recalls.shape == (9, len(SETTINGS))
    assert (recalls[0] >= recalls[2]).all()
    assert (recalls[:, 3:] >= recalls[:, 2:-1]).all()  # the same lists, more candidates
    assert recalls[0, -1] > 0.8
