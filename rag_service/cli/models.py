"""`rag-service models`: which models are configured, how fast are they, and which would fit a GPU?"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import typer

from core.errors import InvalidValue
from models.llm.advise import Advice, Shape, advise
from rag_service.cli.output import print_json, print_table

app = typer.Typer(help="Show and test the configured models (without a command: test); advise on memory.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _show(test=True, as_json=False)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the models of the settings, and whether they answer."""
    _show(test=False, as_json=as_json)


@app.command()
def test(as_json: Json = False) -> None:
    """Ask each model once (for a short answer, vectors, scores) and show its speed."""
    _show(test=True, as_json=as_json)


def _show(*, test: bool, as_json: bool) -> None:
    from core.settings import load_settings  # noqa: PLC0415 (loads what only this command needs)
    from rag_service.probe import LlmReport, SearchModelReport, report, search_models  # noqa: PLC0415
    from rag_service.wiring import make_embedder, make_rerank_model, open_llms  # noqa: PLC0415

    async def ask() -> tuple[list[LlmReport], list[SearchModelReport]]:
        settings = load_settings()
        others = await search_models(make_embedder(settings), make_rerank_model(settings))
        async with open_llms(settings) as llms:
            return await report(settings, llms, test=test), others

    found, others = asyncio.run(ask())
    everything: list[LlmReport | SearchModelReport] = [*found, *others]
    if as_json:
        print_json([each.model_dump() for each in everything])
    else:
        rows = [
            (
                each.name,
                ", ".join(each.stages),
                each.context_tokens,
                each.concurrency,
                f"{each.first_token_ms:g} ms" if each.first_token_ms is not None else None,
                f"{each.tokens_per_s:g}" if each.tokens_per_s is not None else None,
                f"{each.model}: {each.problem or 'answers'}",
            )
            for each in found
        ]
        rows += [
            (
                each.name,
                each.does,
                *(None,) * 4,
                f"{each.model}: {each.problem or f'answers in {each.first_ms:g} ms, then in {each.answer_ms:g} ms'}",
            )
            for each in others
        ]
        print_table(("name", "does", "context", "at a time", "first token", "tokens/s", "model"), rows)
    if not all(each.reachable for each in everything):
        raise typer.Exit(1)


@app.command("advise")
def advise_(
    params: Annotated[str, typer.Option(help="Parameters of the model, as in 8B.")],
    vram: Annotated[str, typer.Option(help="Memory of the GPU, as in 24G.")],
    context: Annotated[str, typer.Option(help="Tokens of context for each answer, as in 8k.")] = "8k",
    answers: Annotated[int, typer.Option(min=1, help="Answers at a time.")] = 1,
    layers: Annotated[int | None, typer.Option(min=1, help="num_hidden_layers of its config.json.")] = None,
    kv_heads: Annotated[int | None, typer.Option(min=1, help="num_key_value_heads.")] = None,
    head_size: Annotated[int, typer.Option(min=1, help="head_dim.")] = 128,
) -> None:
    """Say what a model needs of a GPU's memory, and at which precision to run it."""
    if (layers is None) != (kv_heads is None):
        raise InvalidValue("--layers and --kv-heads belong together.")
    shape = Shape(layers, kv_heads, head_size) if layers and kv_heads else None
    billions = number(params) / 1e9
    tokens = int(number(context))
    advice = advise(billions, context=tokens, answers=answers, vram_gb=number(vram) / 1e9, shape=shape)
    _print_advice(advice, assumed=shape is None)


def number(text: str) -> float:
    """`8B` is 8·10⁹, `24G` 24·10⁹, `8k` 8·10³. Raises `InvalidValue`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmbg]?)b?", text.strip().lower())
    if not match or not float(match[1]):
        raise InvalidValue(f"{text!r} is no number such as 8B, 24G or 8k.")
    return float(match[1]) * _UNITS[match[2]]


def _print_advice(advice: Advice, *, assumed: bool) -> None:
    print_table(
        ("precision", "weights", "KV cache", "total", "fits", "longest context", "loss"),
        [
            (
                row.precision,
                f"{row.weights_gb:.1f} GB",
                f"{row.cache_gb:.2f} GB",
                f"{row.total_gb:.1f} GB",
                "yes" if row.fits else "no",
                row.most_context,
                row.loss,
            )
            for row in advice.rows
        ],
    )
    typer.echo(f"\nRecommended: {advice.recommended or 'none'}. {advice.why}")
    shape = advice.shape
    typer.echo(
        f"KV cache: {shape.kv_bytes_per_token / 1024:g} KiB a token ({shape.layers} layers, {shape.kv_heads} KV heads "
        f"of {shape.head_size}{', as models of this size have' if assumed else ''}). 90 % of the memory are used, 1 GB "
        "of it for activations; longest context: of all answers together."
    )
    typer.echo("Sources: docs/howto/choose-a-model.md")
