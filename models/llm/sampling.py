"""How is the next token chosen? All sampling parameters, their meanings, ranges and defaults, as one object.

Names and meanings are those of Hugging Face's `generate()`
(https://huggingface.co/docs/transformers/main_classes/text_generation), for which engines have names of their own
(`models/llm/presets.py`). `docs/sampling.md` is generated from here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Values that say the same as not setting the parameter: an engine without it may be asked for them.
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "stop": (),
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "length_penalty": 1.0,
    "min_new_tokens": 0,
    "early_stopping": False,
    "bad_words": (),
    "force_words": (),
    "n": 1,
}
# Without effect where the likeliest token is always taken, and where there are no beams.
_NEED_SAMPLING = ("top_p", "top_k", "min_p", "seed")
_NEED_BEAMS = ("length_penalty", "early_stopping")

Words = tuple[str, ...]


class SamplingParams(BaseModel):
    """Sampling parameters; null leaves what is set elsewhere: by the knowledge base, the settings, the engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Most tokens of the answer, the prompt not counted. Default: `llm.max_new_tokens`.",
    )
    repetition_penalty: float | None = Field(
        None,
        gt=0,
        le=2,
        description="Makes tokens that were there before less likely: their probability is multiplied by "
        "1/penalty. Usually above 1; 1 punishes nothing.",
    )
    stop: Words | None = Field(
        None,
        max_length=16,
        description="The answer ends where one of these texts would begin.",
        examples=[["\n\n"]],
    )
    top_k: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Only the k likeliest tokens may come next: fewer absurd or repeated words. 0: all may.",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=2,
        description="Smaller is more certain, larger more varied; usually 0 to 1. 0 always takes the likeliest "
        "token, 1 leaves the model's probabilities as they are. Default: `llm.temperature`.",
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Nucleus sampling: only the likeliest tokens that together have this probability may come next. "
        "Small is certain, large varied; 1 is off. Change this or the temperature, not both.",
    )
    min_p: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Only tokens at least this share as likely as the likeliest one may come next. 0 is off.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**31,
        description="Same seed, prompt and engine: same answer, as far as the engine can.",
    )
    presence_penalty: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Subtracted from the score of tokens that were there before, once. 0 is off.",
    )
    frequency_penalty: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Subtracted from the score of tokens that were there before, for each time. 0 is off.",
    )
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, le=100, description="No sequence of this many tokens comes twice. 0, the default, is off."
    )
    num_beams: int | None = Field(
        None,
        ge=1,
        le=16,
        description="Beam search: so many drafts are kept at every step, and the best is the answer. The work grows "
        "with it, and nothing can be streamed. 1, the default, is off.",
    )
    length_penalty: float | None = Field(
        None,
        ge=-10,
        le=10,
        description="With beam search: a draft's log-likelihood is divided by its length to this power. Since that "
        "is negative, above 0 favours long drafts and below 0 short ones. Default 1.",
    )
    min_new_tokens: int | None = Field(
        None, ge=0, le=1_000_000, description="Fewest tokens of the answer, the prompt not counted."
    )
    early_stopping: bool | Literal["never"] | None = Field(
        None,
        description="With beam search. true: end when `num_beams` drafts are finished; false, the default: when a "
        'better one is unlikely; "never": only when there can be no better one.',
    )
    bad_words: Words | None = Field(None, max_length=100, description="Texts that may not be in the answer.")
    force_words: Words | None = Field(
        None, max_length=100, description="Texts that must be in the answer (with beam search)."
    )
    n: int | None = Field(
        None, ge=1, le=1, description="How many answers. Always 1: a cited answer is one answer."
    )

    def given(self) -> dict[str, Any]:
        """The parameters that are set, by name."""
        return self.model_dump(exclude_none=True)

    def over(self, defaults: SamplingParams) -> SamplingParams:
        """These parameters, and the defaults' where these are not set."""
        return SamplingParams.model_construct(**{**defaults.given(), **self.given()})

    def changed(self, **values: Any) -> SamplingParams:
        """The same with other values."""
        return SamplingParams.model_validate({**self.given(), **values})


NONE_GIVEN = SamplingParams()


def warnings(params: SamplingParams) -> list[str]:
    """What the user should know about parameters that work against each other, a sentence each."""
    given = {name: value for name, value in params.given().items() if value != NEUTRAL.get(name)}
    found = []
    if given.get("temperature") == 0:
        without = [name for name in _NEED_SAMPLING if name in given]
        if without:
            found.append(f"temperature is 0 (always the likeliest token), so {_all(without)} no effect.")
    elif "temperature" in given and "top_p" in given:
        found.append("temperature and top_p are both set: change one and leave the other.")
    if given.get("num_beams", 1) == 1 and (without := [name for name in _NEED_BEAMS if name in given]):
        found.append(f"num_beams is 1, so {_all(without)} no effect.")
    return found


def _all(names: list[str]) -> str:
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'}"
