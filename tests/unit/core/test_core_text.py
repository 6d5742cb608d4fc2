"""Terms and sentences: what is cut out of a text, and that nothing of it is lost."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text import is_cjk, language, nfkc, question_terms, sentences, term_finder, terms, weight
from core.types import Span

# Pieces that the sentence rules look at, so that random texts meet them often.
PIECES = st.sampled_from(
    [
        *(
            "你好",
            "。",
            "！",
            "”",
            ".",
            " ",
            "\n",
            "\n\n",
            "Dr.",
            "e.g.",
            "1.",
            "- ",
            "# ",
            "（一）",
            "word ",
            "X",
            "3.14",
        ),
        "这是一个相当长的、可能会被页边距折断的行",
        "a line that is long enough to have been wrapped by a margin",
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=200)


def cut(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The 梵文 alphabet, v3.5", ["梵文", "alphabet", "v3", "v", "3", "5"]),
        ("公司总部", ["公司", "司总", "总部"]),
        ("年", ["年"]),
        ("ＡＢＣ１２３", ["abc123", "abc", "123"]),  # full-width letters are letters
        ("Policies, glasses and boxes", ["polici", "glass", "box"]),
        ("taxes tax cases case tomatoes tomato", ["tax", "tax", "case", "case", "tomato", "tomato"]),
        (
            "uses use toes toe sizes size trees fees",
            ["use", "use", "toe", "toe", "size", "size", "tree", "fee"],
        ),
        ("The manager's managers manage", ["manag"] * 3),
        ("change changes changed changing", ["chang"] * 4),
        ("PDFs pdf KPIs kpi VMs vm CSS", ["pdf", "pdf", "kpi", "kpi", "vm", "vm", "css"]),
        ("lease leases leased", ["leas"] * 3),
        ("FC3310 and FC-3310", ["fc3310", "fc", "3310", "fc", "3310"]),
        ("連續曠工", ["连续", "续旷", "旷工"]),
        ("police policy, organ organisation", ["polic", "polici", "organ", "organis"]),
        ("on 2024-05-06 at 1,250.50", ["2024-05-06", "2024", "05", "06", "1,250.50", "1", "250", "50"]),
        ("", []),
        ("…！？ --", []),
    ],
)
def test_terms_are_bigrams_of_chinese_and_stems_of_words(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("公司的总部在哪里？", ["公司", "总部"]),
        ("年假有多少天", ["年假", "假有"]),
        ("What is the leave policy?", ["leav", "polici"]),
        ("你是谁", ["你是", "是谁"]),  # nothing else is left
        ("leave leave", ["leav"]),
    ],
)
def test_question_terms_leave_out_what_only_makes_it_a_question(question: str, expected: list[str]) -> None:
    assert question_terms(question) == expected


MIXED = st.text(alphabet="年假天 ab s'ies’1289.,-ＡⅣ々ー한\n", max_size=60) | st.text(max_size=40)


@given(MIXED, MIXED, st.sets(st.text(max_size=3), max_size=3))
@settings(max_examples=300)
def test_wanted_terms_are_found_just_where_they_are_terms(text: str, question: str, odd: set[str]) -> None:
    wanted = {*terms(question), *terms(text)[::2], *odd}
    assert term_finder(wanted)(text) == wanted & set(terms(text))


@given(st.text(alphabet="，：；？！（）％。Ａé́ﾞかﾊﾟⅣ한글年a", max_size=30) | st.text(max_size=60))
@settings(max_examples=300)
def test_the_normal_form_is_that_of_unicode(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


@given(st.text(max_size=200))
def test_terms_of_any_text_are_lower_case_and_never_empty(text: str) -> None:
    assert all(term and term == term.lower() for term in terms(text))


@given(st.text(max_size=100))
def test_a_question_with_any_term_keeps_at_least_one(text: str) -> None:
    assert bool(question_terms(text)) == bool(terms(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("第一句。第二句！第三句", ["第一句。", "第二句！", "第三句"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("Dr. Smith paid 3.14 dollars. He left.", ["Dr. Smith paid 3.14 dollars.", "He left."]),
        ("one\n\ntwo", ["one", "two"]),
        ("- first item\n- second item", ["- first item", "- second item"]),
        (
            "This line was wrapped by the margin of\na page. Next.",
            ["This line was wrapped by the margin of\na page.", "Next."],
        ),
        (
            "**How long is it?** Ten days. *Really!* **Yes.** So",
            ["**How long is it?**", "Ten days.", "*Really!*", "**Yes.**", "So"],
        ),
        ("短行\n短行", ["短行", "短行"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@given(TEXTS)
@settings(deadline=None)
def test_sentences_are_ordered_disjoint_trimmed_and_lose_no_character(text: str) -> None:
    spans = list(sentences(text))
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(text[s.start : s.end] == text[s.start : s.end].strip() != "" for s in spans)
    outside = text
    for span in reversed(spans):
        outside = outside[: span.start] + outside[span.end :]
    assert outside.strip() == ""


@given(TEXTS, st.data())
@settings(deadline=None)
def test_sentences_of_a_span_stay_inside_it_and_cover_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    spans = list(sentences(text, Span(start, end)))
    assert all(start <= s.start < s.end <= end for s in spans)
    kept = "".join("".join(text[s.start : s.end].split()) for s in spans)
    assert kept == "".join(text[start:end].split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("年假有几天", True),
        ("iPhone 15 怎么重启", True),
        ("restart the 设备", False),
        ("如何在 Linux 上安装软件", True),
        ("leave", False),
        ("", False),
    ],
)
def test_a_text_is_chinese_when_chinese_says_most_of_it(text: str, expected: bool) -> None:
    assert is_cjk(text) is expected
    assert language(text) == ("zh" if expected else "en")


def test_a_latin_character_weighs_two_fifths_of_a_chinese_one() -> None:
    assert weight("年假") == 2
    assert weight("leave") == 2


def split(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


def test_a_sentence_that_begins_near_the_end_of_a_wrapped_line_stays_whole() -> None:
    text = "A customer who cancels early receives a full refund. Later cancellations\nare charged 14 euros."
    assert split(text)[1:] == ["Later cancellations\nare charged 14 euros."]


def test_a_heading_above_a_longer_line_is_no_part_of_its_sentence() -> None:
    body = "The glacier slid over its bed at a rate of thirty metres a year in the last century."
    assert split(f"Basal sliding and crevasse depths\n{body}") == ["Basal sliding and crevasse depths", body]


def test_every_row_of_a_sheet_is_a_sentence() -> None:
    rows = [f"Part number: BX-{n}; Description: Bearing type X{n}; Shelf: R{n}" for n in range(3)]
    assert split("\n".join([*rows, "All shelves are in the north hall of the old building."]))[:3] == rows


def test_a_span_beyond_the_text_ends_with_it() -> None:
    assert list(sentences("One. Two.", Span(5, 900))) == [Span(5, 9)]
    assert list(sentences("tampered", Span(20, 900))) == []


def test_times_prices_units_and_no_end_sentences() -> None:
    for first in (
        "The pool opens at 6:45.",
        "It costs 12,50.",
        "The pump draws 230 V.",
        "The answer is no.",
        "Or b.",
    ):
        assert split(f"{first} Dogs may not enter.") == [first, "Dogs may not enter."]
    for whole in ("See No. 5 for more.", "Ask J. Smith first.", "It draws A. Lee away.", "See vol. 3 there."):
        assert split(whole) == [whole]


def test_the_number_of_a_list_item_ends_no_sentence() -> None:
    assert split("它有如下特点:1. 速度快。") == ["它有如下特点:1. 速度快。"]
    assert split("They met in 2001. He left.") == ["They met in 2001.", "He left."]
