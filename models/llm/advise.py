"""Does a model fit the memory of a GPU, and at which precision should it run? Arithmetic, with its sources.

- Weights: 2 bytes a parameter in FP16 or BF16, so about 2 GB for each 10⁹ parameters; 1 in 8 bit. 4 and 3 bit keep a
  16-bit scale and a 4-bit zero point for each 128 weights (AWQ, https://arxiv.org/abs/2306.00978, group size 128):
  4.16 and 3.16 bits.
- KV cache, in FP16: 2 (key and value) · layers · KV heads · head size · 2 bytes for each token of the context.
- Quality: 8 bit loses nothing. AWQ 4 bit loses 2 % at 8B and 0.05 % at 70B, AWQ 3 bit 2.7 % at 70B: the larger the
  model, the less it loses (the notes on quantisation that this project started from; so are the recommendations).
- Shapes: `config.json` of Qwen3 (0.6B to 32B) and Llama 3.1 (70B, 405B), which use grouped-query attention. Models
  without it (Llama 2 7B: 32 KV heads) need four times the cache: give the numbers of the model itself.
- vLLM takes 90 % of the memory (`gpu_memory_utilization`); 1 GB is left for activations and the CUDA context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GB = 1e9
USABLE = 0.9
OVERHEAD_GB = 1.0
KV_BYTES = 2  # FP16
BITS: Mapping[str, float] = {"FP16": 16.0, "8-bit": 8.0, "4-bit (AWQ)": 4.16, "3-bit (AWQ)": 3.16}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cache depends on."""

    layers: int
    kv_heads: int
    head_size: int

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_size * KV_BYTES


# By parameters in 10⁹.
SHAPES: Mapping[float, Shape] = {
    0.6: Shape(28, 8, 128),
    1.7: Shape(28, 8, 128),
    4: Shape(36, 8, 128),
    8: Shape(36, 8, 128),
    14: Shape(40, 8, 128),
    32: Shape(64, 8, 128),
    70: Shape(80, 8, 128),
    405: Shape(126, 8, 128),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One precision: memory in GB, whether it fits, and the tokens of context that would."""

    precision: str
    weights_gb: float
    cache_gb: float
    total_gb: float
    fits: bool
    most_context: int
    loss: str


@dataclass(frozen=True, slots=True)
class Advice:
    rows: tuple[Row, ...]
    shape: Shape
    recommended: str | None
    why: str


def likely_shape(billions: float) -> Shape:
    """The shape of the known model that is nearest in size (in ratio)."""
    return SHAPES[min(SHAPES, key=lambda size: max(size / billions, billions / size))]


def advise(
    billions: float, *, context: int, answers: int, vram_gb: float, shape: Shape | None = None
) -> Advice:
    """What a model of so many 10⁹ parameters needs for `answers` at a time with `context` tokens each."""
    shape = shape or likely_shape(billions)
    rows = tuple(_row(name, bits, billions, context * answers, vram_gb, shape) for name, bits in BITS.items())
    recommended, why = _choice(rows, billions)
    return Advice(rows, shape, recommended, why)


def _row(name: str, bits: float, billions: float, tokens: int, vram_gb: float, shape: Shape) -> Row:
    weights = billions * bits / 8
    cache = tokens * shape.kv_bytes_per_token / GB
    room = vram_gb * USABLE - OVERHEAD_GB - weights
    return Row(
        precision=name,
        weights_gb=weights,
        cache_gb=cache,
        total_gb=weights + cache + OVERHEAD_GB,
        fits=cache <= room,
        most_context=max(0, int(room * GB / shape.kv_bytes_per_token)),
        loss=_loss(name, billions),
    )


def _loss(precision: str, billions: float) -> str:
    large = billions >= 30
    return {
        "FP16": "none",
        "8-bit": "none",
        "4-bit (AWQ)": "about 0.05 % (measured at 70B)" if large else "about 2 % (measured at 8B)",
        "3-bit (AWQ)": "about 2.7 % (measured at 70B)" if large else "large; not advised for small models",
    }[precision]


def _choice(rows: tuple[Row, ...], billions: float) -> tuple[str | None, str]:
    fitting = {row.precision for row in rows if row.fits}
    large = billions >= 30
    order = ("4-bit (AWQ)", "3-bit (AWQ)") if large else ("8-bit", "4-bit (AWQ)")
    why = {
        "8-bit": "8 bit loses nothing and leaves half the memory of FP16 to the cache.",
        "4-bit (AWQ)": "4 bit costs a large model next to nothing."
        if large
        else "8 bit does not fit; 4 bit costs a model of this size about 2 %.",
        "3-bit (AWQ)": "4 bit does not fit; 3 bit costs a large model 2 to 3 %.",
    }
    for precision in order:
        if precision in fitting:
            return precision, why[precision]
    return (
        None,
        "Nothing that is worth running fits: take a smaller model, a shorter context, fewer answers at a time, "
        "or more GPUs.",
    )
