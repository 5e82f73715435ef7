"""`pergamon plan`."""

from __future__ import annotations

from pathlib import Path

import typer

from datastore.config import load_config
from datastore.errors import InvalidArgument
from datastore.plan.constants import Constants
from datastore.plan.planner import make_plan
from datastore.plan.request import PlanRequest
from datastore.plan.sample import like_store
from datastore.quantities import parse_bytes, parse_count
from pergamon.commands.build import IndexKind
from pergamon.output import print_json
from pergamon.plan_table import as_tree, show

EXAMPLES = """
**Examples**

`pergamon plan --tokens 1.4T --dim 768`

`pergamon plan --tokens 380B --dim 768 --recall 0.99 --ram 1TiB --cpu-price 9 --qps 200`

`pergamon plan --passages 1.9B --dim 768 --index ivf-pq --pq-m 64 --nlist 65536`

`pergamon plan --tokens 20B --like sample.store --json`
"""


def plan(
    tokens: str | None = typer.Option(None, "--tokens", help="Tokens of text: 1.4T, 300B, 20M."),
    passages: str | None = typer.Option(None, "--passages", help="Or passages: 1.9B."),
    like: Path | None = typer.Option(
        None, "--like", help="A datastore built of a sample: its dimension, and its bytes and tokens a passage."
    ),
    dim: int | None = typer.Option(None, "--dim", help="Values in a vector (default 384, the embedded encoder's)."),
    chunk_words: int = typer.Option(256, "--chunk-words", help="Words that a passage has."),
    tokens_per_passage: float | None = typer.Option(
        None, "--tokens-per-passage", help="Instead of --chunk-words: what passages really have on average."
    ),
    recall: float = typer.Option(0.95, "--recall", help="recall@10 wanted, against exact search."),
    qps: float | None = typer.Option(None, "--qps", help="Queries a second aimed at: replicates shards."),
    index: IndexKind = typer.Option(IndexKind.AUTO, "--index", help="Kind of ANN index."),
    nlist: int | None = typer.Option(None, "--nlist", help="Its lists (default by size)."),
    pq_m: int | None = typer.Option(None, "--pq-m", help="Sub-quantizers of a code (default by dimension)."),
    index_memory: str | None = typer.Option(
        None, "--index-memory", help="Memory that the open index may take, all shards together, as 2TiB."
    ),
    segment_passages: str | None = typer.Option(None, "--segment-passages", help="Passages in a segment at most."),
    encoder_params: str | None = typer.Option(
        None, "--encoder-params", help="The encoder's parameters outside of its embeddings: 85M (default by --dim)."
    ),
    build_machines: int | None = typer.Option(
        None, "--build-machines", help="Machines that share the build (default: as many as serve)."
    ),
    ram: str | None = typer.Option(None, "--ram", help="Memory of a machine, of either shape: 512GiB."),
    disk: str | None = typer.Option(None, "--disk", help="Disk of a machine, of either shape: 7.6TB."),
    vcpus: int | None = typer.Option(None, "--vcpus", help="Logical processors of a CPU machine."),
    core_speed: float | None = typer.Option(
        None, "--core-speed", help="Of its cores, as a multiple of those that were measured."
    ),
    cpu_price: float | None = typer.Option(None, "--cpu-price", help="Dollars an hour of a CPU machine."),
    gpus: int | None = typer.Option(None, "--gpus", help="GPUs of a GPU machine."),
    gpu_memory: str | None = typer.Option(None, "--gpu-memory", help="Memory of each GPU: 80GiB."),
    gpu_price: float | None = typer.Option(None, "--gpu-price", help="Dollars an hour of a GPU machine."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, sizes in bytes."),
) -> None:
    """Say what a datastore of some size needs: memory, disk, machines, build hours, latency and cost."""
    given = {
        "cpu_ram": _bytes(ram, "ram"),
        "gpu_ram": _bytes(ram, "ram"),
        "cpu_disk": _bytes(disk, "disk"),
        "gpu_disk": _bytes(disk, "disk"),
        "cpu_vcpus": _positive(vcpus, "vcpus"),
        "core_speed": _positive(core_speed, "core-speed"),
        "cpu_price": _positive(cpu_price, "cpu-price", zero=True),
        "gpus": _positive(gpus, "gpus"),
        "gpu_memory": _bytes(gpu_memory, "gpu-memory"),
        "gpu_price": _positive(gpu_price, "gpu-price", zero=True),
    }
    sample = like_store(like) if like is not None else None
    if sample is not None:
        given |= sample.constants
        dim = sample.dimension if dim is None else dim
        tokens_per_passage = sample.tokens_per_passage if tokens_per_passage is None else tokens_per_passage
    settings = load_config(None, {"index": {"kind": index.value, "nlist": nlist, "pq_m": pq_m, "memory": index_memory}})
    request = PlanRequest(
        tokens=_count(tokens, "tokens"),
        passages=_count(passages, "passages"),
        dimension=384 if dim is None else dim,
        chunk_words=chunk_words,
        tokens_per_passage=tokens_per_passage,
        index=settings.index,
        recall=recall,
        queries_per_second=qps,
        encoder_parameters=_count(encoder_params, "encoder-params"),
        segment_passages=_count(segment_passages, "segment-passages"),
        machines=build_machines,
    )
    made = make_plan(request, Constants(given))
    if as_json:
        print_json(as_tree(made))
    else:
        show(made)


def _count(text: str | None, name: str) -> int | None:
    return None if text is None else parse_count(text, name)


def _bytes(text: str | None, name: str) -> float | None:
    return None if text is None else float(parse_bytes(text, name))


def _positive(value: float | None, name: str, *, zero: bool = False) -> float | None:
    if value is not None and not (0 < value < 1e12 or (zero and value == 0)):
        raise InvalidArgument(f"--{name} is {value:g}; it must be above zero", mend=f"correct --{name}", field=name)
    return value
