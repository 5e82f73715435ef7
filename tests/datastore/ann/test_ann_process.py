"""What FAISS's binding does to a process as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.datastore.ann.conftest import Built

_OPEN_MANY = """
import gc, json, sys
from pathlib import Path
import numpy as np
from datastore.ann.index import candidates, load_template
from datastore.ann.spec import IndexSpec
from datastore.store.vectors import VectorFile

folder, spec = Path(sys.argv[1]), IndexSpec(**json.loads(sys.argv[2]))
vectors = VectorFile(folder / "part0.f16", 1300, spec.dimension)
for turn in range(5):
    template = load_template(spec, folder / "template")
    index = template.open([folder / "part0.ann"] * 60, [vectors] * 60)
    found = candidates(index, vectors.read(np.array([5])), 60, 16)[0]
    assert 60 <= len(found) <= 120
    del template, index
    gc.collect()
print("done")
"""


def test_many_segments_opened_and_dropped(built: Built) -> None:
    """The binding counts its own references; a count that is off ends the process at some later time."""
    if built.template.exact:
        pytest.skip("a flat index is made of numpy arrays alone")
    arguments = [str(built.folder), json.dumps(asdict(built.spec))]
    done = subprocess.run([sys.executable, "-c", _OPEN_MANY, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_openblas_kernel_is_chosen_before_faiss_is_loaded() -> None:
    script = "import datastore.ann.kinds.library, os; print(os.environ.get('OPENBLAS_CORETYPE'))"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}

    def core(**extra: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", script], env=environment | extra, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    assert core() in {"SkylakeX", "Haswell", "None"}
    assert core(OPENBLAS_CORETYPE="Sandybridge") == "Sandybridge"
