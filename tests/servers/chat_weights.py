"""How do tests get a model to chat with? The demo's weights with a chat template, which makes it no better at it."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from models.llm.demo_model import demo_model

HEADER_BYTES = 24  # magic, version, number of tensors, number of keys; the keys follow (GGUF specification)
ALIGNMENT = 32  # bytes, of the weights: what is put before them must not move them off it
STRING = 8  # type of a value
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_weights(folder: Path) -> Path:
    """A GGUF file in `folder`, made at the first call."""
    folder.mkdir(parents=True, exist_ok=True)
    source = demo_model(folder).path
    target = folder / f"{source.stem}-chat.gguf"
    if target.exists():
        return target
    unfinished = target.with_suffix(".part")
    with source.open("rb") as base, unfinished.open("wb") as chat:
        magic, version, tensors, keys = struct.unpack("<4sIQQ", base.read(HEADER_BYTES))
        chat.write(struct.pack("<4sIQQ", magic, version, tensors, keys + 1))
        chat.write(_template())
        shutil.copyfileobj(base, chat)
    unfinished.replace(target)
    return target


def _template() -> bytes:
    key = _string(b"tokenizer.chat_template") + struct.pack("<I", STRING)
    template = CHATML.encode()
    filler = -len(key + _string(template)) % ALIGNMENT
    if filler:
        template += b"{#" + b" " * ((filler - 4) % ALIGNMENT) + b"#}"
    return key + _string(template)


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text
