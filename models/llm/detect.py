"""Which model is there, when the settings name none?"""

from __future__ import annotations

import httpx

from core.errors import ModelError, ModelUnavailable

TIMEOUT_S = 1.0  # for a server on this machine; anything slower is named in the settings


async def running_ollama_model(url: str) -> str | None:
    """The first model of the Ollama at `url` that writes text (embedders do not), or None.

    None, too, where nothing answers within a second or what answers is not Ollama.
    """
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
        try:
            tags = await client.get("/api/tags")
            for model in tags.raise_for_status().json()["models"]:
                shown = await client.post("/api/show", json={"model": model["name"]})
                if "completion" in shown.raise_for_status().json()["capabilities"]:
                    return str(model["name"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
    return None


async def served_model(url: str, api_key: str | None = None) -> str:
    """The first model that the OpenAI-compatible server at `url` lists.

    Raises `ModelUnavailable` where nothing answers, `ModelError` where there is no such list.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with httpx.AsyncClient(headers=headers, timeout=5.0) as client:
            answer = await client.get(f"{url.rstrip('/')}/models")
            return str(answer.raise_for_status().json()["data"][0]["id"])
    except httpx.TransportError as error:
        raise ModelUnavailable(
            f"Nothing answers at {url} ({error}).",
            hint="Start the server, or correct llm.url (of a named model: llms.NAME.url).",
        ) from error
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(
            f"The server at {url} does not list its models ({error}).",
            hint="Set llm.model; check llm.api_key and llm.url (it usually ends in /v1).",
        ) from error
