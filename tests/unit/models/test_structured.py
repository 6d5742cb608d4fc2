"""Is an answer in JSON of the shape that was asked for, whatever the model writes?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest
from pydantic import BaseModel, Field

from core.errors import ModelError
from models.llm.base import Delta, FinishReason, Message, Role
from models.llm.presets import FASTCHAT, OLLAMA, Preset
from models.llm.sampling import SamplingParams
from models.llm.structured import complete_json

QUESTION = [Message(Role.USER, "How old?")]
PARAMS = SamplingParams(max_new_tokens=64)


class Age(BaseModel):
    years: int = Field(ge=0)


class Script:
    """Not a model: it says one text after the other, for what is made of them is tested here."""

    name = "script"
    context_tokens = 512
    prompt_style = "chat"

    def __init__(self, *texts: str, preset: Preset = FASTCHAT) -> None:
        self.texts = list(texts)
        self.preset = preset
        self.asked: list[tuple[list[Message], object]] = []

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append((list(messages), schema))
        yield Delta(self.texts.pop(0), FinishReason.STOP)


async def ask(script: Script) -> Age:
    return await complete_json(script, QUESTION, Age, PARAMS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        '{"years": 7}',
        '```json\n{"years": 7}\n```',
        'Here it is: {"years": 7} I hope that helps {x}',
        '{"years": "7"}',
    ],
)
async def test_the_object_is_found_among_words(text: str) -> None:
    assert (await ask(Script(text))).years == 7


async def test_an_engine_that_can_be_held_to_json_is_given_the_schema_and_no_words() -> None:
    script = Script('{"years": 7}', preset=OLLAMA)
    await ask(script)
    [(messages, schema)] = script.asked
    assert messages == QUESTION
    assert schema == {**Age.model_json_schema(), "additionalProperties": False}


async def test_another_engine_is_asked_for_it_in_words() -> None:
    script = Script('{"years": 7}')
    await ask(script)
    assert '"years"' in script.asked[0][0][-1].content


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("seven", "no object"),
        ('{"years": 7', "delimiter"),
        ('{"years": -1}', "years: Input should be greater"),
        ('{"age": 7}', "years: Field required"),
        ("", "no object"),
    ],
)
async def test_a_wrong_answer_may_be_mended_once_and_the_model_is_told_what_was_wrong(
    wrong: str, words: str
) -> None:
    script = Script(wrong, '{"years": 7}')
    assert (await ask(script)).years == 7
    said, repair = script.asked[1][0][-2:]
    assert said == Message(Role.ASSISTANT, wrong)
    assert words in repair.content
    with pytest.raises(ModelError, match="something else twice") as caught:
        await ask(Script(wrong, wrong))
    assert caught.value.hint
