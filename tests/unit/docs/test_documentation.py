"""Do the pages say what is so? Links, names of settings, commands and make targets, examples, generated pages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from core.settings import FOREIGN_VARIABLES, Settings, environment, load_settings
from ingest.parsers import Limits, parse
from rag_service.answering.prompt import BUILT_IN, Prompts
from rag_service.cli import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^( *)(`{3,})([\w-]*)\n(.*?)^\1\2$", re.M | re.S)
# Addresses of package indexes and mirrors, told by the words that such hosts have in their names.
INDEX_ADDRESS = re.compile(
    r"\b(?:[\w-]+\.)*(?:pypi|npmjs|registry|crates|goproxy|mirrors?|pythonhosted|debian|maven\w*)"
    r"(?:\.[\w-]+)*\.(?:org|com|io|net|cn|dev)\b|--(?:extra-)?index-url"
)

# Values for the settings that have no default and are no numbers from 1 on.
VALUES = {
    "RAG_DATABASE__URL": "postgresql://h/db",
    "RAG_BROKER__URL": "redis://h",
    "RAG_OLD_EMBEDDER__KIND": "ollama",
    "RAG_OLD_EMBEDDER__MAX_TOKENS": "64",
    "RAG_OLD_EMBEDDER__BATCH_TOKENS": "64",
}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(page: Path, language: str) -> Iterator[str]:
    """The code of the page's fenced blocks in this language."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if match[3] == language:
            yield re.sub(f"^{match[1]}", "", match[4], flags=re.M)


def commands(page: Path) -> list[str]:
    """The command lines that the page shows: in code blocks (in a console, behind the prompt) and in the text."""
    text = page.read_text(encoding="utf-8")
    shell = [line for block in blocks(page, "sh") for line in block.splitlines()]
    console = [line for block in blocks(page, "console") for line in block.splitlines()]
    typed = [line.removeprefix("$ ") for line in console if line.startswith("$ ")]
    return [*shell, *typed, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as Git hosts make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_pages_written_from_the_code_are_current() -> None:
    checked = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def documented_settings() -> set[str]:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(RAG_\w+)` \|", page, re.M))


# Settings of models are refused where the kind of model does not use them.
WITH_MODELS = {
    "RAG_EMBEDDER__KIND": "openai",
    "RAG_EMBEDDER__URL": "http://localhost",
    "RAG_EMBEDDER__MODEL": "m",
    "RAG_OLD_EMBEDDER__KIND": "openai",
    "RAG_OLD_EMBEDDER__URL": "http://localhost",
    "RAG_OLD_EMBEDDER__MODEL": "m",
    "RAG_RERANKER__KIND": "http",
    "RAG_RERANKER__URL": "http://localhost",
}


def test_every_setting_is_documented() -> None:
    set_by_default = set(environment(Settings()))
    assert set_by_default <= documented_settings()
    for name in documented_settings() - set_by_default:
        if "__NAME__" not in name:
            load_settings(WITH_MODELS | {name: VALUES.get(name, "1")})  # an unknown one would be refused


@each_page
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"\bRAG_(?!TEST_)[A-Z0-9_]*[A-Z0-9]\b(?!_)", page.read_text(encoding="utf-8"))
    known = documented_settings() | FOREIGN_VARIABLES
    for name in named:
        assert name in known or re.sub(r"(RAG_(?:STORES|LLMS)__)[A-Z]+", r"\1NAME", name) in known, name


@each_page
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = unquote(target).partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@each_page
def test_no_page_names_a_package_index(page: Path) -> None:
    assert INDEX_ADDRESS.findall(page.read_text(encoding="utf-8")) == []


@each_page
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    shown = re.findall(r"(?:^|[/ ])rag-service ([a-z]+)", "\n".join(commands(page)), re.M)
    assert set(shown) <= set(group.commands)


@each_page
def test_make_targets_that_a_page_shows_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    shown = re.findall(r"(?:^| )make ([a-z-]+)", "\n".join(commands(page)), re.M)
    assert set(shown) <= targets


@each_page
def test_files_of_the_source_that_a_page_names_exist(page: Path) -> None:
    folders = (
        "rag_service|ingest|retrievers|rerankers|stores|models|core|migrations|tests|scripts|web|benchmarks"
    )
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"`((?:{folders})/[\w/.-]+\.(?:py|sh|jinja))`", text):
        assert (ROOT / name).exists() or "NAME" in name, name


@each_page
def test_examples_in_python_and_toml_are_well_formed(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)
    for text in blocks(page, "toml"):
        Settings.model_validate(tomllib.loads(text))


def test_the_example_format_reads_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs" / "howto" / "add-a-format.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "add-a-format.md", "exec"), names)  # our own page
    monkeypatch.setattr("ingest.parsers.FORMATS", (names["VCARD"],))
    card = tmp_path / "card"
    card.write_text("BEGIN:VCARD\nVERSION:4.0\nFN:李雷\nTEL:8021\nEND:VCARD\n", encoding="utf-8")

    parsed = parse(card, "card.vcf", Limits())

    assert parsed.text == "李雷\nTEL: 8021"
    section = parsed.section_at(parsed.text.index("8021"))
    assert section is not None
    assert section.path == ("李雷",)


def test_the_example_template_can_be_used_and_the_shown_one_is_the_built_in(tmp_path: Path) -> None:
    shown, own = blocks(ROOT / "docs" / "howto" / "prompt-templates.md", "jinja")
    assert shown.rstrip("\n") == (BUILT_IN / "zh.jinja").read_text(encoding="utf-8")

    (tmp_path / "short.jinja").write_text(own, encoding="utf-8")
    prompt = Prompts(folder=tmp_path, default="short").render("How long?", ["36 months."])
    assert "\n36 months.\n" in prompt
    assert prompt.endswith("Question: How long?\n")
