from __future__ import annotations

import json
from pathlib import Path

import pytest

from datastore.config import EncoderConfig
from datastore.encoders.registry import Encoder, open_encoder
from datastore.errors import NotFound

QUERY_PROMPT = "query: "
PASSAGE_PROMPT = "passage: "


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sentence-transformers model with random weights and prompts, saved as its library saves them."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("models")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", "query", "passage", *letters]
    vocabulary = [*words, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=1.0,  # so that different texts get clearly different vectors
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    pooling = Pooling(config.hidden_size, pooling_mode="cls")
    prompts = {"query": QUERY_PROMPT, "document": PASSAGE_PROMPT}
    model = SentenceTransformer(modules=[transformer, pooling], prompts=prompts, device="cpu")
    model.save(str(folder / "tiny"))
    # What a user's model may say, and no caller that names its prompts wants.
    settings = folder / "tiny" / "config_sentence_transformers.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"default_prompt_name": "query"}))
    return folder / "tiny"


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> Encoder:
    return open_encoder(EncoderConfig(str(tiny_model)))


@pytest.fixture(scope="session")
def embedded() -> Encoder:
    return open_encoder(EncoderConfig())


@pytest.fixture(scope="session")
def wordllama() -> Encoder:
    try:
        return open_encoder(EncoderConfig("wordllama-256"))
    except NotFound as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="session", params=["hashing", "embedded", "tiny", "wordllama"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """A new encoder joins the conformance suite here."""
    if request.param == "hashing":
        return open_encoder(EncoderConfig("hashing"))
    found: Encoder = request.getfixturevalue(request.param)
    return found
