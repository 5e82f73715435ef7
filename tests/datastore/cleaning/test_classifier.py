from __future__ import annotations

from pathlib import Path

import pytest

from datastore.cleaning.classifier import Classifier
from datastore.cleaning.settings import ClassifierSettings
from datastore.errors import InvalidArgument, NotFound
from datastore.sources.rejects import RefusedError

fasttext = pytest.importorskip("fasttext")

GOOD = "the study explains how energy flows through a cell and why it matters"
BAD = "buy cheap pills now click here to win a prize today only"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fasttext")
    (folder / "train.txt").write_text(f"__label__keep {GOOD}\n__label__drop {BAD}\n" * 50)
    trained = fasttext.train_supervised(
        str(folder / "train.txt"), epoch=20, dim=8, bucket=1000, wordNgrams=2, thread=1, verbose=0
    )
    trained.save_model(str(folder / "model.bin"))
    return folder / "model.bin"


@pytest.mark.parametrize("label", ["keep", "__label__keep"])
def test_scores_and_threshold(model: Path, label: str) -> None:
    classifier = Classifier(ClassifierSettings(model=str(model), label=label))
    assert classifier.score(GOOD) > 0.9
    assert classifier.score(BAD) < 0.1
    labels, scores = fasttext.load_model(str(model)).predict(GOOD, k=2)
    assert classifier.score(GOOD) == pytest.approx(dict(zip(labels, scores, strict=True))["__label__keep"], abs=1e-6)
    classifier.check(GOOD.replace(" ", "\n\n"))
    with pytest.raises(RefusedError, match=r"keep has the score 0\.\d+; wanted 0.5"):
        classifier.check(BAD)


def test_any_text_has_a_score(model: Path) -> None:
    classifier = Classifier(ClassifierSettings(model=str(model), label="keep"))
    for text in ("", "\0", "\n", "💥" * 10, "word " * 10_000):
        assert 0 <= classifier.score(text) <= 1


def test_a_model_that_is_none(model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be opened"):
        Classifier(ClassifierSettings(model=str(tmp_path / "gone.bin"), label="keep"))
    (tmp_path / "text.bin").write_text("no model at all")
    with pytest.raises(InvalidArgument, match="is no fastText model"):
        Classifier(ClassifierSettings(model=str(tmp_path / "text.bin"), label="keep"))
    with pytest.raises(InvalidArgument, match="has no label 'good'") as caught:
        Classifier(ClassifierSettings(model=str(model), label="good"))
    assert "drop, keep" in str(caught.value)
