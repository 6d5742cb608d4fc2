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
        ("RAG_SERVER__PROT", "RAG_SERVER__PROT is not a setting (did you mean RAG_SERVER__PORT?)."),
        ("RAG_SEVER__PORT", "RAG_SEVER__PORT is not a setting (did you mean RAG_SERVER__PORT?)."),
        ("RAG_RETREIVAL__POOL", "RAG_RETREIVAL__POOL is not a setting (did you mean RAG_RETRIEVAL__POOL?)."),
        ("RAG_DATA_DIR__X", "RAG_DATA_DIR__X is not a setting (did you mean RAG_DATA_DIR?)."),
        ("RAG_NONSENSE", "RAG_NONSENSE is not a setting."),
        ("RAG_SERVER", "RAG_SERVER is not a setting."),
        ("RAG_STORES", "RAG_STORES is not a setting."),
        ("rag_nonsense", None),
    ],
)
def test_an_unknown_variable_is_refused_as_it_was_typed(name: str, words: str | None) -> None:
    if words is None:  # another program's
        load_settings({name: "1"})
    else:
        assert refusal({name: "1"}) == words


def test_every_unknown_name_is_listed_at_once() -> None:
    message = refusal({"RAG_AAA": "1", "RAG_LLM__BBB": "1"})
    assert "RAG_AAA is not a setting." in message
    assert "RAG_LLM__BBB is not a setting." in message


def test_a_wrong_name_in_file_and_environment_is_refused_in_both(tmp_path: Path) -> None:
    (tmp_path / "rag-service.toml").write_text("[serv]\nport = 1\n")
    message = refusal({"RAG_SERV__HOST": "::"})
    assert "rag-service.toml: [serv] port is not a setting (did you mean [server] port?)." in message
    assert "RAG_SERV__HOST is not a setting (did you mean RAG_SERVER__HOST?)." in message


def test_a_setting_cannot_have_parts_below_a_value() -> None:
    assert "log_level has no parts" in refusal({"RAG_LOG_LEVEL": "info", "RAG_LOG_LEVEL__X": "1"})


def test_an_unknown_name_in_the_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "rag-service.toml").write_text("[llm]\nmodle = 'x'\n")
    assert refusal({}) == "rag-service.toml: [llm] modle is not a setting (did you mean [llm] model?)."


def test_a_wrong_value_names_the_file_or_the_variable_that_gave_it(tmp_path: Path) -> None:
    (tmp_path / "rag-service.toml").write_text("[server]\nport = 70000\n")
    assert refusal({}).startswith("rag-service.toml: [server] port: ")
    assert refusal({"RAG_SERVER__PORT": "eighty"}).startswith("RAG_SERVER__PORT: ")
    assert load_settings({"RAG_SERVER__PORT": "80"}).server.port == 80


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
    assert f"{tmp_path} cannot be read: Is a directory" in refusal({"RAG_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"RAG_LLM__KIND": "llama-cpp"}, "llm.model_path must name"),
        ({"RAG_LLM__KIND": "openai"}, "llm.url must name"),
        (
            {"RAG_LLM__CONTEXT_TOKENS": "512", "RAG_LLM__MAX_NEW_TOKENS": "512"},
            "llm.max_new_tokens must be smaller",
        ),
        ({"RAG_LLM__KIND": "extractive", "RAG_LLM__URL": "http://x"}, "but llm.url is set"),
        ({"RAG_LLM__KIND": "extractive", "RAG_LLM__MODEL": "qwen3"}, "but llm.model is set"),
        ({"RAG_LLM__KIND": "extractive", "RAG_LLM__MODEL_PATH": "x.gguf"}, "but llm.model_path is set"),
        ({"RAG_RETRIEVAL__POOL": "3"}, "retrieval.pool (3) is smaller than retrieval.top_k (8)"),
        ({"RAG_SERVER__PORT": "70000"}, "RAG_SERVER__PORT: "),
        ({"RAG_RETRIEVAL__MODE": "both"}, "RAG_RETRIEVAL__MODE: "),
        ({"RAG_LLM__KIND": "oracle"}, "RAG_LLM__KIND: "),
        ({"RAG_DATABASE__URL": "mysql://x"}, "RAG_DATABASE__URL: it must begin with postgresql:// or"),
        ({"RAG_BROKER__URL": "ftp://x"}, "RAG_BROKER__URL: it must begin with the scheme of a broker"),
        ({"RAG_BROKER__URL": "localhost"}, "RAG_BROKER__URL: it must begin with the scheme of a broker"),
        ({"RAG_STORE__KIND": "milvus"}, "RAG_STORES__MILVUS__URL (stores.milvus.url) must name"),
        ({"RAG_STORES__MILVUS__TOKEN": "t"}, "RAG_STORES__MILVUS__URL (stores.milvus.url) must be set"),
        ({"RAG_STORE__KIND": "oracle"}, "there are pgvector, milvus, redis, elasticsearch, mongo"),
        ({"RAG_STORES__ORACLE__URL": "x"}, "stores.oracle: there is no such store; there are milvus"),
    ],
)
def test_a_contradiction_or_a_wrong_value_names_the_setting(environ: dict[str, str], words: str) -> None:
    assert words in refusal(environ)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://h", "amqp://h", "amqps://h", "sqs://", "sqla+postgresql://h/db"]
)
def test_every_kind_of_broker_that_the_queue_knows_is_accepted(url: str) -> None:
    assert load_settings({"RAG_BROKER__URL": url}).broker.url is not None


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


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAG_EMBEDDER__KIND": "ollama"}, "embedder.model must be set"),
        ({"RAG_EMBEDDER__KIND": "openai", "RAG_EMBEDDER__MODEL": "m"}, "embedder.url must be set"),
        ({"RAG_EMBEDDER__MODEL": "m"}, "embedder.kind is bundled"),
        ({"RAG_OLD_EMBEDDER__KIND": "ollama"}, "old_embedder.model must be set"),
        ({"RAG_OLD_EMBEDDER__KID": "ollama"}, "did you mean RAG_OLD_EMBEDDER__KIND?"),
        ({"RAG_RERANKER__KIND": "cross-encoder"}, "reranker.model must be set"),
        ({"RAG_RERANKER__KIND": "http"}, "reranker.url must be set"),
        ({"RAG_RERANKER__URL": "http://localhost"}, "reranker.kind is coverage"),
    ],
)
def test_models_without_what_they_need_and_what_nobody_uses_are_refused(
    variables: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(variables)
