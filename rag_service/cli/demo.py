"""`rag-service demo`: does it all work on this machine? A real model answers from real documents.

Starts the whole service with the demo model in a folder and on a port of its own, adds the demo documents,
asks a Chinese and an English question, checks that the model wrote cited answers, and stops everything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from core.errors import ModelError, Unavailable
from core.settings import Settings, environment, load_settings
from rag_service.api.schemas import AskResponse
from rag_service.cli.ask import print_answer, stream_answer
from rag_service.cli.client import Api
from rag_service.cli.ingest import add_files, find_files, in_words
from rag_service.local.postgres import make_data_dir
from rag_service.local.processes import die_with_parent

QUESTIONS = ("女员工产假是多少天？", "How long is the warranty of the Atlas 9?")
PASSAGES = 1  # a model of 270 million parameters mixes up what several passages say
READY = "rag-service is ready: "  # what `rag-service up` prints before its address
STOP_TIMEOUT_S = 60.0


def demo() -> None:
    """Show a cited Chinese and English answer by a small local model, then stop."""
    from models.llm.demo_model import demo_model  # noqa: PLC0415 (only the demo needs it)

    settings = load_settings()
    folder = settings.data_dir / "models"
    make_data_dir(settings.data_dir)
    folder.mkdir(exist_ok=True)
    model = demo_model(folder)
    typer.echo(f"{model.notice}\n")
    with running_service(demo_settings(settings, model.path)) as (url, key), Api(url, key) as api:
        outcomes = add_files(api, "default", find_files(demo_documents()), wait=True)
        typer.echo(f"Demo documents: {in_words(outcomes)}")
        for question in QUESTIONS:
            typer.echo(f"\n{question}")
            answer = stream_answer(api, ["default"], {"question": question, "top_k": PASSAGES})
            print_answer(answer)
            check(answer, model.path)
    typer.echo("\nThe demo works. Start the service with `rag-service up`.")
    typer.echo(
        "It answers without a model unless one is set. This one continues texts and follows no instructions: "
        f"RAG_LLM__MODEL_PATH={model.path} RAG_LLM__PROMPT_STYLE=completion"
    )


def demo_documents() -> list[Path]:
    """The folders of the demo's documents, as installed: Chinese and English."""
    folder = Path(__file__).parent.parent / "demo_documents"
    return [folder / "zh", folder / "en"]


def demo_settings(settings: Settings, model: Path) -> Settings:
    """The service's settings with the demo's folder, port and model, and everything else embedded."""
    return Settings.model_validate(
        {
            "data_dir": settings.data_dir / "demo",
            "server": {"host": "127.0.0.1", "port": 0},
            "llm": {
                "kind": "llama-cpp",
                "model_path": model.absolute(),
                "prompt_style": "completion",
                "context_tokens": 2048,
                "max_new_tokens": 96,
                "concurrency": 1,
            },
            # A model of this size writes poor summaries slowly; sentences chosen from the text serve better.
            "ingest": {"summarise": "extractive"},
        }
    )


@contextmanager
def running_service(settings: Settings) -> Iterator[tuple[str, str]]:
    """`rag-service up` with these settings, from entering to leaving; gives its address and admin key."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "rag_service.cli", "up"],
        cwd=settings.data_dir.parent,  # where no rag-service.toml of the user is picked up
        env={**others, **environment(settings), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for us; we stop it in order
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (we have no threads)
    )
    try:
        url = _address(process)
        yield url, settings.admin_key_file.read_text(encoding="utf-8").strip()
    finally:
        _stop(process)


def _address(process: subprocess.Popen[str]) -> str:
    """Pass on what the service prints until it names its address."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
        typer.echo(line, nl=False)
    raise Unavailable("The service did not start; the lines above say why.")


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=STOP_TIMEOUT_S)  # also reads what it still prints, so that it can end
    except subprocess.TimeoutExpired:
        process.kill()  # the kernel ends its children
        process.communicate()


def check(answer: AskResponse, model: Path) -> None:
    """Raise `ModelError` unless the model itself wrote the answer and the answer is cited."""
    if model.stem not in answer.model or answer.degraded:
        raise ModelError(f"The answer was not written by {model.name}: {answer.model}, {answer.degraded}.")
    if not answer.citations:
        raise ModelError("The answer cites no passage.", hint="The logs in the demo's data folder say more.")
