"""What went wrong when a model of the sentence-transformers library was loaded, in words?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import ModelError


@contextmanager
def load_error(group: str, model: str) -> Iterator[None]:
    """Translates errors of loading `model`, which the setting `GROUP.model` names, into `ModelError`."""
    try:
        yield
    except ImportError as error:
        raise ModelError(
            f"{group}.kind needs the library sentence-transformers, which cannot be loaded: {error}",
            hint="Install it: .venv/bin/pip install -e '.[sentence-transformers]'",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The model {model} cannot be loaded: {error}",
            hint=f"Correct {group}.model: a folder with a model, or its name on a hub that can be reached.",
        ) from error
