"""`rag-service ingest`: files and folders into a knowledge base, until they can be searched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from core.errors import BadRequest, Unavailable
from core.text import some_of
from rag_service.api.schemas import Job, JobError, UploadResult
from rag_service.cli.client import Api, LocalFile, Refused, open_api
from rag_service.cli.output import one_line, print_table, shortened

FILES_PER_REQUEST = 20
BYTES_PER_REQUEST = 32 * 2**20
NAMES_BESIDE_HINT = 2
AGAIN = "Running it again is safe: files that are there already do no work."
REFUSES_FILE = (400, 413, 415, 422)  # statuses that blame the one file of a request


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file; why, and what to do, if it failed; the name that its bytes had already."""

    name: str
    status: Literal["ready", "unchanged", "queued", "failed"]
    reason: str = ""
    hint: str = ""
    same_as: str | None = None


# Tells how far it is: what happens now, files done, files in all.
Report = Callable[[str, int, int], None]


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; hidden files are left out.")],
    kb: Annotated[str, typer.Option(help="Knowledge base.")] = "default",
    wait: Annotated[bool, typer.Option(help="Wait until the documents can be searched.")] = True,
) -> None:
    """Add documents. Those that are there already and have not changed cost nothing."""
    files = find_files(paths)
    with open_api() as api, safe_to_repeat(), progress() as report:
        outcomes = add_files(api, kb, files, wait=wait, report=report)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    print_same(outcomes)
    if failed:
        print_failed(failed)
    typer.echo(in_words(outcomes))
    if failed:
        raise typer.Exit(1)


def find_files(paths: Sequence[Path]) -> list[LocalFile]:
    """The files to upload, named by their path inside the given folder.

    Raises `BadRequest` if a path does not exist, if nothing is found, or if two files get the same name.
    """
    files = [file for path in paths for file in files_under(path)]
    if not files:
        raise BadRequest(f"There are no files in {', '.join(map(str, paths))}.")
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.name, file.path)
        if other.absolute() != file.path.absolute():
            raise BadRequest(
                f"{other} and {file.path} would both be named {file.name!r}.",
                hint="Give the folder above them instead.",
            )
    return [LocalFile(path, name) for name, path in seen.items()]


def files_under(path: Path) -> Iterator[LocalFile]:
    """The files of a folder without the hidden ones; a file as it is. Raises `BadRequest` if one cannot be read."""
    if path.is_file():
        yield LocalFile(path, path.name)
        return
    if not path.is_dir():
        raise BadRequest(f"{path} does not exist.")
    for folder, subfolders, names in os.walk(path, onerror=_refuse_folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield LocalFile(file, file.relative_to(path).as_posix())


def _refuse_folder(error: OSError) -> NoReturn:
    raise BadRequest(f"{error.filename} cannot be read: {error.strerror}.")


def add_files(
    api: Api,
    kb: str,
    files: Sequence[LocalFile],
    *,
    wait: bool,
    report: Report = lambda *_: None,
    source: str | None = None,
) -> list[Outcome]:
    """Upload `files` and, with `wait`, follow their jobs to the end. One outcome for each file."""
    outcomes: list[Outcome] = []
    jobs: list[tuple[UploadResult, Job]] = []
    for batch in batches(files):
        report("uploading", len(outcomes), len(files))
        for result in _upload(api, kb, batch, source):
            if isinstance(result, UploadResult) and result.job is not None and wait:
                jobs.append((result, result.job))
            else:
                outcomes.append(result if isinstance(result, Outcome) else _outcome(result))
    total = len(outcomes) + len(jobs)  # an archive is one file and many results
    for result, job in jobs:
        for state in api.follow(job):
            report(f"{state.stage} {result.name}", len(outcomes), total)
        outcomes.append(replace(_finished(result.name, state), same_as=result.same_as))
    return outcomes


def batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    """Files in groups that fit one request, by count and size. A larger file goes alone."""
    batch: list[LocalFile] = []
    size = 0
    for file in files:
        bytes_ = file.path.stat().st_size if file.path.exists() else 0
        if batch and (len(batch) == FILES_PER_REQUEST or size + bytes_ > BYTES_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += bytes_
    if batch:
        yield batch


def _upload(api: Api, kb: str, batch: list[LocalFile], source: str | None) -> list[UploadResult | Outcome]:
    readable: list[LocalFile] = []
    results: list[UploadResult | Outcome] = []
    for file in batch:
        try:
            file.path.open("rb").close()
            readable.append(file)
        except OSError as error:
            results.append(Outcome(file.name, "failed", f"It cannot be read: {error.strerror}."))
    if not readable:
        return results
    try:
        return [*results, *api.upload(kb, readable, source=source)]
    except Refused as error:
        blames_file = error.status in REFUSES_FILE or error.code == "of-another-source"
        if len(readable) > 1 or not blames_file:
            raise
        return [*results, Outcome(readable[0].name, "failed", error.message, error.hint or "")]


def _outcome(result: UploadResult) -> Outcome:
    if result.outcome == "refused":
        return _failed(result.name, result.error)
    return Outcome(result.name, result.outcome, same_as=result.same_as)


def _finished(name: str, job: Job) -> Outcome:
    if job.status == "done":
        return Outcome(name, "ready")
    if job.error is None:
        return Outcome(name, "failed", f"The job was {job.status}.")
    return _failed(name, job.error)


def _failed(name: str, error: JobError | None) -> Outcome:
    if error is None:
        return Outcome(name, "failed")
    return Outcome(name, "failed", error.message, error.hint or "")


def print_same(outcomes: Sequence[Outcome]) -> None:
    """Lines such as "copy.md: unchanged (same as policy/tariff.md)"."""
    for outcome in outcomes:
        if outcome.same_as is not None and outcome.status != "failed":
            typer.echo(one_line(f"{outcome.name}: {outcome.status} (same as {outcome.same_as})", most=1000))


def print_failed(failed: Sequence[Outcome]) -> None:
    """A table of the reasons; below it each hint once, with the files that it is for."""
    print_table(
        ("failed", "reason"),
        [(each.name, each.reason.replace(each.name, shortened(each.name))) for each in failed],
    )
    names: dict[str, list[str]] = {}
    for outcome in failed:
        if outcome.hint:
            names.setdefault(outcome.hint, []).append(outcome.name)
    for hint, hinted in names.items():
        named = some_of([shortened(one_line(name)) for name in hinted], NAMES_BESIDE_HINT)
        typer.echo(f"{named}: {one_line(hint, most=1000)}")


def in_words(outcomes: Sequence[Outcome]) -> str:
    """For example "12 ready, 3 unchanged, 1 failed"."""
    counts = {status: 0 for status in ("ready", "queued", "unchanged", "failed")}
    for outcome in outcomes:
        counts[outcome.status] += 1
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


@contextmanager
def safe_to_repeat() -> Iterator[None]:
    """Adds to a connection that broke off, which nobody has a hint for, what to do about it."""
    try:
        yield
    except Unavailable as error:
        raise Unavailable(error.message, hint=error.hint or AGAIN) from None


@contextmanager
def progress() -> Iterator[Report]:
    """A bar on the terminal's standard error; nothing where there is no terminal."""
    from rich.console import Console  # noqa: PLC0415 (`rag-service up` never needs it)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda now, done, total: bar.update(
            task, description=one_line(now, most=60), completed=done, total=total
        )
