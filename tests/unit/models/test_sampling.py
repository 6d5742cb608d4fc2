"""Do sampling parameters mean the same everywhere, and is what an engine lacks refused in words?"""

from __future__ import annotations

from typing import Any

import pytest
from fake_llm_server import Reply, fake_server
from pydantic import ValidationError

from core.errors import InvalidValue, ModelError
from core.settings import LlmSettings
from models.llm.base import Message, PromptStyle, Role
from models.llm.openai_compatible import OpenAICompatibleLLM
from models.llm.presets import (
    FASTCHAT,
    LLAMA_CPP,
    LLAMA_FACTORY,
    OLLAMA,
    OPENAI,
    PRESETS,
    RTP_LLM,
    VLLM,
    Preset,
)
from models.llm.sampling import NEUTRAL, SamplingParams, warnings
from models.llm.tokens import FASTCHAT_TEMPLATE_TOKENS, estimated_tokens

FIVE = SamplingParams(
    max_new_tokens=9, repetition_penalty=1.2, stop=("。",), top_k=40, temperature=0.7
)  # the document's common five
# Requests as each engine's protocol has them (the sources are named in `models/llm/presets.py`).
RECORDED: list[tuple[Preset, SamplingParams, dict[str, Any]]] = [
    (
        VLLM,
        FIVE.changed(min_new_tokens=2, bad_words=["x"], min_p=0.1),
        {"max_tokens": 9, "repetition_penalty": 1.2, "stop": ["。"], "top_k": 40, "temperature": 0.7,
         "min_tokens": 2, "bad_words": ["x"], "min_p": 0.1},
    ),
    (VLLM, SamplingParams(num_beams=4, length_penalty=0.5, n=1),
     {"use_beam_search": True, "n": 4, "length_penalty": 0.5}),
    (LLAMA_CPP, FIVE, {"max_tokens": 9, "repeat_penalty": 1.2, "stop": ["。"], "top_k": 40, "temperature": 0.7}),
    (OLLAMA, FIVE, {"options": {"num_predict": 9, "repeat_penalty": 1.2, "stop": ["。"], "top_k": 40,
                                "temperature": 0.7}}),
    (RTP_LLM, FIVE.changed(no_repeat_ngram_size=3, seed=1),
     {"max_tokens": 9, "stop": ["。"], "temperature": 0.7, "seed": 1,
      "extra_configs": {"top_k": 40, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}}),
    (FASTCHAT, SamplingParams(max_new_tokens=9, top_k=40, presence_penalty=0.5),
     {"max_tokens": 9, "top_k": 40, "presence_penalty": 0.5}),
    (LLAMA_FACTORY, SamplingParams(max_new_tokens=9, top_p=0.9, stop=["。"]),
     {"max_tokens": 9, "top_p": 0.9, "stop": ["。"]}),
    (OPENAI, SamplingParams(max_new_tokens=9, seed=7, frequency_penalty=0.5),
     {"max_tokens": 9, "seed": 7, "frequency_penalty": 0.5}),
]  # fmt: skip


def test_what_an_engine_has_in_chats_only_is_refused_where_it_continues_plain_text() -> None:
    beams = SamplingParams(num_beams=4)
    assert VLLM.of_style(chat=True).lacking(beams) == []
    continuing = VLLM.of_style(chat=False)
    assert continuing.lacking(beams) == ["num_beams"]
    with pytest.raises(InvalidValue, match="vLLM with prompt_style completion has no parameter num_beams"):
        continuing.refuse(beams)
    assert LLAMA_CPP.of_style(chat=False) is LLAMA_CPP


@pytest.mark.parametrize(("preset", "params", "wire"), RECORDED, ids=lambda v: getattr(v, "engine", ""))
def test_parameters_travel_as_the_engine_names_them(
    preset: Preset, params: SamplingParams, wire: dict[str, Any]
) -> None:
    assert preset.wire(params) == wire


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_what_an_engine_lacks_is_refused_unless_it_asks_for_nothing(preset: Preset) -> None:
    asking: dict[str, Any] = {"top_k": 5, "min_p": 0.1, "num_beams": 2, "force_words": ["x"], "bad_words": ["x"],
                              "early_stopping": "never", "no_repeat_ngram_size": 2, "seed": 1}  # fmt: skip
    for name, value in asking.items():
        params = SamplingParams(**{name: value})
        if name in preset.names:
            assert preset.wire(params)
            continue
        with pytest.raises(InvalidValue, match=f"no parameter {name}") as caught:
            preset.wire(params)
        has = [other.engine for other in PRESETS.values() if name in other.names]
        assert all(engine in (caught.value.hint or "") for engine in has)
        assert has or caught.value.hint == "None of the engines has it."
    assert preset.lacking(SamplingParams(**NEUTRAL)) == []


def test_every_engine_of_the_settings_has_a_preset() -> None:
    kinds = set(LlmSettings.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
    assert kinds - {"auto", "extractive"} == set(PRESETS)


def test_every_name_of_a_preset_is_a_parameter() -> None:
    for preset in PRESETS.values():
        assert set(preset.names) <= set(SamplingParams.model_fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1}, {"temperature": 2.1}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}, {"n": 2},
        {"max_new_tokens": 0}, {"repetition_penalty": 0}, {"min_p": 1.1}, {"num_beams": 0}, {"seed": -1},
        {"presence_penalty": 3}, {"early_stopping": "soon"}, {"temprature": 1}, {"stop": ["x"] * 17},
    ],
)  # fmt: skip
def test_values_out_of_range_and_unknown_names_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SamplingParams(**wrong)


def test_what_the_request_leaves_open_is_the_defaults() -> None:
    merged = SamplingParams(top_k=5, temperature=0.0).over(SamplingParams(temperature=1.0, seed=3))
    assert merged.given() == {"top_k": 5, "temperature": 0.0, "seed": 3}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, ["temperature and top_p are both set: change one and leave the other."]),
        ({"temperature": 0.5, "top_p": 1.0}, []),
        ({"temperature": 0.5}, []),
        ({"top_p": 0.5, "seed": 1}, []),
        ({"temperature": 0, "top_p": 0.9, "seed": 1},
         ["temperature is 0 (always the likeliest token), so top_p and seed have no effect."]),
        ({"length_penalty": 2.0}, ["num_beams is 1, so length_penalty has no effect."]),
        ({"length_penalty": 2.0, "num_beams": 2}, []),
    ],
)  # fmt: skip
def test_parameters_that_work_against_each_other_are_pointed_out(
    params: dict[str, Any], words: list[str]
) -> None:
    assert warnings(SamplingParams(**params)) == words


MESSAGES = [Message(Role.USER, "年假有几天？")]
TURNS = [{"role": "user", "content": "年假有几天？"}]
# How each engine is asked for tokens, and what it answers: path, request, answer, tokens.
COUNTED = [
    (VLLM, "chat", "/tokenize", {"model": "m", "messages": TURNS}, {"count": 7, "max_model_len": 9, "tokens": []}, 7),
    (VLLM, "completion", "/tokenize", {"model": "m", "prompt": "年假有几天？"}, {"count": 6}, 6),
    (FASTCHAT, "chat", "/api/v1/token_check",
     {"prompts": [{"model": "m", "prompt": "年假有几天？", "max_tokens": 1}]},
     {"prompts": [{"fits": True, "tokenCount": 5, "contextLength": 2048}]}, 5 + FASTCHAT_TEMPLATE_TOKENS),
    (RTP_LLM, "chat", "/v1/chat/render", {"model": "m", "messages": TURNS}, {"input_ids": [1, 2, 3]}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "style", "path", "asked", "answer", "tokens"), COUNTED)
async def test_the_engine_is_asked_for_tokens_as_its_protocol_has_it(
    preset: Preset, style: PromptStyle, path: str, asked: object, answer: object, tokens: int
) -> None:
    async with fake_server({path: Reply([_json(answer)])}) as server:
        llm = OpenAICompatibleLLM(
            url=f"{server.url}/v1", model="m", context_tokens=512, preset=preset, prompt_style=style
        )
        assert await llm.count_tokens(MESSAGES) == tokens
        assert server.bodies == [asked]
        await llm.close()


@pytest.mark.parametrize("answer", [{}, {"prompts": []}, [], None, {"count": None}])
async def test_a_count_that_makes_no_sense_is_an_error_and_no_crash(answer: object) -> None:
    for preset, path in ((VLLM, "/tokenize"), (FASTCHAT, "/api/v1/token_check")):
        async with fake_server({path: Reply([_json(answer)])}) as server:
            llm = OpenAICompatibleLLM(url=f"{server.url}/v1", model="m", context_tokens=512, preset=preset)
            with pytest.raises(ModelError):
                await llm.count_tokens(MESSAGES)
            await llm.close()


def test_an_estimate_counts_every_chinese_character_digit_and_sign() -> None:
    def of(text: str) -> int:
        return estimated_tokens([Message(Role.USER, text)]) - estimated_tokens([Message(Role.USER, "")])

    assert of("年假有几天") == 5
    assert of("2026-11") == 7
    assert of("parental leave") == round(0.35 * 14)


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()
