"""Do the clients of model servers say in our words what a server does wrong?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
from fake_llm_server import FakeServer, Reply, fake_server, unused_url

from core.errors import InvalidValue, ModelError, ModelTimeout, ModelUnavailable, PromptTooLong
from models.llm.base import LLM, Delta, FinishReason, Message, Role, Usage
from models.llm.ollama import OllamaLLM
from models.llm.openai_compatible import OpenAICompatibleLLM
from models.llm.presets import LLAMA_CPP
from models.llm.sampling import SamplingParams

QUESTION = [Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "你好")]
SHORT = SamplingParams(max_new_tokens=8)


@dataclass(frozen=True)
class Dialect:
    """One protocol in one prompt style: how it writes a piece of an answer, an end, an error."""

    make: Callable[[str], LLM]
    path: str
    piece: Callable[[str], bytes]
    end: Callable[[str], bytes]  # takes the finish reason; says 7 prompt tokens and 2 of the answer
    error: bytes
    content_type: str


def _ollama(style: str, path: str, text: Callable[[str], dict[str, object]]) -> Dialect:
    def line(**fields: object) -> bytes:
        return json.dumps({"model": "m", **fields}).encode() + b"\n"

    return Dialect(
        make=lambda url: OllamaLLM(url=url, model="m", context_tokens=512, prompt_style=style, timeout_s=0.3),
        path=path,
        piece=lambda t: line(done=False, **text(t)),
        end=lambda reason: line(done=True, done_reason=reason, prompt_eval_count=7, eval_count=2, **text("")),
        error=line(error="out of memory"),
        content_type="application/x-ndjson",
    )


def _openai(style: str, path: str, choice: Callable[[str], dict[str, object]]) -> Dialect:
    def event(**fields: object) -> bytes:
        return (
            b"data: "
            + json.dumps({"id": "1", "object": "x", "created": 1, "model": "m", **fields}).encode()
            + b"\n\n"
        )

    def end(reason: str) -> bytes:
        finish = event(choices=[{"index": 0, "finish_reason": reason, **choice("")}])
        usage = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
        return finish + usage + b"data: [DONE]\n\n"

    return Dialect(
        make=lambda url: OpenAICompatibleLLM(
            url=f"{url}/v1", model="m", context_tokens=512, prompt_style=style, timeout_s=0.3
        ),
        path=path,
        piece=lambda t: event(choices=[{"index": 0, "finish_reason": None, **choice(t)}]),
        end=end,
        error=event(error={"message": "out of memory"}),
        content_type="text/event-stream",
    )


DIALECTS = {
    "ollama chat": _ollama("chat", "/api/chat", lambda t: {"message": {"role": "assistant", "content": t}}),
    "ollama completion": _ollama("completion", "/api/generate", lambda t: {"response": t}),
    "openai chat": _openai("chat", "/v1/chat/completions", lambda t: {"delta": {"content": t}}),
    "openai completion": _openai("completion", "/v1/completions", lambda t: {"text": t}),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


@asynccontextmanager
async def answering(
    dialect: Dialect, *pieces: bytes, **reply: object
) -> AsyncIterator[tuple[LLM, FakeServer]]:
    reply = {"content_type": dialect.content_type, **reply}
    async with fake_server({dialect.path: Reply(pieces, **reply)}) as server:  # type: ignore[arg-type]
        llm = dialect.make(server.url)
        try:
            yield llm, server
        finally:
            await llm.close()


async def deltas(llm: LLM) -> list[Delta]:
    return [delta async for delta in llm.stream(QUESTION, SHORT)]


@pytest.mark.parametrize("reason", FinishReason)
async def test_an_answer_is_its_pieces_then_one_end_with_reason_and_usage(
    dialect: Dialect, reason: FinishReason
) -> None:
    pieces = dialect.piece("你"), dialect.piece("好"), dialect.end(reason)
    async with answering(dialect, *pieces) as (llm, _):
        *texts, last = await deltas(llm)
    assert "".join(delta.text for delta in texts) == "你好"
    assert all(delta.finish_reason is None for delta in texts)
    assert last == Delta(finish_reason=reason, usage=Usage(prompt_tokens=7, completion_tokens=2))


async def test_a_server_that_is_down_is_unavailable_and_the_hint_says_to_start_it(dialect: Dialect) -> None:
    llm = dialect.make(unused_url())
    with pytest.raises(ModelUnavailable) as caught:
        await deltas(llm)
    assert "Start" in (caught.value.hint or "")
    with pytest.raises(ModelUnavailable):
        await llm.ping()
    await llm.close()


async def test_without_a_model_the_first_that_is_served_writes_and_the_server_may_come_later() -> None:
    dialect = DIALECTS["openai chat"]
    served = Reply([b'{"data": [{"id": "qwen"}, {"id": "other"}]}'])
    written = Reply([dialect.end(FinishReason.STOP)], content_type=dialect.content_type)
    async with fake_server({"/v1/models": served, dialect.path: written}) as server:
        llm = OpenAICompatibleLLM(url=f"{server.url}/v1", model=None, context_tokens=512)
        assert llm.name == f"openai {server.url}/v1"
        await deltas(llm)
        await llm.ping()
        await llm.close()
    assert server.bodies[1]["model"] == "qwen"
    assert llm.name == "openai qwen"
    away = OpenAICompatibleLLM(url=unused_url(), model=None, context_tokens=512)
    with pytest.raises(ModelUnavailable):
        await deltas(away)
    await away.close()


async def test_an_engine_that_answers_to_any_name_with_another_model_is_not_asked() -> None:
    loaded = Reply([b'{"data": [{"id": "qwen"}]}'])
    async with fake_server({"/v1/models": loaded}) as server:
        llm = OpenAICompatibleLLM(url=f"{server.url}/v1", model="gemma", context_tokens=512, preset=LLAMA_CPP)
        with pytest.raises(ModelError, match="does not have the model gemma") as caught:
            await deltas(llm)
        await llm.close()
    assert "one of: qwen" in (caught.value.hint or "")
    assert len(server.bodies) == 1


async def test_a_missing_model_is_an_error_that_says_how_to_get_it(dialect: Dialect) -> None:
    body = b'{"error": "model \'m\' not found"}'
    async with answering(dialect, body, status=404, content_type="application/json") as (llm, _):
        with pytest.raises(ModelError) as caught:
            await deltas(llm)
    assert caught.value.hint
    assert "m" in caught.value.message.split()[-1] or "m" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ModelError),
        (401, ModelError),
        (500, ModelError),
        (429, ModelUnavailable),
        (503, ModelUnavailable),
    ],
)
async def test_a_refusal_is_retryable_only_if_waiting_can_help(
    dialect: Dialect, status: int, error: type[Exception]
) -> None:
    reply = {"status": status, "content_type": "application/json"}
    async with answering(dialect, b'{"error": {"message": "because I say so"}}', **reply) as (llm, _):
        with pytest.raises(error, match="because I say so"):
            await deltas(llm)


async def test_a_connection_that_breaks_mid_answer_is_an_error(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你"), then="cut") as (llm, _):
        with pytest.raises(ModelError, match="broke off"):
            await deltas(llm)


async def test_an_answer_without_an_end_is_an_error_though_the_connection_ends_well(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你")) as (llm, _):
        with pytest.raises(ModelError, match="broke off"):
            await deltas(llm)


async def test_an_error_inside_the_stream_is_passed_on(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你"), dialect.error) as (llm, _):
        with pytest.raises(ModelError, match="broke off: out of memory"):
            await deltas(llm)


@pytest.mark.parametrize(
    "garbage", [b"<html>", b"[]", b'"x"', b"7", b"null", b'{"choices": 7}', b"\xff\xfe", b""]
)
async def test_nonsense_is_an_error_and_no_crash(dialect: Dialect, garbage: bytes) -> None:
    prefix = b"data: " if dialect.content_type == "text/event-stream" else b""
    async with answering(dialect, prefix + garbage + b"\n\n") as (llm, _):
        with pytest.raises(ModelError, match="broke off"):
            await deltas(llm)


async def test_an_answer_that_ends_for_an_unknown_reason_is_an_error(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你"), dialect.end("content_filter")) as (llm, _):
        with pytest.raises(ModelError, match="content_filter"):
            await deltas(llm)


async def test_silence_before_the_next_piece_is_a_timeout(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你"), then="silence") as (llm, server):
        with pytest.raises(ModelTimeout):
            await deltas(llm)
        await asyncio.wait_for(server.client_left.wait(), 5)


async def test_a_reader_that_leaves_early_closes_the_connection(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你"), then="silence") as (llm, server):
        async with aclosing(llm.stream(QUESTION, SHORT)) as stream:
            assert (await anext(stream)).text == "你"
        await asyncio.wait_for(server.client_left.wait(), 5)


async def test_a_cancelled_reader_closes_the_connection(dialect: Dialect) -> None:
    async with answering(dialect, dialect.piece("你"), then="silence") as (llm, server):
        arrived = asyncio.Event()

        async def read() -> None:
            async for _ in llm.stream(QUESTION, SHORT):
                arrived.set()

        task = asyncio.create_task(read())
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.client_left.wait(), 5)


async def sent(dialect: Dialect, params: SamplingParams = SHORT, schema: object = None) -> dict[str, object]:
    async with answering(dialect, dialect.piece("你"), dialect.end("stop")) as (llm, server):
        [_ async for _ in llm.stream(QUESTION, params, schema)]
    return server.bodies[0]  # type: ignore[no-any-return]


async def test_parameters_travel_under_each_protocols_names() -> None:
    params = SamplingParams(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=3, stop=("\n\n",))
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}]
    same = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["\n\n"]}

    chat = await sent(DIALECTS["openai chat"], params)
    assert chat == {
        **same,
        "max_tokens": 9,
        "model": "m",
        "messages": turns,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (await sent(DIALECTS["openai completion"], params))["prompt"] == "Be brief.\n\n你好"
    only_ollamas = params.changed(top_k=4, repetition_penalty=1.1)
    chat = await sent(DIALECTS["ollama chat"], only_ollamas)
    assert chat["options"] == {**same, "num_predict": 9, "top_k": 4, "repeat_penalty": 1.1, "num_ctx": 512}
    assert [{"role": turn["role"], "content": turn["content"]} for turn in chat["messages"]] == turns  # type: ignore[attr-defined]
    # Ollama would cut an over-long prompt without a word, and put a base model's prompt into a template.
    assert (chat["truncate"], chat["shift"]) == (False, False)
    completion = await sent(DIALECTS["ollama completion"], only_ollamas)
    assert (completion["prompt"], completion["raw"]) == ("Be brief.\n\n你好", True)


async def test_a_parameter_that_the_engine_lacks_is_refused_before_anything_is_sent() -> None:
    async with answering(DIALECTS["openai chat"]) as (llm, server):
        with pytest.raises(InvalidValue, match="no parameter top_k"):
            [_ async for _ in llm.stream(QUESTION, SamplingParams(top_k=4))]
        assert server.bodies == []


async def test_a_schema_travels_as_the_engine_takes_it() -> None:
    schema = {"type": "object"}
    assert (await sent(DIALECTS["ollama chat"], schema=schema))["format"] == schema
    body = await sent(DIALECTS["openai chat"], schema=schema)
    assert body["response_format"]["json_schema"]["schema"] == schema  # type: ignore[index]
    # Other servers' /v1/completions take none, and what a server ignores need not be sent.
    assert "response_format" not in await sent(DIALECTS["openai completion"], schema=schema)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"error": {"code": 400, "message": "request (900 tokens) exceeds the available context size (512 tokens), '
         b'try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 900, "n_ctx": 512}}', "openai"),
        (b'{"error": {"message": "This model\'s maximum context length is 2048 tokens. However, you requested 3000 '
         b'tokens", "type": "BadRequestError", "param": null, "code": 400}}', "openai"),
        (b'{"error": "the input length exceeds the context length"}', "ollama"),
    ],
)  # fmt: skip
async def test_a_prompt_over_the_context_has_an_error_of_its_own(body: bytes, names: str) -> None:
    dialects = [d for name, d in DIALECTS.items() if name.startswith(names)]
    for dialect in dialects:
        async with answering(dialect, body, status=400, content_type="application/json") as (llm, _):
            with pytest.raises(PromptTooLong, match="context"):
                await deltas(llm)


async def test_ollama_loads_a_context_for_the_prompt_and_keeps_a_larger_one() -> None:
    dialect = DIALECTS["ollama chat"]
    pieces = (dialect.piece("你"), dialect.end("stop"))
    async with fake_server({dialect.path: Reply(pieces, content_type=dialect.content_type)}) as server:
        llm = OllamaLLM(url=server.url, model="m", context_tokens=10_000)
        for characters in (10, 3000, 10, 30_000):
            [_ async for _ in llm.stream([Message(Role.USER, "字" * characters)], SHORT)]
        await llm.close()
    assert [body["options"]["num_ctx"] for body in server.bodies] == [2048, 4096, 4096, 10_000]


async def test_ollama_that_finds_the_context_too_small_is_asked_for_a_larger_one() -> None:
    refusal = b'{"error": "the input length exceeds the context length"}'
    async with fake_server({"/api/chat": Reply([refusal], status=400)}) as server:
        llm = OllamaLLM(url=server.url, model="m", context_tokens=10_000)
        with pytest.raises(PromptTooLong):
            await deltas(llm)
        await llm.close()
    assert [body["options"]["num_ctx"] for body in server.bodies] == [2048, 4096, 8192, 10_000]


async def test_what_is_not_set_is_not_sent() -> None:
    for dialect in DIALECTS.values():
        async with answering(dialect, dialect.end("stop")) as (llm, server):
            await deltas(llm)
        names = server.bodies[0].keys() | server.bodies[0].get("options", {}).keys()
        assert not names & {"temperature", "top_k", "top_p", "seed", "stop", "repeat_penalty"}


async def test_ping_of_an_openai_server_without_the_model_lists_those_it_has() -> None:
    served = {"object": "list", "data": [{"id": "qwen", "object": "model", "created": 1, "owned_by": "x"}]}
    async with fake_server({"/v1/models": Reply([json.dumps(served).encode()])}) as server:
        llm = DIALECTS["openai chat"].make(server.url)
        with pytest.raises(ModelError) as caught:
            await llm.ping()
        assert "qwen" in (caught.value.hint or "")
        await llm.close()


async def test_ping_of_an_ollama_without_the_model_says_how_to_pull_it() -> None:
    async with fake_server({}) as server:
        llm = DIALECTS["ollama chat"].make(server.url)
        with pytest.raises(ModelError) as caught:
            await llm.ping()
        assert "ollama pull m" in (caught.value.hint or "")
        await llm.close()
