"""Models, a datastore and an endpoint for the tests of `rag`. Weights load once a session."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from datastore.documents import Passage, PassageName
from rag.llm.api import Generation, Message, OnText
from rag.llm.cache import ModelCache
from rag.llm.local import LocalModel, bundled_gguf
from rag.words import content_words, share_of
from retriever.api import Coverage, DatastoreInfo, Hit, SearchRequest, SearchResponse


@pytest.fixture(scope="session")
def smollm_cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    return ModelCache(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def smollm(smollm_cache: ModelCache) -> LocalModel:
    """The bundled model, read from its GGUF file."""
    return LocalModel(bundled_gguf(), name="SmolLM2", cache=smollm_cache)


@pytest.fixture
def make_hit() -> Callable[..., Hit]:
    def make(
        text: str, *, rank: int = 1, title: str = "", dense: float | None = 0.5, document_id: str = "", chunk: int = 0
    ) -> Hit:
        return Hit(rank, document_id or f"d{rank}", chunk, 1.0 / rank, dense, 1.0, title, text, "source")

    return make


class WordRetriever:
    """A datastore of few passages that ranks by the share of the question's words that a passage has."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self.requests: list[SearchRequest] = []

    def search(self, request: SearchRequest) -> SearchResponse:
        request.validate()
        self.requests.append(request)
        asked = content_words(request.query)
        shares = [(share_of(asked, content_words(p.indexed_text)), p) for p in self._passages]
        best = sorted(shares, key=lambda entry: (-entry[0], entry[1].name))[: request.k]
        hits = tuple(
            Hit(rank, p.document_id, p.chunk_index, share, None, share, p.title, p.text, p.source)
            for rank, (share, p) in enumerate(best, start=1)
            if share > 0
        )
        count = len(self._passages)
        return SearchResponse(
            request.query,
            request.mode,
            "bm25",
            3,
            hits,
            Coverage(2, 1, 2 * count, count, {"b": "down"}),
            {"total": 1.0},
        )

    def get_passages(self, names: Sequence[PassageName]) -> list[Passage]:
        by_name = {passage.name: passage for passage in self._passages}
        return [by_name[name] for name in names]

    def info(self) -> DatastoreInfo:
        return DatastoreInfo(3, len(self._passages), len(self._passages), 1, "words", "none", 2)

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def xquad() -> WordRetriever:
    """The first 60 paragraphs of XQuAD (English)."""
    path = Path(os.environ.get("PERGAMON_DATA", "")) / "xquad_en" / "corpus.jsonl.gz"
    if not os.environ.get("PERGAMON_DATA") or not path.is_file():
        pytest.skip("PERGAMON_DATA names no folder with xquad_en")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(60), strict=False)]
    return WordRetriever([Passage(row["_id"], 0, row["text"], row["title"], "xquad", 0, 0) for row in rows])


class ScriptedModel:
    """A language model that answers what it is told to, and remembers what it was given."""

    name = "scripted"
    context_tokens = 4000

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[Sequence[Message]] = []

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) + 4 for message in messages)

    def generate(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float = 0.0, on_text: OnText | None = None
    ) -> Generation:
        self.asked.append(messages)
        if on_text:
            on_text(self.answer)
        return Generation(self.answer, self.count_tokens(messages), len(self.answer.split()), "stop")


@pytest.fixture
def scripted() -> type[ScriptedModel]:
    return ScriptedModel


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole GGUF file of a Llama with random weights: one layer, 32 wide, a byte-level vocabulary, ChatML."""
    import gguf
    import numpy as np

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = [*controls, *_byte_symbols(), "in"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(vocabulary) - 3))
    writer.add_token_merges(["i n"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    shapes = {"token_embd": (len(vocabulary), 32), "output": (len(vocabulary), 32)}
    shapes |= {f"blk.0.attn_{part}": (32, 32) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    random = np.random.default_rng(7)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.5, shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_symbols() -> list[str]:
    """One printable character for each byte, as byte-level BPE writes them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]
