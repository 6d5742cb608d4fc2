"""`rag-service kb backup`, `restore` and `export`: a knowledge base as a file, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from core.errors import BadRequest, RagError
from rag_service.api.schemas import Restore
from rag_service.cli.client import kb_path, open_api

Name = Annotated[str, typer.Argument(help="Name of the knowledge base.")]


def backup(
    name: Name, to: Annotated[Path, typer.Option(help="File to write; it must not be there yet.")]
) -> None:
    """Write all of a knowledge base to one file, and check the file."""
    from ingest.backup_file import BackupFile  # noqa: PLC0415 (numpy: other commands start without it)

    with open_api() as api, _new_file(to) as (file, part):
        for piece in api.download(kb_path(name, "backup")):
            file.write(piece)
        file.flush()
        counts = BackupFile(part).check()
    typer.echo(
        f"Backed up {counts['documents']} documents, {counts['chunks']} chunks and {counts['summaries']} summaries "
        f"to {to} ({to.stat().st_size} bytes)."
    )


def restore(
    file: Annotated[Path, typer.Argument(help="Backup, as `kb backup` made it.")],
    name: Annotated[str | None, typer.Option(help="Name of the knowledge base; without: as it was.")] = None,
    store: Annotated[str | None, typer.Option(help="Vector store; without: the service's setting.")] = None,
    reread: Annotated[
        bool, typer.Option(help="Read all originals again, with the service's embedder.")
    ] = False,
) -> None:
    """Make a knowledge base of a backup."""
    with open_api() as api:
        try:
            response = api.send_file("/kbs/restore", file, name=name, store=store, reread=reread)
        except OSError as error:
            raise BadRequest(f"{file} cannot be read: {error.strerror}.") from None
        taken = Restore.model_validate(response)
        api.wait(taken.job)
    typer.echo(f"Restored {taken.name} with {taken.documents} documents.")
    if reread:
        typer.echo(f"They are read again; rag-service jobs list --kb {taken.name} shows how far.")


def export(
    name: Name,
    to: Annotated[
        Path | None, typer.Option(help="File to write; it must not be there yet. Without: standard output.")
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Also the vectors.")] = False,
) -> None:
    """Write the chunks of a knowledge base as JSON lines."""
    with open_api() as api:
        pieces = api.download(kb_path(name, "export"), vectors=vectors)
        if to is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        with _new_file(to) as (file, _):
            for piece in pieces:
                file.write(piece)
    typer.echo(f"Exported {name} to {to}.")


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file that gets its name when the block ends, and is removed if the block raises; and its path till then."""
    if path.exists():
        raise BadRequest(f"{path} is there already.", hint="Choose another name, or remove it.")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("xb") as file:
            yield file, part
        part.rename(path)
    except FileExistsError:
        raise BadRequest(f"{part} is there already.", hint="Remove it if nobody writes it.") from None
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RagError(f"{path} cannot be written: {error.strerror}.") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
