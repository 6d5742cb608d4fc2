"""What is said in a recording, and when? Asked of a server with OpenAI's protocol (FunASR, vLLM, whisper.cpp, OpenAI).

https://platform.openai.com/docs/api-reference/audio/createTranscription, `response_format` `verbose_json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
from openai import AsyncOpenAI

from core.errors import ModelError, ModelTimeout, ModelUnavailable, UnreadableDocument

CONNECT_TIMEOUT_S = 5.0
UNREADABLE = (400, 415, 422)  # statuses by which servers blame the recording


@dataclass(frozen=True, slots=True)
class Said:
    """A stretch of speech. `start_s` is in seconds from the beginning; None if the server gives no times."""

    text: str
    start_s: float | None


class Transcriber:
    """A speech model behind an OpenAI-compatible server. `url` is the base URL, as a rule ending in `/v1`."""

    def __init__(self, *, url: str, model: str, api_key: str | None, timeout_s: float) -> None:
        self._url = url
        self._model = model
        self._api_key = api_key or "none"  # the client insists on one
        self._timeout = openai.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)

    async def transcribe(self, path: Path, name: str) -> list[Said]:
        """Everything that is said in the file, in order. Servers tell the format by the extension of `name`.

        Raises `UnreadableDocument` if the server cannot read the recording, `ModelUnavailable`, `ModelTimeout` or
        `ModelError` if the server is the trouble.
        """
        with self._errors_in_words(name), path.open("rb") as recording:
            async with AsyncOpenAI(
                base_url=self._url, api_key=self._api_key, timeout=self._timeout, max_retries=0
            ) as client:
                answer = await client.audio.transcriptions.create(
                    model=self._model,
                    file=(name.rsplit("/", 1)[-1], recording),
                    response_format="verbose_json",
                )
            if answer.segments:
                return [Said(segment.text, max(0.0, float(segment.start))) for segment in answer.segments]
            return [Said(answer.text, None)]

    @contextmanager
    def _errors_in_words(self, name: str) -> Iterator[None]:
        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code in UNREADABLE:
                raise UnreadableDocument(
                    f"{name}: the transcription server refuses it: {error.message}.",
                    hint="Save it in another audio format; is ingest.transcription_model right?",
                ) from error
            if error.status_code >= 500 or error.status_code == 429:
                raise ModelUnavailable(
                    f"The transcription server at {self._url} answers {error.status_code}: {error.message}."
                ) from error
            raise ModelError(
                f"The transcription server at {self._url} refuses: {error.message}.",
                hint="Check ingest.transcription_url, ingest.transcription_model and ingest.transcription_key.",
            ) from error
        except openai.APITimeoutError as error:
            raise ModelTimeout(
                f"The transcription server at {self._url} took longer than {self._timeout.read:g} s for {name}.",
                hint="Raise ingest.transcription_timeout_s, or split the recording.",
            ) from error
        except openai.APIConnectionError as error:
            raise ModelUnavailable(
                f"Nothing answers at {self._url} ({error.__cause__ or error}).",
                hint="Start the transcription server, or correct ingest.transcription_url.",
            ) from error
        except (openai.APIError, ValueError, AttributeError, TypeError) as error:
            raise ModelError(
                f"What {self._url} answers is not OpenAI's protocol ({error}).",
                hint="Correct ingest.transcription_url (it usually ends in /v1).",
            ) from error
