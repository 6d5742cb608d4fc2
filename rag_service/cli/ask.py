"""`rag-service search` and `rag-service ask`: passages, and answers with checked citations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.errors import Unavailable
from rag_service.api.schemas import AskResponse, Problem, SearchResponse, StageTrace
from rag_service.cli.client import Api, Refused, kb_path, open_api
from rag_service.cli.output import one_line, place, print_citations, print_json, printable, write

Kbs = Annotated[
    list[str] | None, typer.Option("--kb", help="Knowledge base (default); give it again for several.")
]
TopK = Annotated[int | None, typer.Option(min=1, max=50, help="Passages used.")]
Mode = Annotated[str | None, typer.Option(help="Summary index: union, strict or flat.")]
Json = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
Trace = Annotated[bool, typer.Option("--trace", help="Show every stage with its time.")]


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    kbs: Kbs = None,
    top_k: TopK = None,
    mode: Mode = None,
    as_json: Json = False,
    trace: Trace = False,
) -> None:
    """Print the passages that fit best, without a language model."""
    body = {"query": query, "top_k": top_k, "mode": mode, "trace": trace}
    with open_api() as api:
        found = api.post(*_request("search", kbs, body))
    if as_json:
        print_json(found)
        return
    response = SearchResponse.model_validate(found)
    for number, passage in enumerate(response.passages, 1):
        typer.echo(
            f"{number}. {place(passage)}  ({passage.score:.2f})\n   {one_line(passage.text, most=400)}"
        )
    if not response.passages:
        typer.echo("Nothing found.")
    _print_degraded("Searched", response.degraded)
    _print_trace(response.trace)


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    kbs: Kbs = None,
    conversation: Annotated[str | None, typer.Option(help="Continue (or start) this conversation.")] = None,
    top_k: TopK = None,
    mode: Mode = None,
    as_json: Json = False,
    trace: Trace = False,
) -> None:
    """Answer a question from the documents, with citations."""
    body = {
        "question": question,
        "conversation_id": conversation,
        "top_k": top_k,
        "mode": mode,
        "trace": trace,
    }
    with open_api() as api:
        if as_json:
            print_json(api.post(*_request("ask", kbs, body)))
            return
        print_answer(stream_answer(api, kbs, body))


def _request(what: str, kbs: list[str] | None, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and body of a question to one knowledge base, or to several at once."""
    if kbs is None or len(kbs) < 2:
        return kb_path(*(kbs or ["default"]), what), body
    return f"/{what}", {**body, "kbs": kbs}


def stream_answer(api: Api, kbs: list[str] | None, body: dict[str, Any]) -> AskResponse:
    """Print an answer as it is written; returns it whole. Raises `Unavailable` if it broke off."""
    response = None
    path, body = _request("ask", kbs, body)
    for name, data in api.events("POST", path, {**body, "stream": True}):
        if name == "delta":
            write(data["text"])
        elif name == "done":
            response = AskResponse.model_validate(data)
        elif name == "error":
            write("\n")
            raise Refused(Problem.model_validate(data))
    write("\n")
    if response is None:
        raise Unavailable("The answer broke off.", hint="Ask again.")
    return response


def print_answer(response: AskResponse) -> None:
    """Print what belongs under an answer: its citations, and what to know about it."""
    if response.citations:
        typer.echo()
        print_citations(response.citations)
    if response.unread:
        typer.echo(
            f"Documents that are not read yet: {response.unread} (`rag-service jobs list` says why).",
            err=True,
        )
    for sentence in response.unsupported:
        typer.echo(f"No passage supports: {one_line(sentence)}", err=True)
    _print_degraded("Answered", response.degraded)
    for warning in response.warnings:
        typer.echo(printable(warning), err=True)
    if response.finish_reason == "length":
        typer.echo("The answer reached its longest length (RAG_LLM__MAX_NEW_TOKENS).", err=True)
    _print_trace(response.trace)


def _print_degraded(done: str, stages: list[str]) -> None:
    for stage in stages:
        typer.echo(f"{done} without {printable(stage)}", err=True)


def _print_trace(stages: list[StageTrace] | None) -> None:
    for stage in stages or []:
        typer.echo(
            f"{stage.stage:>10} {stage.milliseconds:8.0f} ms  {stage.inputs} → {stage.outputs}", err=True
        )
