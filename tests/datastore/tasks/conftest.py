from __future__ import annotations

import json
import random

import pytest

from datastore.config import BuildConfig, load_config


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Inputs with what builds stumble over: duplicates of ids and texts, rejects, blank lines, CRLF, accents."""
    folder = tmp_path_factory.mktemp("corpus")
    noise = random.Random(0)
    rare = ["".join(noise.choices("abcdefghijklmnop", k=7)) for _ in range(600)]
    words = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "été", "丘")
    texts: list[str] = []
    for part in range(3):
        with (folder / f"part{part}.jsonl").open("wb") as lines:
            for i in range(part * 200, part * 200 + 200):
                text = " ".join(words[(i * j) % 8] for j in range(1, 6 + i % 20))
                text += " " + " ".join(noise.choices(rare, k=5 + i % 20))
                record = {"_id": f"d{i}", "title": f"Item {i}", "text": f"{text} number{i}", "year": i}
                lines.write(json.dumps(record, ensure_ascii=False).encode() + (b"\r\n" if i % 3 else b"\n"))
                texts.append(text)
                if i % 60 == 30:
                    tail = f"Mail to keeper{part}@example.org." if i % 120 == 30 else "again"
                    copy = {"_id": f"copy{i}", "text": f"{texts[i // 2]} {tail}"}
                    lines.write(json.dumps(copy).encode() + b"\n")
                if i % 40 == 0:
                    lines.write(b"\n  \nno JSON\n")
                    lines.write(json.dumps({"_id": f"d{i // 2}", "text": "came before"}).encode() + b"\n")
    (folder / "notes").mkdir()
    for i in range(12):
        (folder / "notes" / f"n{i:02d}.md").write_text(f"# Note {i}\nof the keeper, cedar {i}\n")
    return [str(folder / f"part{part}.jsonl") for part in range(3)] + [str(folder / "notes")]


@pytest.fixture(scope="session")
def in_tasks() -> BuildConfig:
    """Settings that cut the corpus into a dozen tasks."""
    return load_config(
        None,
        {
            "encoder": {"name": "hashing"},
            "input": {"task_bytes": 15_000, "max_rejected_share": 0.2},
            "chunk": {"words": 16},
            "segment": {"passages": 60},
            "clean": {"duplicates": {"shingle_words": 2, "min_jaccard": 0.7}, "personal": {"mask": ["email"]}},
            "index": {"kind": "ivf-pq", "nlist": 4, "pq_m": 8, "tune_queries": 0},
        },
    )
