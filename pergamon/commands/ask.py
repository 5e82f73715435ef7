"""`pergamon ask`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from datastore.devices import AUTO, parse_device
from pergamon import options
from pergamon.options import ModeOption
from pergamon.output import ERRORS, print_json
from rag.answer import MAX_ANSWER_TOKENS, Answer
from rag.answer import ask as ask_datastore
from rag.llm.registry import CHOICES, DEFAULT_MODEL, open_language_model
from retriever.client import GRPC_SCHEME, open_target

EXAMPLES = """
**Examples**

`pergamon ask my.store "What does asyncio.Queue.join wait for?"`

`pergamon ask grpc://127.0.0.1:7700 "Who wrote it?" --llm http://127.0.0.1:8000/v1 --json`

`pergamon ask my.store "How do queues and locks differ?" -k 8 --collapse 0.95 --mmr 0.7` (a prompt without repetition)
"""
_LLM_HELP = "; ".join(f"`{name}`: {what}" for name, what in CHOICES.items())


def ask(
    target: options.Target,
    question: Annotated[str, typer.Argument(help="What to answer.")],
    k: Annotated[int, typer.Option("-k", help="Passages offered to the model.")] = 5,
    llm: Annotated[str, typer.Option("--llm", help=_LLM_HELP)] = DEFAULT_MODEL,
    mode: options.Mode = ModeOption.HYBRID,
    recall: options.Recall = None,
    mmr_lambda: options.MmrLambda = None,
    collapse_similarity: options.CollapseSimilarity = None,
    where: options.Where = None,
    min_relevance: Annotated[
        float | None,
        typer.Option("--min-relevance", help="Least dense score of a passage that counts as relevant."),
    ] = None,
    token_budget: Annotated[
        int | None,
        typer.Option(
            "--token-budget", help="Tokens of prompt and answer together (default: all that the model takes)."
        ),
    ] = None,
    max_answer_tokens: Annotated[
        int, typer.Option("--max-answer-tokens", help="Length of the answer at most.")
    ] = MAX_ANSWER_TOKENS,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print the prompt before the answer.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer a question from a datastore, citing the passages used."""
    chosen = parse_device(device)
    model = open_language_model(llm, chosen)
    # The device of a server is its own; the language model is here all the same.
    searching = AUTO if target.startswith(GRPC_SCHEME) else chosen
    with closing(open_target(target, encoder, searching)) as retriever, ERRORS.status("reading and answering"):
        answer = ask_datastore(
            retriever,
            model,
            question,
            k=k,
            mode=mode.value,
            recall=recall,
            mmr_lambda=mmr_lambda,
            collapse_similarity=collapse_similarity,
            where=where,
            min_relevance=min_relevance,
            token_budget=token_budget,
            max_answer_tokens=max_answer_tokens,
        )
    if as_json:
        print_json(answer.to_json())
    else:
        _show(answer, show_prompt)


def _show(answer: Answer, show_prompt: bool) -> None:
    console = Console()
    if show_prompt and answer.prompt is not None:
        for message in answer.prompt.messages:
            console.print(f"[dim]{message.role}[/dim]")
            console.print(escape(message.content), highlight=False)
        console.print("[dim]answer[/dim]")
    console.print(escape(answer.text), highlight=False)
    if answer.citations:
        console.print()
    for citation in answer.citations:
        name = escape(f"{citation.document_id} #{citation.chunk_index}")
        how = "cited by the model" if citation.origin == "model" else "matched to the answer"
        console.print(escape(f"[{citation.number}] {citation.title}".rstrip()) + f"  [dim]{name}, {how}[/dim]")
    for number in answer.unresolved_citations:
        console.print(f"[yellow]the model cites passage {number}, which the prompt does not have[/yellow]")
    for shard, why in answer.coverage.failures.items():
        console.print(f"[yellow]did not answer: {escape(shard)}: {escape(why)}[/yellow]")
