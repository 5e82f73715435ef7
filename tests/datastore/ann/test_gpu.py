"""Indexes on GPUs, held against the same on the CPU.

All that surrounds FAISS's kernels runs here with FAISS's indexes in main memory, which answer the same calls as those
on a device. Where there is a CUDA device and FAISS has support for it, the same tests run on that too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.gpu_plan import SELECTED_MAX, GpuPlan
from datastore.ann.index import AnnIndex, Cover, CoveringIndex, Template, candidates, load_template, train_template
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.gpu import Gpus, device_errors, find_gpus, free_bytes
from datastore.ann.kinds.joined_lists import JoinedLists
from datastore.ann.kinds.library import faiss, use_all_threads
from datastore.ann.kinds.list_file import Entries
from datastore.ann.kinds.on_gpus import ByteLists, OnGpus, paired
from datastore.ann.kinds.registry import TEMPLATES
from datastore.ann.spec import IndexSpec
from datastore.devices import AUTO, CPU, DeviceChoice
from datastore.errors import FailedPrecondition, ResourceExhausted
from datastore.store.vectors import VectorFile, VectorWriter

Floats = NDArray[np.float32]

DIMENSION, ROWS = 24, 2000
BOUNDS = (0, 700, 701, ROWS)
SPECS = {
    "flat": IndexSpec("flat", DIMENSION),
    "ivf-pq": IndexSpec("ivf-pq", DIMENSION, nlist=16, pq_m=8, train_vectors=1500, seed=7),
    # Codes of 6 bytes, held as 8. The rotation keeps all dimensions: in main memory FAISS computes the products of
    # query and centroids from the rotated ones.
    "ivf-pq4": IndexSpec("ivf-pq4", DIMENSION, nlist=16, pq_m=12, train_vectors=1500, seed=7),
    "ivf-pq4 twice": IndexSpec(
        "ivf-pq4", DIMENSION, nlist=16, pq_m=12, train_vectors=1500, seed=7, copies=2, spill_weight=1.5
    ),
}
PLENTY = 1 << 40
DEVICES = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
SCORE_TOLERANCE = 2e-3
"""Of what kernels of a GPU sum up, from look-up tables that may be float16; in main memory it is far less."""


class InMainMemory(Gpus):
    """Devices that are none: what would lie on them lies in main memory."""

    def __init__(self, free: Mapping[int, int], required: bool = True) -> None:
        self.numbers = tuple(free)
        self.required = required
        self.lock = threading.Lock()
        self._free = dict(free)

    def free(self) -> dict[int, int]:
        return self._free

    def _make_flat(self, dimension: int, place: int) -> Any:
        return faiss.IndexFlatIP(dimension)

    def _copy_lists(self, part: Any, place: int, plan: GpuPlan, own_products: bool) -> Any:
        return part


def make_gpus(name: str) -> Gpus:
    if name.startswith("main memory"):
        return InMainMemory(dict.fromkeys(range(int(name[-1])), PLENTY))
    wanted = int(name[-1])
    if wanted > DEVICES:
        pytest.skip(f"FAISS finds {DEVICES} CUDA devices, not {wanted}")
    return Gpus(range(wanted), required=True)


@pytest.fixture(scope="module", params=["main memory 1", "main memory 3", "cuda 1", "cuda 2"])
def gpus(request: pytest.FixtureRequest) -> Gpus:
    return make_gpus(request.param)


@pytest.fixture(scope="module")
def vectors() -> Floats:
    random = np.random.default_rng(3)
    centers = random.standard_normal((40, DIMENSION))
    drawn = centers[random.integers(40, size=ROWS)] + 0.6 * random.standard_normal((ROWS, DIMENSION))
    unit: Floats = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def queries(vectors: Floats) -> Floats:
    random = np.random.default_rng(4)
    asked = vectors[random.integers(ROWS, size=30)] + 0.1 * random.standard_normal((30, DIMENSION))
    unit: Floats = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    return unit


@dataclass(frozen=True)
class OnDisk:
    """A template and three segments, made on the CPU."""

    spec: IndexSpec
    folder: Path
    files: list[VectorFile]

    @property
    def template(self) -> Path:
        return self.folder / "template"

    def open(self, gpus: Gpus | None) -> AnnIndex:
        return self.load(gpus).open([self.folder / f"{i}.ann" for i in range(3)], self.files)

    def load(self, gpus: Gpus | None) -> Template:
        return TEMPLATES[self.spec.kind].load(self.spec, self.template, gpus)


@pytest.fixture(scope="module", params=sorted(SPECS))
def stored(
    request: pytest.FixtureRequest, vectors: Floats, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnDisk]:
    spec, folder = SPECS[request.param], tmp_path_factory.mktemp("gpu")
    template = train_template(spec, vectors[: spec.train_vectors])
    template.save(folder / "template")
    files = []
    for i in range(3):
        files.append(_file(vectors[BOUNDS[i] : BOUNDS[i + 1]], folder / f"{i}.f16"))
        template.write_segment(files[i].blocks(), folder / f"{i}.ann")
    yield OnDisk(spec, folder, files)
    for file in files:
        file.close()


def test_it_finds_what_the_cpu_finds(stored: OnDisk, gpus: Gpus, queries: Floats) -> None:
    """The same candidates, but for those whose scores are nearly the worst of them, and ties."""
    on_cpu, on_gpus = stored.open(None), stored.open(gpus)
    assert isinstance(on_gpus, OnGpus)
    exact = stored.spec.kind != "ivf-pq4"  # whose fast scan on a CPU rounds look-up tables to 8 bits
    for nprobe in (4, 1000):
        scores, rows = on_cpu.search(queries, 40, nprobe, None)
        there, found = on_gpus.search(queries, 40, nprobe, None)
        assert (scores.shape, found.dtype) == (there.shape, rows.dtype)
        if exact:
            np.testing.assert_allclose(np.sort(there), np.sort(scores), atol=SCORE_TOLERANCE)
        agreed = [len(np.intersect1d(a, b)) / len(np.unique(b)) for a, b in zip(found, rows, strict=True)]
        assert np.mean(agreed) > (0.995 if exact else 0.9)


def test_4_bit_scores_are_those_of_the_codes(gpus: Gpus, stored: OnDisk, queries: Floats) -> None:
    """Of query and centroid the product, of the rotated query and the code the other: from the bytes in the file."""
    if stored.spec.kind != "ivf-pq4":
        pytest.skip("codes of another kind")
    with np.load(stored.template) as arrays:
        centroids, rotation, codebooks = (arrays[name] for name in ("centroids", "rotation", "codebooks"))
    expected: dict[int, list[Floats]] = {}
    for file, base, segment in zip(stored.files, BOUNDS, range(3), strict=False):
        data = np.fromfile(stored.folder / f"{segment}.ann", np.uint8)
        nlist, entries = stored.spec.nlist, stored.spec.copies * file.rows
        lists = np.repeat(np.arange(nlist), data[: 4 * nlist].view("<u4"))
        rows = data[4 * nlist :][: 4 * entries].view("<u4") + base
        codes = data[4 * (nlist + entries) :].reshape(entries, -1)
        halves = np.stack([codes & 15, codes >> 4], axis=2).reshape(entries, -1)
        decoded = codebooks[np.arange(halves.shape[1]), halves].reshape(entries, -1)
        products = queries @ centroids[lists].T + (queries @ rotation.T) @ decoded.T
        for row, scores in zip(rows.tolist(), products.T, strict=True):
            expected.setdefault(row, []).append(scores)
    scores, rows = stored.open(gpus).search(queries, 30, stored.spec.nlist, None)
    assert (rows >= 0).all()
    for query, (own_scores, own_rows) in enumerate(zip(scores, rows, strict=True)):
        best = np.sort([score[query] for copies in expected.values() for score in copies])[::-1][: len(own_rows)]
        np.testing.assert_allclose(np.sort(own_scores)[::-1], best, atol=SCORE_TOLERANCE)
        for score, row in zip(own_scores.tolist(), own_rows.tolist(), strict=True):
            assert min(abs(score - copy[query]) for copy in expected[row]) < SCORE_TOLERANCE


def test_what_gpus_do_not_answer_is_answered(stored: OnDisk, gpus: Gpus, queries: Floats) -> None:
    """Filters, and more than the kernels select, as on the CPU to the last row."""
    on_cpu, on_gpus = stored.open(None), stored.open(gpus)
    accept = np.packbits(np.arange(ROWS) % 3 == 0, bitorder="little")
    for depth, accepted in ((20, accept), (SELECTED_MAX, accept), (SELECTED_MAX + 1, None)):
        wanted = candidates(on_cpu, queries[:3], depth, 16, accepted)
        found = candidates(on_gpus, queries[:3], depth, 16, accepted)
        assert [rows.tolist() for rows in found] == [rows.tolist() for rows in wanted]
    assert (candidates(on_gpus, queries[:1], 20, 16, accept)[0] % 3 == 0).all()
    assert isinstance(on_gpus, CoveringIndex) == isinstance(on_cpu, CoveringIndex)
    if isinstance(on_cpu, CoveringIndex):
        cover = Cover(accept, on_cpu.count_in_lists(accept), 100)
        wanted, found = (candidates(index, queries[:3], 20, 0, cover) for index in (on_cpu, on_gpus))
        assert [rows.tolist() for rows in found] == [rows.tolist() for rows in wanted]


def test_fewer_than_asked_is_a_shorter_list(stored: OnDisk, gpus: Gpus, queries: Floats) -> None:
    index = stored.open(gpus)
    few = SELECTED_MAX // stored.spec.copies
    for rows in candidates(index, queries[:2], few, 1):
        assert 0 < len(rows) <= ROWS
        assert rows.max() < ROWS
    for rows in candidates(index, queries[:2], few, 16):
        assert len(rows) >= min(few, ROWS)


def test_searches_at_once_do_not_disturb_each_other(stored: OnDisk, gpus: Gpus, queries: Floats) -> None:
    index = stored.open(gpus)
    alone = [candidates(index, query[None], 20, 4)[0].tolist() for query in queries]
    found: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        found[number] = candidates(index, queries[number][None], 20, 4)[0].tolist()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(queries))] == alone


def test_the_same_template_gives_the_same_codes(stored: OnDisk, gpus: Gpus, tmp_path: Path) -> None:
    """With few lists both compare exactly, so that every byte is the same."""
    template = stored.load(gpus)
    for segment, file in enumerate(stored.files):
        written = template.write_segment(file.blocks(), tmp_path / "codes")
        assert written == (stored.folder / f"{segment}.ann").exists()
        if written:
            assert (tmp_path / "codes").read_bytes() == (stored.folder / f"{segment}.ann").read_bytes()


def test_training_gives_as_good_a_template(stored: OnDisk, gpus: Gpus, vectors: Floats, tmp_path: Path) -> None:
    spec = stored.spec
    use_all_threads()  # as `train_template`: with other numbers of them, sums come out otherwise
    trained = TEMPLATES[spec.kind].train(spec, vectors[: spec.train_vectors], gpus)
    if not trained.save(tmp_path / "template"):
        assert spec.kind == "flat"
        return
    if isinstance(gpus, InMainMemory):
        assert (tmp_path / "template").read_bytes() == stored.template.read_bytes()
    trained.write_segment(stored.files[0].blocks(), tmp_path / "codes")
    load_template(spec, tmp_path / "template").open([tmp_path / "codes"], stored.files[:1])
    errors = []
    for template in (trained, stored.load(None)):
        template.write_segment([vectors.astype(np.float16)], tmp_path / "all")
        with _file(vectors, tmp_path / "all.f16") as file:
            scores, rows = template.open([tmp_path / "all"], [file]).search(vectors[:200], 5, 4, None)
        errors.append(np.abs(scores - np.einsum("ij,ikj->ik", vectors[:200], vectors[rows])).mean())
    assert errors[0] < 1.2 * errors[1]


def _file(vectors: Floats, path: Path) -> VectorFile:
    writer = VectorWriter(path, vectors.shape[1])
    writer.add(vectors)
    writer.close()
    return VectorFile(path, *vectors.shape)


def test_no_segments_are_searched_nowhere(stored: OnDisk, gpus: Gpus, queries: Floats) -> None:
    index = stored.load(gpus).open([], [])
    assert [len(rows) for rows in candidates(index, queries[:2], 10, 16)] == [0, 0]


def test_too_little_memory_is_an_error_only_if_gpus_were_asked_for(
    stored: OnDisk, queries: Floats, caplog: pytest.LogCaptureFixture
) -> None:
    small = {0: PLENTY, 1: 1 << 30}
    with pytest.raises(
        ResourceExhausted, match=r"of 2000 passages, needs 1\.50 GiB on each of 2 GPUs; cuda:1 has 1\.00"
    ):
        stored.open(InMainMemory(small))
    with caplog.at_level(logging.WARNING):
        index = stored.open(InMainMemory(small, required=False))
    assert not isinstance(index, OnGpus)
    assert "the CPU is used: searching the index" in caplog.text
    assert len(candidates(index, queries[:1], 10, 16)[0]) >= 10 / stored.spec.copies
    if stored.spec.nlist:
        with pytest.raises(ResourceExhausted, match="building the index"):
            TEMPLATES[stored.spec.kind].train(stored.spec, np.zeros((300, DIMENSION), np.float32), InMainMemory(small))


def test_a_kind_without_a_kernel_is_searched_on_the_cpu(
    vectors: Floats, queries: Floats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = IndexSpec("ivf-pq", DIMENSION, nlist=4, pq_m=6, train_vectors=1000, seed=1)
    template = TEMPLATES[spec.kind].train(spec, vectors[:1000], InMainMemory({0: PLENTY}))
    template.write_segment([vectors.astype(np.float16)], tmp_path / "codes")
    with _file(vectors, tmp_path / "v.f16") as file:
        index = template.open([tmp_path / "codes"], [file])
    assert not isinstance(index, OnGpus)
    assert "searched on the CPU: FAISS has no GPU kernel for codes of 6 bytes" in caplog.text
    assert len(candidates(index, queries[:1], 10, 4)[0]) == 10


def test_rabitq_is_built_on_gpus_and_searched_on_the_cpu(
    vectors: Floats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = IndexSpec("ivf-rabitq", DIMENSION, nlist=8, train_vectors=1000, seed=1, bits=1)
    made = []
    for name, gpus in (("cpu", None), ("gpus", InMainMemory({0: PLENTY, 1: PLENTY}))):
        template = TEMPLATES[spec.kind].train(spec, vectors[:1000], gpus)
        template.save(tmp_path / f"{name}.template")
        template.write_segment([vectors.astype(np.float16)], tmp_path / name)
        made.append((tmp_path / f"{name}.template").read_bytes() + (tmp_path / name).read_bytes())
    assert made[0] == made[1]
    with _file(vectors, tmp_path / "v.f16") as file:
        assert not isinstance(template.open([tmp_path / "gpus"], [file]), OnGpus)
    assert "searched on the CPU: FAISS has no GPU kernel for the codes of ivf-rabitq" in caplog.text


def test_a_byte_is_a_pair_of_half_bytes() -> None:
    random = np.random.default_rng(0)
    codebooks = random.standard_normal((6, 16, 2)).astype(np.float32)
    half = faiss.ProductQuantizer(12, 6, 4)
    faiss.copy_array_to_vector(codebooks.reshape(-1), half.centroids)
    whole = faiss.ProductQuantizer(12, 3, 8)
    faiss.copy_array_to_vector(paired(codebooks).reshape(-1), whole.centroids)
    vectors = random.standard_normal((500, 12)).astype(np.float32)
    codes = half.compute_codes(vectors)
    np.testing.assert_array_equal(whole.decode(codes), half.decode(codes))
    np.testing.assert_array_equal(whole.compute_codes(vectors), codes)


def test_zeros_follow_codes_of_a_length_without_a_kernel(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    centroids = random.standard_normal((3, 20)).astype(np.float32)
    rotation = random.standard_normal((12, 20)).astype(np.float32)
    codebooks = random.standard_normal((6, 16, 2)).astype(np.float32)
    lists = ByteLists(CoarseIndex(centroids, 0), rotation, codebooks, 4)
    spec = IndexSpec("ivf-pq4", 20, nlist=3, pq_m=6)
    codes = random.integers(256, size=(50, 3)).astype(np.uint8)
    Entries(random.integers(3, size=50), np.arange(50), codes).write(tmp_path / "lists", spec)
    with JoinedLists([tmp_path / "lists"], [50], spec) as joined:
        index = lists.index(joined, 0, 1)
        parts = [lists.index(joined, part, 3) for part in range(3)]
    assert (index.ntotal, index.d, index.code_size, index.nlist) == (50, 16, 4, 4)
    assert [part.ntotal for part in parts] == [17, 17, 16]
    vectors = random.standard_normal((5, 20)).astype(np.float32)
    np.testing.assert_allclose(lists.project(vectors)[:, :12], vectors @ rotation.T, rtol=1e-5, atol=1e-5)
    assert (lists.project(vectors)[:, 12:] == 0).all()
    index.make_direct_map()
    assert (index.reconstruct_n(0, 50)[:, 12:] == 0).all()


def test_devices_are_found_or_missed() -> None:
    assert find_gpus(CPU) == ()
    assert find_gpus(AUTO) == tuple(range(DEVICES))
    if DEVICES:
        assert free_bytes(0) > 0
        with pytest.raises(FailedPrecondition, match=f"FAISS finds {DEVICES}"):
            find_gpus(DeviceChoice("cuda", (DEVICES,)))
        return
    with pytest.raises(FailedPrecondition, match="which FAISS cannot use: ") as raised:
        find_gpus(DeviceChoice("cuda"))
    built = hasattr(faiss, "StandardGpuResources")
    assert ("no CUDA device answers" if built else "without GPU support") in raised.value.problem
    assert ("nvidia-smi" if built else "make install-gpu") in raised.value.mend
    if built:
        with pytest.raises(FailedPrecondition, match="does not say how much memory is free"):
            free_bytes(0)
        with pytest.raises(ResourceExhausted, match=r"a GPU failed: .*Invalid GPU device"):
            Gpus([0], required=True).flat(8)
        with pytest.raises(ResourceExhausted, match=r"a GPU failed: .*Invalid GPU device"):
            Gpus([0], required=True).lists([faiss.index_factory(8, "IVF4,PQ4")], GpuPlan(1, 4, 4, False, 0), True)


def test_what_faiss_says_of_a_device_is_one_line() -> None:
    with pytest.raises(ResourceExhausted, match="a GPU failed: ") as raised, device_errors():
        faiss.read_index("/nowhere")  # an error of FAISS, as any
    assert "\n" not in str(raised.value)
