from __future__ import annotations

from collections.abc import Callable

import pytest

from datastore.errors import InvalidArgument
from rag.relevance import MIN_COSINE, any_relevant, check_min_relevance
from retriever.api import Hit

QUESTION = "What are the highest mountains of Norway?"  # three content words


def test_the_cosine_decides(make_hit: Callable[..., Hit]) -> None:
    below, at = make_hit("x", dense=MIN_COSINE - 0.01), make_hit("x", dense=MIN_COSINE)
    assert not any_relevant(QUESTION, "dense", [])
    assert not any_relevant(QUESTION, "hybrid", [below])
    assert any_relevant(QUESTION, "hybrid", [below, at])
    assert any_relevant(QUESTION, "hybrid", [below], min_relevance=0.3)
    assert not any_relevant(QUESTION, "dense", [at], min_relevance=0.4)


def test_the_questions_words_decide_where_the_cosine_is_low_or_unknown(make_hit: Callable[..., Hit]) -> None:
    all_three = "In Norway, a high mountain, the highest"
    for dense in (0.0, None):
        assert any_relevant(QUESTION, "hybrid", [make_hit(all_three, dense=dense)])
        assert any_relevant(QUESTION, "hybrid", [make_hit("the highest mountain", title="Norway", dense=dense)])
        assert not any_relevant(QUESTION, "hybrid", [make_hit("Norway's mountain", dense=dense)])


def test_bm25_has_words_alone(make_hit: Callable[..., Hit]) -> None:
    two, one = make_hit("mountains in Norway", dense=None), make_hit("Norway", dense=None)
    assert any_relevant(QUESTION, "bm25", [one, two])
    assert not any_relevant(QUESTION, "bm25", [one])
    assert any_relevant(QUESTION, "bm25", [one], min_relevance=0.3)
    assert not any_relevant("What is it?", "bm25", [make_hit("what it is", dense=None)])


@pytest.mark.parametrize("value", [-1.1, 1.01, float("nan")])
def test_min_relevance_is_checked(value: float) -> None:
    with pytest.raises(InvalidArgument, match="min_relevance is") as error:
        check_min_relevance(value)
    assert error.value.field == "min_relevance"
