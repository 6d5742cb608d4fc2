"""How do we ask a model server that answers one JSON with another, and what do its failures mean?"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from core.errors import ModelError, ModelTimeout, ModelUnavailable, RagError

CONNECT_TIMEOUT_S = 5.0
TRIES = 3
PAUSE_S = 0.5  # before the second try; twice as long before the third
LONGEST_PAUSE_S = 10.0  # a server that asks for more is left alone, and the error says when to come back
BUSY = (429, 502, 503, 504)


class ModelServer:
    """A server at `url`; at most `concurrency` requests at a time, the others wait in the order they came.

    `group` names the settings that the errors point at (`embedder`, `reranker`); `timeout_s` bounds each try. A
    request changes nothing at the server, so it is tried up to three times while the server is busy or gone.
    """

    def __init__(
        self, url: str, *, group: str, api_key: str | None = None, timeout_s: float, concurrency: int
    ) -> None:
        self.url = url.rstrip("/")
        self._group = group
        self._turns = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
        )

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer, parsed.

        Raises `ModelUnavailable` or `ModelTimeout` (retryable), or `ModelError` if the server refuses or does not
        answer in JSON.
        """
        async with self._turns:
            for attempt in range(TRIES):
                try:
                    return await self._once(path, body)
                except ModelUnavailable as error:
                    pause = error.asked_pause_s or PAUSE_S * 2**attempt
                    if attempt == TRIES - 1 or pause > LONGEST_PAUSE_S:
                        raise
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _once(self, path: str, body: dict[str, Any]) -> Any:
        try:
            answer = await self._client.post(self.url + path, json=body)
        except httpx.ConnectError as error:
            raise self._gone(error) from error
        except httpx.TimeoutException as error:
            raise ModelTimeout(
                f"The model server at {self.url} is too slow.", hint=f"Raise {self._group}.timeout_s."
            ) from error
        except httpx.TransportError as error:  # the connection broke
            raise self._gone(error) from error
        if not answer.is_success:
            raise self._refusal(path, answer)
        try:
            return answer.json()
        except ValueError as error:
            raise self.unusable(path, "it is no JSON") from error

    def _gone(self, error: Exception) -> ModelUnavailable:
        return ModelUnavailable(
            f"No model server answers at {self.url} ({error or type(error).__name__}).",
            hint=f"Start it, or correct {self._group}.url.",
        )

    def unusable(self, path: str, why: str) -> ModelError:
        """The error for an answer that is not what the protocol says."""
        return ModelError(
            f"What {self.url}{path} answers cannot be used: {why}.", hint=f"Correct {self._group}.url."
        )

    def _refusal(self, path: str, answer: httpx.Response) -> RagError:
        said = f"The model server answered {answer.status_code} to {path}: {answer.text.strip()[:300]}"
        match answer.status_code:
            case 401 | 403:
                return ModelError(said, hint=f"Set {self._group}.api_key.")
            case 404:
                return ModelError(said, hint=f"Correct {self._group}.model, or {self._group}.url.")
            case status if status in BUSY:
                return ModelUnavailable(said, retry_after_s=_retry_after_s(answer))
            case _:
                return ModelError(said)

    async def close(self) -> None:
        await self._client.aclose()


def _retry_after_s(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
