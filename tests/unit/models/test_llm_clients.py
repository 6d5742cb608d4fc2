"""Do the clients of model servers say in our words what a server does wrong?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
from fake_llm_server import FakeServer, Reply, fake_server, unused_url

from core.errors import ModelError, ModelTimeout, ModelUnavailable
from models.llm.base import LLM, Delta, FinishReason, Message, Role, SamplingParams, Usage
from models.llm.ollama import OllamaLLM
from models.llm.openai_compatible import OpenAICompatibleLLM

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
    # OpenAI's client may try once more; the header keeps it from waiting.
    reply = {"status": status, "headers": {"retry-after-ms": "1"}, "content_type": "application/json"}
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


async def test_parameters_travel_under_each_protocols_names() -> None:
    params = SamplingParams(
        max_new_tokens=9, temperature=0.5, top_k=4, top_p=0.9, repetition_penalty=1.1, seed=3, stop=("\n\n",)
    )

    async def sent(dialect: Dialect) -> dict[str, object]:
        async with answering(dialect, dialect.piece("你"), dialect.end("stop")) as (llm, server):
            [_ async for _ in llm.stream(QUESTION, params)]
        return server.bodies[0]  # type: ignore[no-any-return]

    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}]
    same = {"temperature": 0.5, "top_k": 4, "top_p": 0.9, "seed": 3, "stop": ["\n\n"]}
    openai = {**same, "max_tokens": 9, "repetition_penalty": 1.1, "repeat_penalty": 1.1}
    ollama = {**same, "num_predict": 9, "repeat_penalty": 1.1, "num_ctx": 512}

    chat = await sent(DIALECTS["openai chat"])
    assert chat == {
        **openai,
        "model": "m",
        "messages": turns,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (await sent(DIALECTS["openai completion"]))["prompt"] == "Be brief.\n\n你好"
    chat = await sent(DIALECTS["ollama chat"])
    assert chat["options"] == ollama
    assert [{"role": turn["role"], "content": turn["content"]} for turn in chat["messages"]] == turns  # type: ignore[attr-defined]
    # Ollama would cut an over-long prompt without a word, and put a base model's prompt into a template.
    assert (chat["truncate"], chat["shift"]) == (False, False)
    completion = await sent(DIALECTS["ollama completion"])
    assert (completion["prompt"], completion["raw"]) == ("Be brief.\n\n你好", True)


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
