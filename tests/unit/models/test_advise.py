"""Is the arithmetic of memory right, and does the advice follow from what quantisation costs?"""

from __future__ import annotations

import pytest
import typer.testing

from core.errors import InvalidValue
from models.llm.advise import Shape, advise
from rag_service.cli import app
from rag_service.cli.models import number

LLAMA_2_7B = Shape(layers=32, kv_heads=32, head_size=128)


def test_fp16_takes_two_bytes_a_parameter_and_eight_bit_one() -> None:
    rows = {
        row.precision: row for row in advise(7, context=4096, answers=1, vram_gb=24, shape=LLAMA_2_7B).rows
    }
    assert rows["FP16"].weights_gb == pytest.approx(
        14
    )  # the documented example: Llama 2 7B needs about 14 GB
    assert rows["8-bit"].weights_gb == pytest.approx(7)
    assert rows["4-bit (AWQ)"].weights_gb == pytest.approx(3.64)


def test_the_cache_grows_with_context_and_answers() -> None:
    assert LLAMA_2_7B.kv_bytes_per_token == 2 * 32 * 32 * 128 * 2  # 512 KiB

    def cache(context: int, answers: int) -> float:
        return advise(7, context=context, answers=answers, vram_gb=24, shape=LLAMA_2_7B).rows[0].cache_gb

    assert cache(4096, 1) == pytest.approx(4096 * 524_288 / 1e9)
    assert cache(8192, 3) == pytest.approx(6 * cache(4096, 1))


def test_the_longest_context_just_fits() -> None:
    longest = advise(8, context=1, answers=1, vram_gb=24).rows[0].most_context
    assert advise(8, context=longest, answers=1, vram_gb=24).rows[0].fits
    assert not advise(8, context=longest + 1, answers=1, vram_gb=24).rows[0].fits


@pytest.mark.parametrize(
    ("billions", "vram_gb", "precision"),
    [
        (8, 24, "8-bit"),  # a free lunch, even where FP16 fits
        (8, 10, "4-bit (AWQ)"),
        (8, 4, None),
        (70, 80, "4-bit (AWQ)"),
        (70, 40, "3-bit (AWQ)"),
        (70, 24, None),
    ],
)
def test_small_models_are_run_in_eight_bit_and_large_ones_in_four(
    billions: float, vram_gb: float, precision: str | None
) -> None:
    assert advise(billions, context=8000, answers=1, vram_gb=vram_gb).recommended == precision


@pytest.mark.parametrize(
    ("text", "value"),
    [("8B", 8e9), ("0.6b", 6e8), ("24G", 24e9), ("24GB", 24e9), ("8k", 8e3), ("4096", 4096)],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "B", "-1", "eight", "8T", "0"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        number(text)


def test_the_command_shows_the_arithmetic_and_where_it_is_from() -> None:
    said = (
        typer.testing.CliRunner().invoke(app, ["models", "advise", "--params", "8B", "--vram", "24G"]).output
    )
    assert "Recommended: 8-bit." in said
    assert "144 KiB a token (36 layers, 8 KV heads of 128" in said
    assert "docs/howto/choose-a-model.md" in said
