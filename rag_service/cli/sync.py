"""`rag-service sync`: a knowledge base follows a folder. What is new or changed is sent, what is gone is removed.

Files are compared by their SHA-256. Only documents that came from this folder (`source`) are ever removed, and only
after everything else was sent, so that a run that breaks off removes nothing that is still wanted.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from core.errors import BadRequest
from rag_service.api.schemas import Document
from rag_service.cli.client import LocalFile, kb_path, open_api
from rag_service.cli.ingest import (
    Outcome,
    add_files,
    files_under,
    in_words,
    print_failed,
    print_same,
    progress,
    safe_to_repeat,
)
from rag_service.cli.output import print_table

LONGEST_SOURCE = 200  # characters


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done so that the documents of a source are those of its folder."""

    add: list[LocalFile]
    change: list[LocalFile]
    archives: list[LocalFile]  # only the service knows what is in them: they are always sent
    remove: list[Document]
    unchanged: int


def sync(
    kb: Annotated[str, typer.Argument(help="Knowledge base.")],
    folder: Annotated[Path, typer.Argument(help="Folder; hidden files are left out.")],
    source: Annotated[
        str | None,
        typer.Option(help="Name of this source; without: this machine's name and the folder's path."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Remove all its documents if the folder is empty.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the documents can be searched.")] = True,
) -> None:
    """Make a knowledge base follow a folder: send what changed, remove what is gone from it."""
    if not folder.is_dir():
        raise BadRequest(f"{folder} is no folder.", hint="Is it mounted? Nothing was removed.")
    name = "folder:" + (source or f"{platform.node()}:{folder.resolve()}")[-(LONGEST_SOURCE - 7) :]
    files = named(files_under(folder))
    with open_api() as api, safe_to_repeat(), progress() as report:
        documents = [Document.model_validate(item) for item in api.pages(kb_path(kb, "documents"), limit=200)]
        plan = make_plan(files, documents, name)
        if not files and plan.remove and not allow_empty:
            raise BadRequest(
                f"There are no files in {folder}, but {len(plan.remove)} documents came from it.",
                hint="Is it mounted? With --allow-empty they are removed.",
            )
        if dry_run:
            _show(plan)
            return
        outcomes = add_files(
            api, kb, plan.add + plan.change + plan.archives, wait=wait, report=report, source=name
        )
        gone = plan.remove + left_archives(plan, outcomes, documents, name)
        for document in gone:
            api.delete(kb_path(kb, "documents", document.id))
        again = renamed(plan.add, outcomes, gone)
        outcomes = [each for each in outcomes if each.name not in {file.name for file in again}]
        outcomes += add_files(api, kb, again, wait=wait, report=report, source=name)
    _tell(outcomes, plan.unchanged, len(gone))


def named(files: Iterable[LocalFile]) -> list[LocalFile]:
    """The files under the names that their documents get."""
    from ingest.intake import clean_name  # noqa: PLC0415 (the database's libraries: other commands start without)

    return [LocalFile(file.path, clean_name(file.name)) for file in files]


def make_plan(files: Sequence[LocalFile], documents: Sequence[Document], source: str) -> Plan:
    """Compare the folder with all documents of the knowledge base."""
    archives = [file for file in files if is_archive(file)]
    singles = [file for file in files if not is_archive(file)]
    names = {file.name for file in singles}
    inside = tuple(f"{file.name}/" for file in archives)
    remove = [
        document
        for document in documents
        if document.source == source and document.name not in names and not document.name.startswith(inside)
    ]
    going = {document.id for document in remove}
    by_name = {document.name: document for document in documents}
    contents = {document.sha256 for document in documents if document.id not in going}
    plan = Plan([], [], archives, remove, 0)
    unchanged = 0
    for file in singles:
        there, sha256 = by_name.get(file.name), _sha256(file.path)
        if there is None and sha256 not in contents:
            plan.add.append(file)
        elif there is not None and (there.sha256, there.source) != (sha256, source):
            plan.change.append(file)
        else:
            unchanged += 1
    return Plan(plan.add, plan.change, archives, remove, unchanged)


def is_archive(file: LocalFile) -> bool:
    """Whether the service makes a document of each file in it."""
    return file.path.suffix.lower() == ".zip"


def left_archives(
    plan: Plan, outcomes: Sequence[Outcome], documents: Sequence[Document], source: str
) -> list[Document]:
    """Documents whose archive was read, but holds them no more."""
    read = {outcome.name for outcome in outcomes}
    inside = tuple(f"{file.name}/" for file in plan.archives if file.name not in read)  # else it was refused
    own = (document for document in documents if document.source == source)
    return [each for each in own if each.name.startswith(inside) and each.name not in read]


def renamed(
    added: Sequence[LocalFile], outcomes: Sequence[Outcome], gone: Sequence[Document]
) -> list[LocalFile]:
    """Files that were not kept because a document had the same bytes which is now gone."""
    names = {document.name for document in gone}
    lost = {outcome.name for outcome in outcomes if outcome.same_as in names}
    return [file for file in added if file.name in lost]


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None  # equal to no document's; sending it says what is wrong


def _show(plan: Plan) -> None:
    rows = [("add", file.name) for file in plan.add]
    rows += [("change", file.name) for file in plan.change]
    rows += [("look into", file.name) for file in plan.archives]
    rows += [("remove", document.name) for document in plan.remove]
    print_table(("would", "document"), rows)
    typer.echo(
        f"{len(plan.add)} to add, {len(plan.change)} to change, {len(plan.remove)} to remove, "
        f"{plan.unchanged} unchanged"
    )


def _tell(outcomes: Sequence[Outcome], unchanged: int, removed: int) -> None:
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    print_same(outcomes)
    if failed:
        print_failed(failed)
    every = [*outcomes, *[Outcome("", "unchanged")] * unchanged]
    words = [in_words(every), f"{removed} removed" if removed else ""]
    typer.echo(", ".join(filter(None, words)) or "nothing to do")
    if failed:
        raise typer.Exit(1)
