"""How do we talk to vLLM, the llama.cpp server and whatever else speaks OpenAI's protocol?"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
from httpx2 import Limits  # what the official client is built on
from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient
from openai.types import Completion, CompletionUsage
from openai.types.chat import ChatCompletionChunk

from core.errors import ModelBrokeOff, ModelError, ModelTimeout, ModelUnavailable, PromptTooLong, RagError
from models.llm.base import Delta, FinishReason, JsonSchema, Message, PromptStyle, Usage, plain_text
from models.llm.detect import served_model
from models.llm.presets import OPENAI, Json, Preset
from models.llm.sampling import SamplingParams
from models.llm.tokens import count_by_engine, turns

CONNECT_TIMEOUT_S = 5.0
# How engines say with status 400 that a prompt is too long: llama.cpp, vLLM, OpenAI, FastChat, RTP-LLM.
_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum.*(?:context|length)|(?:prompt|input).*(?:too long|exceed)",
    re.I,
)


class OpenAICompatibleLLM:
    """A model behind an OpenAI-compatible server.

    `url` is the base URL, as a rule ending in `/v1`; `model` None is the first that the server lists when it is first
    asked, so it need not run yet; `preset` says what the engine behind it can do; `api_key` is
    sent as a bearer token if given; `timeout_s` bounds the silence before each piece of the answer; `trust_env`
    obeys proxies that the environment names. `label` replaces the engine in the name.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str | None,
        context_tokens: int,
        prompt_style: PromptStyle = "chat",
        api_key: str | None = None,
        timeout_s: float = 120.0,
        preset: Preset = OPENAI,
        label: str | None = None,
        trust_env: bool = True,
    ) -> None:
        self._url = url
        self._model = model
        self._context_tokens = context_tokens
        self._prompt_style = prompt_style
        self._preset = preset.of_style(chat=prompt_style == "chat")
        self._api_key = api_key
        self._label = label or preset.engine
        self._client = AsyncOpenAI(
            base_url=url,
            api_key=api_key or "none",  # the client insists on one
            timeout=openai.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            max_retries=0,  # `RetryingLLM` tries again, for every engine alike
            http_client=DefaultAsyncHttpxClient(
                trust_env=trust_env,
                # A connection for each request, which is nothing beside an answer: llama.cpp closes some right after
                # a stream, others after seconds, and a request on one just then is lost.
                limits=Limits(max_connections=None, max_keepalive_connections=0),
            ),
        )

    @property
    def name(self) -> str:
        return f"{self._label} {self._model or self._url}"

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def prompt_style(self) -> PromptStyle:
        return self._prompt_style

    @property
    def preset(self) -> Preset:
        return self._preset

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
    ) -> AsyncGenerator[Delta, None]:
        body = self._preset.wire(self._within_context(params))
        if schema is not None:
            body |= self._preset.json(schema, chat=self._prompt_style == "chat")
        finish: str | None = None
        usage = Usage()
        with self._request_errors():
            chunks = await self._start(messages, body)
        with self._stream_errors():
            async with chunks:
                async for chunk in chunks:
                    usage = _usage(chunk.usage) or usage
                    # Of several beams the first is the best.
                    if chunk.choices and chunk.choices[0].index == 0:
                        finish = chunk.choices[0].finish_reason or finish
                        yield Delta(text=_text(chunk))
        # Only now: the usage comes after the finish reason.
        yield Delta(finish_reason=self._finish_reason(finish), usage=usage)

    async def ping(self) -> None:
        with self._request_errors():
            served = [model.id async for model in self._client.models.list()]
        model = await self._named()
        if model not in served:
            raise ModelError(
                f"The server at {self._url} does not have the model {model}.",
                hint=f"Set llm.model to one of: {', '.join(served) or 'none are loaded'}.",
            )

    async def close(self) -> None:
        await self._client.close()

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        with self._request_errors():
            return await count_by_engine(
                self._preset.tokenizer, self._post, await self._named(), messages, self._prompt_style
            )

    async def _named(self) -> str:
        if self._model is None:
            self._model = await served_model(self._url, self._api_key)
        return self._model

    async def _post(self, path: str, body: Json) -> Any:
        root = self._url.rstrip("/").removesuffix("/v1")
        return await self._client.post(f"{root}{path}", cast_to=object, body=body)

    async def _start(
        self, messages: Sequence[Message], body: Json
    ) -> AsyncStream[ChatCompletionChunk] | AsyncStream[Completion]:
        if self._preset.answers_to_any_name:
            await self.ping()
        options: Any = {
            "model": await self._named(),
            "stream_options": {"include_usage": True},
            "extra_body": body,
        }
        if self._prompt_style == "completion":
            continued: AsyncStream[Completion] = await self._client.completions.create(
                prompt=plain_text(messages), stream=True, **options
            )
            return continued
        answered: AsyncStream[ChatCompletionChunk] = await self._client.chat.completions.create(
            messages=turns(messages), stream=True, **options
        )
        return answered

    def _within_context(self, params: SamplingParams) -> SamplingParams:
        """vLLM refuses to write more than its context holds, where others stop there."""
        if (params.max_new_tokens or 0) <= self._context_tokens:
            return params
        return params.changed(max_new_tokens=self._context_tokens)

    def _finish_reason(self, reason: str | None) -> FinishReason:
        if reason is None:
            raise self._broke_off("it closed the stream without a finish reason")
        try:
            return FinishReason(reason)
        except ValueError:
            raise ModelError(f"{self.name} ended the answer early: {reason}.") from None

    def _broke_off(self, why: object) -> ModelError:
        return ModelBrokeOff(f"{self.name} at {self._url} broke off: {why}.")

    @contextmanager
    def _request_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except openai.APITimeoutError as error:
            raise self._too_slow() from error
        except openai.APIConnectionError as error:
            raise ModelUnavailable(
                f"Nothing answers at {self._url} ({error.__cause__ or error}).",
                hint="Start the server, or correct llm.url (of a named model: llms.NAME.url).",
            ) from error
        except (openai.APIError, ValueError, AttributeError, TypeError, LookupError) as error:
            raise ModelError(
                f"What {self._url} answers is not OpenAI's protocol ({error}).",
                hint="Correct llm.url (it usually ends in /v1).",
            ) from error

    @contextmanager
    def _stream_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.APITimeoutError as error:
            raise self._too_slow() from error
        # The transport broke, an error event came, or something that is not JSON of the right shape.
        except (openai.APIError, ValueError, AttributeError, TypeError) as error:
            raise self._broke_off(error.__cause__ or error) from error

    def _too_slow(self) -> ModelTimeout:
        return ModelTimeout(f"{self.name} at {self._url} is too slow.")

    def _refusal(self, error: openai.APIStatusError) -> RagError:
        said = f"{self.name} at {self._url} answered {error.status_code}: {_said(error)}"
        match error.status_code:
            case 400 if _TOO_LONG.search(said):
                return PromptTooLong(said)
            case 401 | 403:
                return ModelError(said, hint="Set llm.api_key.")
            case 404:
                return ModelError(said, hint="Correct llm.model, or llm.url (it usually ends in /v1).")
            case 429 | 502 | 503 | 504:
                return ModelUnavailable(said, retry_after_s=_retry_after_s(error))
            case _:
                return ModelError(said)


def _text(chunk: ChatCompletionChunk | Completion) -> str:
    if isinstance(chunk, Completion):
        return chunk.choices[0].text or ""
    delta = chunk.choices[0].delta
    return (delta.content if delta else None) or ""


def _usage(usage: CompletionUsage | None) -> Usage | None:
    return Usage(usage.prompt_tokens, usage.completion_tokens) if usage else None


def _said(error: openai.APIStatusError) -> str:
    """The server's own words, where they are: OpenAI's shape has a `message`, others do as they like."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or body or error.message)[:500]


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    value = error.response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
