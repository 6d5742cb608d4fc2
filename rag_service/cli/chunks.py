"""`rag-service chunks`: how a file would be cut, without a running service. And the options that say how."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from core.errors import InvalidValue
from ingest.chunkers.base import Chunking, Strategy
from rag_service.cli.output import one_line, print_json, print_table, printable

StrategyOption = Annotated[
    Strategy | None, typer.Option("--strategy", help="How to cut: docs/howto/chunking.md.")
]
CharactersOption = Annotated[
    int | None, typer.Option("--characters", help="Longest chunk, in Chinese characters.")
]
MoreOptions = Annotated[
    list[str] | None,
    typer.Option("--with", help="More of the strategy, as in child_characters=80, window=3, overlap=50."),
]


def chunking_of(strategy: Strategy | None, characters: int | None, more: list[str] | None) -> Chunking | None:
    """What the options say; None if they say nothing. Raises `InvalidValue`."""
    values: dict[str, Any] = {"strategy": strategy, "characters": characters}
    for option in more or []:
        name, equals, value = option.partition("=")
        if not equals:
            raise InvalidValue(f"--with {option}: it must be NAME=VALUE.")
        values[name] = value
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    try:
        return Chunking.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InvalidValue(f"{place + ': ' if place else ''}{problem['msg']}.") from None


def chunks(
    file: Annotated[Path, typer.Argument(help="The file.", exists=True, dir_okay=False)],
    strategy: StrategyOption = None,
    characters: CharactersOption = None,
    more: MoreOptions = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the chunks as JSON.")] = False,
) -> None:
    """Show how a file would be cut into chunks; nothing is stored."""
    import asyncio  # noqa: PLC0415
    from dataclasses import asdict  # noqa: PLC0415

    made = asyncio.run(_preview(file, chunking_of(strategy, characters, more) or Chunking()))
    if as_json:
        print_json([{**asdict(c), "tokens": t} for c, t in zip(made.chunks, made.tokens, strict=True)])
        return
    for chunk, tokens in zip(made.chunks, made.tokens, strict=True):
        place = [f"{chunk.position + 1}.", f"{chunk.start}-{chunk.end}", f"{tokens} tokens"]
        if chunk.page_start is not None:
            place.append(f"page {chunk.page_start}")
        if chunk.parent:
            place.append(f"parent {chunk.parent.start}-{chunk.parent.end}")
        typer.echo(f"{'  '.join(place)}  {one_line(chunk.header)}\n{printable(chunk.text)}\n")
    sizes = made.tokens or [0]
    print_table(
        ("chunker", "chunks", "tokens", "smallest", "median", "largest"),
        [(made.chunker.name, len(made.chunks), sum(sizes), min(sizes), round(median(sizes)), max(sizes))],
    )
    if made.cut_off:
        typer.echo("The file is longer: only its beginning was cut.", err=True)


async def _preview(file: Path, chunking: Chunking) -> Any:
    from core.settings import load_settings  # noqa: PLC0415
    from rag_service.preview import preview  # noqa: PLC0415
    from rag_service.wiring import make_embedder, make_parse  # noqa: PLC0415

    settings = load_settings()
    embedder = make_embedder(settings)
    try:
        parsed = await make_parse(settings)(file, file.name)
        return await preview(parsed, chunking, embedder, title=parsed.title or file.stem)
    finally:
        await embedder.close()
