"""Which parts of a document's structure does the search use? Chosen for each knowledge base and each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from core.choices import merged_choices


@dataclass(frozen=True, slots=True)
class Structure:
    """What is on, and the defaults; the meaning stands in `StructureChoice`."""

    parents: bool = True
    neighbours: bool = True
    sections: bool = False
    recursive: bool = False
    whole_document: bool = True
    fields: bool = True
    links: bool = True

    @classmethod
    def chosen(cls, *choices: StructureChoice | Mapping[str, Any] | None) -> Self:
        """The defaults, changed by what the choices say, later ones over earlier ones."""
        merged = merged_choices(*choices)
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in merged.items() if name in known})


class StructureChoice(BaseModel):
    """What a knowledge base or a request says about it; null leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parents: bool | None = Field(
        None, description="A small chunk that was found brings its parent into the prompt. Default: true."
    )
    neighbours: bool | None = Field(
        None, description="Neighbouring chunks that were found become one passage. Default: true."
    )
    sections: bool | None = Field(
        None,
        description="Two or more chunks that make up at least half of their section bring all of it. Default: false.",
    )
    recursive: bool | None = Field(
        None,
        description="Summaries of sections choose the sections in which chunks are searched, as those of documents "
        "choose documents. Default: false.",
    )
    whole_document: bool | None = Field(
        None,
        description='Questions about whole documents ("what is this contract about", "which manuals cover X") are '
        "recognised and answered from summaries. Default: true.",
    )
    fields: bool | None = Field(
        None,
        description="Values of the knowledge base's `fields` that the question names become a filter. Default: true.",
    )
    links: bool | None = Field(
        None,
        description="Documents that the best passages name, by title or file name, join what was found: one may say "
        "what another only mentions. Default: true.",
    )
