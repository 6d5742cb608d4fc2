"""Does docker-compose.yml keep its promises, and do the stand-ins of tests/images fit it?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import SERVICES

from core.settings import load_settings

ROOT = Path(__file__).parents[3]
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ALL: dict[str, dict[str, Any]] = FILE["services"]
SERVERS = {service.name: kind for kind, service in SERVICES.items()}
STORES = [kind for kind in SERVICES if kind != "pgvector"]


def interpolated(value: str, **variables: str) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as Compose reads them."""
    while found := re.search(r"\$\{(\w+)(?::([-?])([^${}]*))?\}", value):
        name, kind, default = found.groups()
        value = value.replace(found[0], variables.get(name, default if kind == "-" else ""))
    return value


@pytest.mark.parametrize("name", ALL)
def test_every_service_has_a_health_check_and_none_is_open_to_other_machines(name: str) -> None:
    assert "test" in ALL[name]["healthcheck"] or name == "migrate"  # which ends
    assert all(str(port).startswith("127.0.0.1:") for port in ALL[name].get("ports", []))


@pytest.mark.parametrize("name", SERVERS)
def test_servers_have_an_exact_version_and_keep_their_data_in_a_volume(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", ALL[name]["image"])
    (volume,) = ALL[name]["volumes"]
    assert volume.split(":")[0] in FILE["volumes"]


@pytest.mark.parametrize("store", STORES)
def test_each_store_has_a_profile_that_nothing_else_needs(store: str) -> None:
    assert ALL[store]["profiles"] == [store]
    for name in ("api", "worker"):
        assert ALL[name]["depends_on"][store] == {"condition": "service_healthy", "required": False}


@pytest.mark.parametrize("name", ["migrate", "api", "worker"])
@pytest.mark.parametrize("store", STORES)
def test_the_service_takes_the_environment_and_knows_every_store(
    name: str, store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in ALL[name]["environment"].items():
        if value is not None:
            monkeypatch.setenv(
                variable, interpolated(value, POSTGRES_PASSWORD="secret", RAG_STORE__KIND=store)
            )
    settings = load_settings()
    assert settings.store.kind == store
    assert f"@{store}:" in settings.stores[store].url.get_secret_value() or store == "milvus"
    assert "secret" in (settings.stores[store].token or settings.stores[store].url).get_secret_value()


@pytest.mark.parametrize("kind", SERVICES)
def test_each_image_has_a_stand_in_that_says_what_it_is(kind: str) -> None:
    first, *lines = (ROOT / "tests" / "images" / kind / "Dockerfile").read_text().splitlines()
    assert first.startswith(("# The real ", "# A lookalike: "))
    assert ("rag-service.lookalike=" in "\n".join(lines)) == first.startswith("# A lookalike: ")
    base = next(line for line in lines if line.startswith("FROM "))
    assert base in (ROOT / "Dockerfile").read_text().splitlines()
