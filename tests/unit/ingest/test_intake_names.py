"""Names of uploads: relative paths and nothing that could leave a folder or deceive a reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidValue
from ingest.intake import LONGEST_NAME, clean_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leave.md", "leave.md"),
        ("policies/leave.md", "policies/leave.md"),
        ("C:\\docs\\leave.md", "C:/docs/leave.md"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("./a/./b//c.md", "a/b/c.md"),
        (" a / b.md ", "a/b.md"),
        ("le\u0301ave.md", "léave.md"),  # NFD, as macOS sends it
        ("a\x00b\x1b[31m.md", "ab[31m.md"),
        ("evil\u202efdp.exe", "evilfdp.exe"),  # right-to-left override
        ("\ud800x.md", "x.md"),  # a lone surrogate
        ("员工手册.pdf", "员工手册.pdf"),
    ],
)
def test_a_name_is_a_clean_relative_path(name: str, expected: str) -> None:
    assert clean_name(name) == expected


@pytest.mark.parametrize("name", [None, "", "/", "..", "../..", " ", "\x00", "x" * (LONGEST_NAME + 1)])
def test_a_name_of_which_nothing_is_left_or_that_is_too_long_is_refused(name: str | None) -> None:
    with pytest.raises(InvalidValue):
        clean_name(name)


@given(st.text(max_size=60))
def test_a_clean_name_stays_as_it_is_and_inside_its_folder(name: str) -> None:
    try:
        cleaned = clean_name(name)
    except InvalidValue:
        return
    assert clean_name(cleaned) == cleaned
    assert not {"", ".", ".."} & set(cleaned.split("/"))
    cleaned.encode()
