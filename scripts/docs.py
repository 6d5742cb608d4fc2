"""Which settings and endpoints are there? Writes the pages of docs/ that follow from the code.

python scripts/docs.py            writes docs/settings.md, docs/api.md, docs/sampling.md and docs/openapi.json
python scripts/docs.py --check    writes nothing; exit status 1 if one of them is out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from core.settings import ENV_PREFIX, Settings
from models.llm.presets import PRESETS, JsonConstraint
from models.llm.sampling import NEUTRAL, SamplingParams
from rag_service.api.deps import admin_key, any_key
from rag_service.app import create_app

DOCS = Path(__file__).resolve().parents[1] / "docs"
GENERATED = "<!-- Written by scripts/docs.py from the code: change it there, then run the script. -->\n"
# Defaults that depend on the machine, in words.
COMPUTED_DEFAULTS = {"data_dir": "`~/.local/share/rag-service`; `/var/lib/rag-service` for root"}


def main() -> int:
    pages = {
        "settings.md": settings_page(),
        "api.md": api_page(),
        "sampling.md": sampling_page(),
        "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
    }
    if "--check" not in sys.argv[1:]:
        for name, text in pages.items():
            (DOCS / name).write_text(text, encoding="utf-8")
        return 0
    stale = [name for name, text in pages.items() if _read(DOCS / name) != text]
    if stale:
        sys.stderr.write(f"Out of date: {', '.join(stale)}. Run: .venv/bin/python scripts/docs.py\n")
    return int(bool(stale))


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


# --- sampling ----------------------------------------------------------------------------------------------

SAMPLING_INTRO = """# Sampling parameters

How the model chooses its next token. `params` in the body of `…/ask` sets them for one answer, `params` of a knowledge
base for all its answers, `RAG_LLM__MAX_NEW_TOKENS` and `RAG_LLM__TEMPERATURE` for the service; what is left open
everywhere is the engine's own default. Through `/v1/chat/completions` OpenAI's parameters do the same, and the extra
field `params` takes all of them.

```sh
curl -H "Authorization: Bearer $(cat ~/.local/share/rag-service/admin.key)" -H 'Content-Type: application/json' \\
  -d '{"question": "How long is parental leave?", "params": {"temperature": 0.7, "top_k": 40, "stop": ["\\n\\n"]}}' \\
  http://127.0.0.1:8000/api/v1/kbs/default/ask
```

- A parameter that the chosen engine does not have is refused with status 422; the answer names the engines that have
  it. A value that changes nothing (such as a `top_p` of 1) is always taken. Under `/v1` front-ends send parameters that
  nobody asked for: there, OpenAI's are left out instead, and `warnings` of the response says so.
- Parameters that work against each other are pointed out in `warnings`: `temperature` and `top_p` together, `top_p`
  beside a temperature of 0.
- Names are those of Hugging Face's `generate()`. Others of its parameters: `do_sample=False` is `temperature` 0,
  `max_length` is the prompt and `max_new_tokens`, `num_return_sequences` is `n`, `use_cache` is always on;
  `num_beam_groups`, `diversity_penalty` and `constraints` none of the engines has.
"""


def sampling_page() -> str:
    lines = [
        GENERATED,
        SAMPLING_INTRO,
        "## Meanings\n",
        "| Parameter | Value | Off | Meaning |",
        "|---|---|---|---|",
    ]
    for name, field in SamplingParams.model_fields.items():
        off = f"`{json.dumps(NEUTRAL[name])}`" if name in NEUTRAL else "—"
        lines.append(f"| `{name}` | {_sampling_kind(field)} | {off} | {field.description} |")
    lines += ["\n## Who has what, and under which name\n"]
    lines += [
        f"| Parameter | {' | '.join(f'`{engine}`' for engine in PRESETS)} |",
        "|---" * (len(PRESETS) + 1) + "|",
    ]
    for name in SamplingParams.model_fields:
        if name == "n":  # is always 1
            continue
        cells = [f"`{preset.names[name]}`" if name in preset.names else "—" for preset in PRESETS.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    held = [
        "yes" if preset.json_in_chat is not JsonConstraint.NONE else "asked and checked"
        for preset in PRESETS.values()
    ]
    lines.append(f"| held to a JSON schema | {' | '.join(held)} |")
    counts = [
        "by its tokenizer" if preset.tokenizer.value != "none" else "estimated" for preset in PRESETS.values()
    ]
    lines.append(f"| tokens of a prompt | {' | '.join(counts)} |")
    lines += [
        "\nvLLM's `num_beams` also sets `use_beam_search`; vLLM streams beams in chats only, so with "
        "`prompt_style=completion` they are refused. A small model may fill its JSON with spaces up to the limit; "
        """start vLLM with `--structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'`. """
        "Ollama, llama.cpp and vLLM (on processors) are tested for "
        "real; of FastChat, RTP-LLM and LLaMA-Factory only the recorded protocol is."
    ]
    return "\n".join(lines) + "\n"


def _sampling_kind(field: FieldInfo) -> str:
    if "Words" in str(field.annotation) or "tuple" in str(field.annotation):
        return "list of texts"
    if "Literal" in str(field.annotation):
        return '`true`, `false`, `"never"`'
    return _kind(field)


# --- settings ----------------------------------------------------------------------------------------------

SETTINGS_INTRO = """# Settings

A setting comes from, first found first taken:

1. an **environment variable**, as in the first column;
2. a **TOML file**: the one that `RAG_CONFIG` names, else `./rag-service.toml` if it is there. The group is the
   table, the rest of the name the key: `RAG_LLM__URL` is `url` under `[llm]`, `RAG_DATA_DIR` is `data_dir` at the
   top of the file;
3. the default.

A name that is not in this list, and settings that contradict each other, stop the service at its start with the
name. `rag-service doctor` reads the settings and tries everything that they name.

```toml
# rag-service.toml
data_dir = "/srv/rag"

[llm]
kind = "openai"
url = "http://127.0.0.1:8001/v1"
```

The commands that talk to a running service (`ingest`, `ask`, `search`, `kb`, `documents`, `jobs`) also read
`RAG_URL`, the address of the service if it is not on this machine, and `RAG_API_KEY`, a key for it.
"""


def settings_page() -> str:
    parts = [GENERATED, SETTINGS_INTRO]
    groups = {name: group for name, field in Settings.model_fields.items() if (group := _group(field))}
    own = {name: field for name, field in Settings.model_fields.items() if name not in groups}
    parts.append(_settings_table("General", "", ENV_PREFIX, own))
    for name, group in groups.items():
        field = Settings.model_fields[name]
        # One table for each of several names, such as the stores.
        table = f"{name}.NAME" if get_origin(field.annotation) is dict else name
        prefix = f"{ENV_PREFIX}{table.upper().replace('.', '__')}__"
        parts.append(_settings_table(f"[{table}]", field.description or "", prefix, group.model_fields))
    return "\n".join(parts)


def _group(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings that a field is, or of which it holds one for each name; None for a setting."""
    kind: Any = field.annotation
    if get_origin(kind) is UnionType:
        kind = get_args(kind)[0]  # of a group that need not be there
    last: Any = get_args(kind)[-1] if get_origin(kind) is dict else kind
    return last if isinstance(last, type) and issubclass(last, BaseModel) else None


def _settings_table(title: str, text: str, prefix: str, fields: Mapping[str, FieldInfo]) -> str:
    lines = [f"## {title}\n", *([f"{text}\n"] if text else [])]
    lines += ["| Variable | Value | Default | Meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        cells = (f"`{prefix}{name.upper()}`", _kind(field), _default(name, field), field.description or "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _kind(field: FieldInfo) -> str:
    """What may stand there, in words: "integer, 1 to 50"."""
    annotation: Any = field.annotation
    if get_origin(annotation) is UnionType:
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    words = {
        bool: "`true` or `false`",
        int: "integer",
        float: "number",
        str: "text",
        Path: "path",
        SecretStr: "text (secret)",
    }[annotation]
    return ", ".join([words, *filter(None, [_range(field)])])


def _range(field: FieldInfo) -> str:
    bounds = {
        sign: getattr(part, sign)
        for part in field.metadata
        for sign in ("ge", "gt", "le", "lt")
        if getattr(part, sign, None) is not None
    }
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']:g} to {bounds['le']:g}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[sign]} {bound:g}" for sign, bound in bounds.items())


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return COMPUTED_DEFAULTS[name]
    if field.is_required():
        return "none, it must be set"
    return "unset" if field.default is None else f"`{field.default}`"


# --- API ---------------------------------------------------------------------------------------------------

API_INTRO = """# REST API

[openapi.json](openapi.json) describes every field; a running service serves it at `/openapi.json`.

**Keys.** Send `Authorization: Bearer KEY`. An `admin` key may do everything, a `reader` key what is marked
"reader" below. The first start makes one admin key and keeps it in `admin.key` in the data folder; `POST
/api/v1/keys` makes more.

**Errors** are problems as of RFC 9457 (`application/problem+json`): `code` is stable, `detail` says what was wrong,
`hint` what to do, `retry_after_s` when to try again. Under `/v1` they have OpenAI's shape.

**Lists** come in pages: pass `next_cursor` as `cursor` to get the next one, until it is null; `limit` is at most 200.

**Parameters** stand in the table: *query* behind the `?` of the address, *form* as fields of `multipart/form-data`,
*body* as keys of a JSON object. Those in **bold** are needed. A name that is not there is refused.

**Knowledge bases** are named in the path, by name or by id.

**Uploads** are `multipart/form-data`: one or many fields `file`, and maybe `attributes`, a JSON object that all of them
get. A file's name may be a relative path. The same bytes under a new name are kept once, under the first name and with
its attributes; the response says so in `same_as`.

```sh
curl -H "Authorization: Bearer $KEY" -F file=@leave.docx -F 'attributes={"department": "hr", "year": 2026}' \\
  http://127.0.0.1:8000/api/v1/kbs/default/documents
```

**Filters** of search and ask compare with these attributes: `{"department": ["hr", "finance"], "year": 2026}` finds
documents of one of the two departments and of that year. Types must match: 2026 does not find `"2026"`, and `"Hr"` does
not find `"hr"`. Documents without the attribute do not match, so an unknown attribute finds nothing. `filter` is a tree
with more operators: [steer the search](howto/search.md).

**Work** is done by jobs: what answers `202` returns a job, `GET /api/v1/jobs/{job_id}` tells how far it is.

**Streams** are server-sent events. `…/jobs/{job_id}/events` sends `progress` (data: the job) until the job is over.
`…/ask` with `"stream": true` sends `delta` (`{"text": …}`, marks such as `[1]` included), `citation` (before the
delta with its first mark), and ends with `done` (the whole response) or `error` (a problem). With `refine.rounds` it
begins with a `step` after each search (`round`, `question`, `passages`, `enough`, `next_question`).

**Ids of a citation.** `start` and `end` count characters (Unicode code points) of the document's parsed text, which
`GET …/documents/{document_id}/text` returns; `quote` is exactly the text between them.
"""


def openapi() -> dict[str, Any]:
    return _app().openapi()


def _app() -> FastAPI:
    return create_app(Settings())


def api_page() -> str:
    app = _app()
    document = app.openapi()
    parts = [GENERATED, API_INTRO]
    tag = None
    for path, route in _routes(app):
        if route.tags[0] != tag:
            tag = route.tags[0]
            title = str(tag)
            head = "| Request | Key | Parameters | What it does |\n|---|---|---|---|"
            parts.append(f"## {title[0].upper()}{title[1:]}\n\n{head}")
        parts[-1] += f"\n{_row(path, route, document)}"
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _routes(app: FastAPI) -> Iterator[tuple[str, APIRoute]]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            yield str(context.path), route


def _row(path: str, route: APIRoute, document: dict[str, Any]) -> str:
    method = ", ".join(sorted(route.methods or ()))
    what = " ".join((route.description or route.name.replace("_", " ").capitalize()).split())
    operation = document["paths"][_openapi_path(path)][method.lower()]
    takes = "; ".join(_parameters(operation, document["components"]["schemas"]))
    return f"| `{method} {path}` | {_key(route.dependant)} | {takes} | {what} |"


def _openapi_path(path: str) -> str:
    """The path as the OpenAPI document has it: without the converters in `{model:path}`."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _parameters(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """What can be sent beside the path, by where it is sent: "query: `cursor`, `limit`"."""
    query = [p for p in operation.get("parameters", ()) if p["in"] == "query"]
    if query:
        yield f"query: {', '.join(_query_parameter(p) for p in query)}"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        schema = schemas[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
        if "properties" not in schema:
            yield f"body: the file (`{media_type}`)"
            continue
        fields = {name: name in schema.get("required", ()) for name in schema["properties"]}
        yield f"{'form' if media_type == 'multipart/form-data' else 'body'}: {_names(fields)}"


def _query_parameter(parameter: dict[str, Any]) -> str:
    """Its name, and what it means where the page has not said so for all lists."""
    name, meaning = parameter["name"], parameter.get("description", "").rstrip(".")
    if name in ("limit", "cursor") or not meaning:
        return f"`{name}`"
    return f"`{name}` ({meaning[0].lower()}{meaning[1:]})"


def _names(needed: Mapping[str, bool]) -> str:
    """The names, those that are needed first and in bold."""
    in_order = sorted(needed, key=lambda name: not needed[name])
    return ", ".join(f"**`{name}`**" if needed[name] else f"`{name}`" for name in in_order)


def _key(dependant: Dependant) -> str:
    calls = {found.call for found in _all(dependant)}
    if admin_key in calls:
        return "admin"
    return "reader" if any_key in calls else "none"


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)


if __name__ == "__main__":
    sys.exit(main())
