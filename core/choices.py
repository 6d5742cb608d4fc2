"""What a knowledge base and a request choose: later choices over earlier ones, and what none says stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def merged_choices(*choices: BaseModel | Mapping[str, Any] | None) -> dict[str, Any]:
    """What the choices say that is not null, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for choice in choices:
        values = choice.model_dump() if isinstance(choice, BaseModel) else choice or {}
        merged |= {name: value for name, value in values.items() if value is not None}
    return merged
