"""Settings: what is unknown, malformed or contradictory is refused by name; what is valid survives a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import environment, load_settings


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return caught.value.message


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RAG_SERVER__PROT", "server.prot is not a setting."),
        ("RAG_SEVER__PORT", "sever is not a setting."),
        ("RAG_NONSENSE", "nonsense is not a setting."),
        ("RAG_DATA_DIR__X", "data_dir: "),
    ],
)
def test_an_unknown_variable_is_refused_by_its_name(name: str, words: str) -> None:
    assert words in refusal({name: "1"})


def test_every_unknown_name_is_listed_at_once() -> None:
    message = refusal({"RAG_AAA": "1", "RAG_LLM__BBB": "1"})
    assert "aaa is not a setting." in message
    assert "llm.bbb is not a setting." in message


def test_a_setting_cannot_have_parts_below_a_value() -> None:
    assert "log_level has no parts" in refusal({"RAG_LOG_LEVEL": "info", "RAG_LOG_LEVEL__X": "1"})


def test_an_unknown_name_in_the_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "rag-service.toml").write_text("[llm]\nmodle = 'x'\n")
    assert refusal({}) == "llm.modle is not a setting."


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[server]\nport = 8001\nhost = '0.0.0.0'\n")
    settings = load_settings({"RAG_CONFIG": str(path), "RAG_SERVER__PORT": "8002"})
    assert (settings.server.port, settings.server.host) == (8002, "0.0.0.0")
    assert settings.server.max_upload_mb == load_settings({}).server.max_upload_mb


def test_a_file_that_is_named_but_absent_or_no_toml_is_named(tmp_path: Path) -> None:
    assert "absent.toml, which does not exist" in refusal({"RAG_CONFIG": "absent.toml"})
    broken = tmp_path / "broken.toml"
    broken.write_text("[llm")
    assert f"{broken} is not valid TOML" in refusal({"RAG_CONFIG": str(broken)})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"RAG_LLM__KIND": "llama-cpp"}, "llm.model_path must name"),
        ({"RAG_LLM__KIND": "openai"}, "llm.url must name"),
        (
            {"RAG_LLM__CONTEXT_TOKENS": "512", "RAG_LLM__MAX_NEW_TOKENS": "512"},
            "llm.max_new_tokens must be smaller",
        ),
        ({"RAG_SERVER__PORT": "70000"}, "server.port: "),
        ({"RAG_SERVER__PORT": "eighty"}, "server.port: "),
        ({"RAG_RETRIEVAL__MODE": "both"}, "retrieval.mode: "),
        ({"RAG_LLM__KIND": "oracle"}, "llm.kind: "),
    ],
)
def test_a_contradiction_or_a_wrong_value_names_the_setting(environ: dict[str, str], words: str) -> None:
    assert words in refusal(environ)


def test_variables_of_clients_are_not_settings() -> None:
    load_settings({"RAG_URL": "http://x", "RAG_API_KEY": "rag_x", "PATH": "/bin"})


def test_settings_survive_the_way_through_the_environment_of_a_child() -> None:
    given = {
        "RAG_DATA_DIR": "/data",
        "RAG_DATABASE__URL": "postgresql://u:p@h/db",
        "RAG_LLM__KIND": "openai",
        "RAG_LLM__URL": "http://llm/v1",
        "RAG_LLM__API_KEY": "sk-1",
        "RAG_LLM__TEMPERATURE": "0.7",
        "RAG_RETRIEVAL__MODE": "strict",
        "RAG_ANSWER__TEMPLATE_DIR": "/templates",
    }
    settings = load_settings(given)
    passed_on = environment(settings)
    assert given.items() <= passed_on.items()
    assert load_settings(passed_on) == settings


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load_settings(
        {"RAG_DATABASE__URL": "postgresql://u:hunter2@h/db", "RAG_LLM__API_KEY": "sk-hunter2"}
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
