"""Which engine knows which sampling parameters, under which names, and how is its output held to a JSON schema?

Data, one entry for each engine. Callers read it, and never ask which engine they have. Sources, read in 2026:

- vLLM: `SamplingParams` and the extra parameters of its OpenAI-compatible server
  (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html)
- llama.cpp: `tools/server/README.md` of https://github.com/ggml-org/llama.cpp
- Ollama: `docs/modelfile.mdx` and `docs/api.md` of https://github.com/ollama/ollama
- FastChat: `fastchat/protocol/openai_api_protocol.py` of https://github.com/lm-sys/FastChat
- RTP-LLM: `rtp_llm/openai/api_datatype.py` (`extra_configs`) and `rtp_llm/config/generate_config.py` of
  https://github.com/alibaba/rtp-llm
- LLaMA-Factory: `src/llamafactory/api/protocol.py` of https://github.com/hiyouga/LLaMA-Factory
- OpenAI: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from core.errors import InvalidValue
from models.llm.sampling import NEUTRAL, SamplingParams

Json = dict[str, Any]


class JsonConstraint(StrEnum):
    """How a JSON schema is sent to an engine that lets only matching text through.

    RESPONSE_FORMAT: OpenAI's `response_format` of type `json_schema`. JSON_SCHEMA: a field `json_schema`.
    FORMAT: Ollama's field `format`. NONE: it cannot; the prompt asks for it and the answer is checked.
    """

    RESPONSE_FORMAT = "response_format"
    JSON_SCHEMA = "json_schema"
    FORMAT = "format"
    NONE = "none"


class Tokenizer(StrEnum):
    """How the engine counts the tokens of a prompt for us: `models/llm/tokens.py` asks. NONE: it does not."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
    FASTCHAT = "fastchat"
    RTP_LLM = "rtp-llm"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Preset:
    """What an engine can do.

    `names` maps our parameters to the engine's, a dot for each object they lie in; those it lacks are not there.
    `beam_flag` is a field that must be true for `num_beams` above 1; `chat_only` names parameters that it has in
    chats and not where it continues plain text. `json_in_chat` and `json_in_completion` say how each of the two ways
    to prompt it takes a schema, `completion` whether it continues plain text at all. One that answers to any name of a
    model, with whatever it has loaded, is asked each time what that is (`answers_to_any_name`).
    """

    engine: str
    title: str
    names: Mapping[str, str] = field(default_factory=dict)
    beam_flag: str | None = None
    chat_only: frozenset[str] = frozenset()
    json_in_chat: JsonConstraint = JsonConstraint.NONE
    json_in_completion: JsonConstraint = JsonConstraint.NONE
    completion: bool = True
    answers_to_any_name: bool = False
    tokenizer: Tokenizer = Tokenizer.NONE

    def of_style(self, *, chat: bool) -> Preset:
        """What it can do in one of the two ways to prompt it."""
        if chat or not self.chat_only:
            return self
        names = {ours: theirs for ours, theirs in self.names.items() if ours not in self.chat_only}
        return replace(self, names=names, title=f"{self.title} with prompt_style completion")

    def refuse(self, params: SamplingParams) -> None:
        """Raise `InvalidValue` for a parameter that the engine lacks, naming the engines that have it."""
        for name in self.lacking(params):
            has = [preset.engine for preset in PRESETS.values() if name in preset.names]
            raise InvalidValue(
                f"{self.title} has no parameter {name}.",
                hint=f"Engines that have it (llm.kind): {', '.join(has)}."
                if has
                else "None of the engines has it.",
            )

    def lacking(self, params: SamplingParams) -> list[str]:
        """The parameters that ask something of the engine that it cannot do."""
        return [
            name
            for name, value in params.given().items()
            if name not in self.names and value != NEUTRAL.get(name)
        ]

    def wire(self, params: SamplingParams) -> Json:
        """The parameters as the engine's request has them; raises `InvalidValue` as `refuse` does."""
        self.refuse(params)
        body: Json = {}
        for name, value in params.given().items():
            if name in self.names:
                _put(body, self.names[name], list(value) if isinstance(value, tuple) else value)
        if self.beam_flag and (params.num_beams or 1) > 1:
            body[self.beam_flag] = True
        return body

    def holds_to_json(self, *, chat: bool) -> bool:
        """Whether the engine lets only text through that matches a JSON schema."""
        return (self.json_in_chat if chat else self.json_in_completion) is not JsonConstraint.NONE

    def json(self, schema: Json, *, chat: bool) -> Json:
        """The part of the request that holds the engine to `schema`; nothing where it cannot be held."""
        match self.json_in_chat if chat else self.json_in_completion:
            case JsonConstraint.RESPONSE_FORMAT:
                shape = {"name": "answer", "strict": True, "schema": schema}
                return {"response_format": {"type": "json_schema", "json_schema": shape}}
            case JsonConstraint.JSON_SCHEMA:
                return {"json_schema": schema}
            case JsonConstraint.FORMAT:
                return {"format": schema}
            case JsonConstraint.NONE:
                return {}


def _put(body: Json, path: str, value: Any) -> None:
    *objects, name = path.split(".")
    for each in objects:
        body = body.setdefault(each, {})
    body[name] = value


def _same(*names: str, inside: str = "") -> dict[str, str]:
    return {name: f"{inside}{name}" for name in names}


_OPENAI = {
    "max_new_tokens": "max_tokens",
    **_same("stop", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"),
}

OPENAI = Preset(
    "openai",
    "This OpenAI-compatible engine",
    _OPENAI,
    json_in_chat=JsonConstraint.RESPONSE_FORMAT,
)
VLLM = Preset(
    "vllm",
    "vLLM",
    {
        **_OPENAI,
        **_same("repetition_penalty", "top_k", "min_p", "length_penalty", "bad_words"),
        "min_new_tokens": "min_tokens",
        "num_beams": "n",
    },
    beam_flag="use_beam_search",
    chat_only=frozenset({"num_beams", "length_penalty"}),  # it streams no beams of a completion
    json_in_chat=JsonConstraint.RESPONSE_FORMAT,
    json_in_completion=JsonConstraint.RESPONSE_FORMAT,
    tokenizer=Tokenizer.VLLM,
)
LLAMA_CPP = Preset(
    "llama-cpp",
    "llama.cpp",
    {**_OPENAI, **_same("top_k", "min_p"), "repetition_penalty": "repeat_penalty"},
    json_in_chat=JsonConstraint.RESPONSE_FORMAT,
    json_in_completion=JsonConstraint.JSON_SCHEMA,
    answers_to_any_name=True,
    tokenizer=Tokenizer.LLAMA_CPP,
)
FASTCHAT = Preset(
    "fastchat",
    "FastChat",
    {
        **_same("stop", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"),
        "max_new_tokens": "max_tokens",
    },
    tokenizer=Tokenizer.FASTCHAT,
)
RTP_LLM = Preset(
    "rtp-llm",
    "RTP-LLM",
    {
        **_same("stop", "temperature", "top_p", "seed"),
        "max_new_tokens": "max_tokens",
        **_same(
            "top_k",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "min_new_tokens",
            "no_repeat_ngram_size",
            "num_beams",
            inside="extra_configs.",
        ),
    },
    completion=False,
    tokenizer=Tokenizer.RTP_LLM,
)
LLAMA_FACTORY = Preset(
    "llama-factory",
    "LLaMA-Factory",
    {**_same("stop", "temperature", "top_p"), "max_new_tokens": "max_tokens"},
    completion=False,
)
OLLAMA = Preset(
    "ollama",
    "Ollama",
    {
        **_same(
            "stop",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            inside="options.",
        ),
        "max_new_tokens": "options.num_predict",
        "repetition_penalty": "options.repeat_penalty",
    },
    json_in_chat=JsonConstraint.FORMAT,
    json_in_completion=JsonConstraint.FORMAT,
)
PRESETS: Mapping[str, Preset] = {
    preset.engine: preset for preset in (OLLAMA, VLLM, LLAMA_CPP, OPENAI, FASTCHAT, RTP_LLM, LLAMA_FACTORY)
}
