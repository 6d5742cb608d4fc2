"""How do we talk to a running Ollama?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import httpx
import ollama

from core.errors import ModelBrokeOff, ModelError, ModelTimeout, ModelUnavailable, PromptTooLong, RagError
from models.llm.base import Delta, FinishReason, JsonSchema, Message, PromptStyle, Usage, plain_text
from models.llm.presets import OLLAMA, Json, Preset
from models.llm.sampling import SamplingParams
from models.llm.tokens import estimated_tokens, turns

DEFAULT_URL = "http://127.0.0.1:11434"
CONNECT_TIMEOUT_S = 5.0
FIRST_CONTEXT = 2048  # tokens; smaller ones save next to nothing


class OllamaLLM:
    """A model of a running Ollama.

    The model is loaded with a context that holds the prompt and its answer, `context_tokens` at most: Ollama's own
    default is small, and a context that is larger than needed costs memory. It stays loaded for `keep_alive` after
    each answer (a duration such as "10m"; None leaves it to the server, whose default is 5 minutes). `timeout_s`
    bounds the silence before each piece of the answer, loading included. Models that think are asked not
    to: the answer is in the passages.
    """

    def __init__(
        self,
        *,
        model: str,
        context_tokens: int,
        url: str = DEFAULT_URL,
        prompt_style: PromptStyle = "chat",
        timeout_s: float = 120.0,
        keep_alive: str | None = None,
    ) -> None:
        self._url = url
        self._model = model
        self._context_tokens = context_tokens
        self._prompt_style = prompt_style
        self._keep_alive = keep_alive
        self._loaded_tokens = 0  # the largest context asked for so far
        self._client = _Client(url, timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S))

    @property
    def name(self) -> str:
        return f"ollama {self._model}"

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def prompt_style(self) -> PromptStyle:
        return self._prompt_style

    @property
    def preset(self) -> Preset:
        return OLLAMA

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
    ) -> AsyncGenerator[Delta, None]:
        body = OLLAMA.wire(params)
        needed = estimated_tokens(messages) + (params.max_new_tokens or self._context_tokens)
        while True:
            self._loaded_tokens = max(self._loaded_tokens, self._step_for(needed))
            try:
                async with aclosing(self._answer(messages, body, schema, self._loaded_tokens)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except PromptTooLong:  # comes before the first token: the estimate was too low
                if self._loaded_tokens >= self._context_tokens:
                    raise
                needed = self._loaded_tokens + 1

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return None  # Ollama has no such request

    async def ping(self) -> None:
        with self._translated():
            await self._client.show(self._model)

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    def _step_for(self, tokens: int) -> int:
        """The context to load for so many tokens: doublings, since every other one makes Ollama load it again."""
        step = FIRST_CONTEXT
        while step < tokens:
            step *= 2
        return min(step, self._context_tokens)

    async def _answer(
        self, messages: Sequence[Message], body: Json, schema: JsonSchema | None, num_ctx: int
    ) -> AsyncGenerator[Delta, None]:
        last: ollama.ChatResponse | ollama.GenerateResponse | None = None
        with self._translated():
            parts = await self._start(messages, body, schema, num_ctx)
            try:
                async for part in parts:
                    last = part
                    yield Delta(text=_text(part))
            finally:
                await parts.aclose()
        if last is None or not last.done:
            raise self._broke_off(
                "it closed the stream without a finish reason",
                "It does so when a model repeats one token: set repetition_penalty.",
            )
        yield Delta(finish_reason=self._finish_reason(last), usage=_usage(last))

    async def _start(
        self, messages: Sequence[Message], body: Json, schema: JsonSchema | None, num_ctx: int
    ) -> Any:
        """An async generator of parts; its type is not known to the client's own annotations."""
        common: dict[str, Any] = {
            "model": self._model,
            "options": {"num_ctx": num_ctx, **body.get("options", {})},
            "format": schema,
            "keep_alive": self._keep_alive,
            "think": False,
        }
        if self._prompt_style == "completion":
            return await self._client.generate(prompt=plain_text(messages), raw=True, stream=True, **common)
        return await self._client.chat(messages=turns(messages), stream=True, **common)

    def _finish_reason(self, last: ollama.ChatResponse | ollama.GenerateResponse) -> FinishReason:
        try:
            return FinishReason(last.done_reason or "stop")
        except ValueError:
            raise ModelError(f"{self.name} ended the answer early: {last.done_reason}.") from None

    def _broke_off(self, why: object, hint: str | None = None) -> ModelError:
        return ModelBrokeOff(f"{self.name} at {self._url} broke off: {why}.", hint=hint)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ModelUnavailable(
                f"Ollama does not answer at {self._url}.",
                hint="Start it with `ollama serve`, or correct llm.url.",
            ) from error
        except httpx.TimeoutException as error:
            raise ModelTimeout(f"{self.name} at {self._url} is too slow.") from error
        except ollama.ResponseError as error:
            raise self._refusal(error) from error
        # What remains comes out of an answer that has begun: the transport broke, or it is not JSON.
        except (httpx.TransportError, ValueError, AttributeError, TypeError) as error:
            raise self._broke_off(error or type(error).__name__) from error

    def _refusal(self, error: ollama.ResponseError) -> RagError:
        match error.status_code:
            case -1:  # an error line inside the stream
                return self._broke_off(error.error)
            case 400 if "context length" in error.error:
                return PromptTooLong(f"{self.name} at {self._url} answered: {error.error}")
            case 404:
                return ModelError(
                    f"Ollama at {self._url} does not have the model {self._model}.",
                    hint=f"Fetch it with `ollama pull {self._model}`.",
                )
            case 429 | 502 | 503 | 504:
                return ModelUnavailable(f"{self.name} at {self._url} is busy: {error.error}")
            case status:
                return ModelError(f"{self.name} at {self._url} answered {status}: {error.error}")


class _Client(ollama.AsyncClient):
    """Asks the server to refuse a prompt over the context, and to end an answer there.

    By default it cuts the prompt's beginning, or drops half of what was said, and says nothing. The
    official client has no parameter for it.
    """

    async def _request(self, cls: Any, *args: Any, json: Any = None, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            json = {**json, "truncate": False, "shift": False}
        return await super()._request(cls, *args, json=json, **kwargs)


def _text(part: ollama.ChatResponse | ollama.GenerateResponse) -> str:
    if isinstance(part, ollama.GenerateResponse):
        return part.response or ""
    return part.message.content or ""


def _usage(last: ollama.ChatResponse | ollama.GenerateResponse) -> Usage:
    return Usage(last.prompt_eval_count or 0, last.eval_count or 0)
