"""How question and passages become the prompt: the documented template, or a file of the user's own.

A template is a Jinja file with the variables `passages` (a list of texts) and `content` (the question). Answer modes
have prompts for their steps in `steps/`, with a further variable `draft`, the answer so far.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.sandbox import SandboxedEnvironment

from core.errors import InvalidValue, SettingsError
from core.text import defused, language

# What a prompt is for: the answer itself, or a step of an answer mode.
Part = Literal["answer", "refine", "summarise", "join"]
BUILT_IN = Path(__file__).parent / "templates"
AUTO = "auto"
_NAME = re.compile(r"[\w-]+")


class Prompts:
    """Renders prompts. `default` is the template used when a request names none; `auto` goes by the question.

    Raises `SettingsError` if the default does not exist.
    """

    def __init__(self, *, folder: Path | None, default: str) -> None:
        folders = [folder, BUILT_IN] if folder else [BUILT_IN]
        self._environment: Environment = SandboxedEnvironment(
            loader=FileSystemLoader(folders),
            undefined=StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )
        self._default = default
        if default != AUTO and not self._exists(default):
            raise SettingsError(f"answer.template is {default}, but there is no {default}.jinja.")

    def render(
        self,
        question: str,
        passages: Sequence[str],
        *,
        template: str | None = None,
        part: Part = "answer",
        draft: str = "",
    ) -> str:
        """The prompt for a question and the texts of its passages.

        Raises `InvalidValue` if the template is unknown or broken.
        """
        name = self.resolve(question, template) if part == "answer" else f"steps/{part}.{language(question)}"
        try:
            return self._environment.get_template(f"{name}.jinja").render(
                passages=[defused(passage) for passage in passages], content=question, draft=defused(draft)
            )
        except TemplateError as error:
            raise InvalidValue(f"The prompt template '{name}' is broken: {error.message}") from error

    def resolve(self, question: str, template: str | None) -> str:
        """The template that is meant for a question. Raises `InvalidValue` if there is none of that name."""
        name = template or self._default
        if name == AUTO:
            name = language(question)
        if not self._exists(name):
            raise InvalidValue(
                f"There is no prompt template named '{name}'.", hint=f"There are: {', '.join(self.names())}."
            )
        return name

    def names(self) -> list[str]:
        files = self._environment.list_templates(extensions=["jinja"])
        return [name.removesuffix(".jinja") for name in files if "/" not in name]

    def _exists(self, name: str) -> bool:
        if not _NAME.fullmatch(name):
            return False
        try:
            self._environment.get_template(f"{name}.jinja")
        except TemplateNotFound:
            return False
        except TemplateError:
            return True  # `render` says what is wrong with it
        return True
