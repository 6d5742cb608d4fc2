"""Citations: verbatim, checked against the stored document, and the same however the answer arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.types import Page, ParsedDocument, Passage, Record, Section, Span
from rag_service.answering.citations import Attributor, CitedText, CitingStream, Verifier

TEXT = (
    "# Leave\nParental leave is 16 weeks. It is paid by the company.\n"
    "Annual leave is 25 days, of which 5 may be carried over.\n"
    "# 休假\n员工每年享有十天带薪年假。病假需要医生证明。"
)
DOCUMENT = ParsedDocument(
    TEXT,
    pages=(Page(1, Span(0, TEXT.index("# 休假"))), Page(2, Span(TEXT.index("# 休假"), len(TEXT)))),
    sections=(
        Section(("Leave",), Span(0, TEXT.index("# 休假"))),
        Section(("休假",), Span(TEXT.index("# 休假"), len(TEXT))),
    ),
)


def passage(start: int, end: int, *, text: str | None = None) -> Passage:
    record = Record(f"chunk-{start}", "d1", "r1", text or TEXT[start:end], start=start, end=end)
    return Passage(record, "handbook.pdf", 0.9)


def passages() -> list[Passage]:
    middle = TEXT.index("# 休假")
    return [passage(0, middle), passage(middle, len(TEXT))]


def attributor(found: list[Passage] | None = None) -> Attributor:
    return Attributor(passages() if found is None else found, Verifier({"d1": DOCUMENT}))


def run(pieces: list[str]) -> tuple[list[CitedText], CitingStream]:
    stream = CitingStream(attributor())
    sent = [item for piece in pieces for item in stream.feed(piece)]
    return [*sent, *stream.finish()], stream


def answer(*pieces: str) -> str:
    return run(list(pieces))[1].text


@pytest.mark.parametrize(
    ("sentence", "quote", "page", "section"),
    [
        ("The parental leave is 16 weeks.", "Parental leave is 16 weeks.", 1, "Leave"),
        ("每年有十天带薪年假。", "员工每年享有十天带薪年假。", 2, "休假"),
    ],
)
def test_a_citation_quotes_the_document_and_names_page_and_section(
    sentence: str, quote: str, page: int, section: str
) -> None:
    [citation] = attributor().attribute(sentence).citations
    assert citation.quote == quote == TEXT[citation.start : citation.end]
    assert (citation.page, citation.section, citation.document_name) == (page, section, "handbook.pdf")
    assert citation.number == 1


def test_support_may_lie_in_two_neighbouring_sentences() -> None:
    [citation] = attributor().attribute("Parental leave of 16 weeks is paid by the company.").citations
    assert citation.quote == "Parental leave is 16 weeks. It is paid by the company."


def test_a_number_that_is_not_there_is_no_support() -> None:
    assert attributor().attribute("Parental leave is 16 weeks.").supported
    assert not attributor().attribute("Parental leave is 18 weeks.").supported
    assert not attributor().attribute("Annual leave is 25 days, of which 6 may be carried over.").supported


@pytest.mark.parametrize("sentence", ["Penguins swim under water.", "企鹅在水下游泳。"])
def test_a_sentence_that_no_passage_supports_is_unsupported(sentence: str) -> None:
    attribution = attributor().attribute(sentence)
    assert (attribution.citations, attribution.supported) == ((), False)


def test_a_sentence_without_words_claims_nothing() -> None:
    assert attributor().attribute("…").supported
    assert attributor([]).attribute("-").supported
    assert not attributor([]).attribute("Leave is paid.").supported


def test_a_passage_that_is_not_what_the_document_says_is_never_cited() -> None:
    tampered = passage(0, 36, text=TEXT[:36].replace("16", "99"))
    assert not attributor([tampered]).attribute("Parental leave is 99 weeks.").supported
    gone = Attributor(passages(), Verifier({}))
    assert not gone.attribute("Parental leave is 16 weeks.").supported


def test_what_compression_dropped_is_not_cited() -> None:
    start = TEXT.index("Annual")
    kept = Passage(passages()[0].record, "handbook.pdf", 0.9, spans=(Span(start, TEXT.index("# 休假")),))
    assert not attributor([kept]).attribute("Parental leave is 16 weeks.").supported
    assert attributor([kept]).attribute("Annual leave is 25 days.").supported


def test_each_sentence_gets_its_mark_and_the_same_place_the_same_number() -> None:
    text = answer("Parental leave is 16 weeks. 每年十天带薪年假。 So parental leave is 16 weeks!")
    assert text == "Parental leave is 16 weeks.[1] 每年十天带薪年假。[2] So parental leave is 16 weeks![1]"


def test_citations_are_numbered_from_1_in_the_order_of_their_marks_and_sent_once() -> None:
    sent, stream = run(["Sick leave: 病假需要医生证明。 Parental leave is 16 weeks. 病假需要医生证明。"])
    assert [c.number for c in stream.citations] == [1, 2]
    assert [c.number for item in sent for c in item.new] == [1, 2]
    assert [c.number for item in sent for c in item.marks] == [1, 2, 1]


def test_an_unsupported_sentence_is_reported_and_bears_no_mark() -> None:
    _, stream = run(["Parental leave is 16 weeks. Penguins swim. Bye."])
    assert stream.text == "Parental leave is 16 weeks.[1] Penguins swim. Bye."
    assert stream.unsupported == ["Penguins swim.", "Bye."]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Parental leave is 16 weeks [3].", "Parental leave is 16 weeks.[1]"),
        ("Parental leave is 16 weeks.[1][12] ", "Parental leave is 16 weeks.[1]"),
        ("每年十天带薪年假【2】。", "每年十天带薪年假。[1]"),
        ("Parental leave is 16 weeks [1](http://x).", "Parental leave is 16 weeks [1](http://x)."),
        ("Parental leave in table [123] is 16 weeks.", "Parental leave in table [123] is 16 weeks."),
    ],
)
def test_marks_of_the_models_own_are_dropped_and_links_are_not(written: str, expected: str) -> None:
    assert answer(written) == expected
    assert answer(*written) == expected


def test_text_is_passed_on_before_its_sentence_ends() -> None:
    stream = CitingStream(attributor())
    assert [item.text for item in stream.feed("Parental leave ")] == ["Parental leave"]
    assert [item.text for item in stream.feed("is [")] == [" is"]
    assert [item.marked for item in stream.feed("1] 16 weeks. It")] == [" 16 weeks.[1]", " It"]


PIECES = st.sampled_from(
    [
        *(
            "Parental leave is 16 weeks",
            ".",
            " ",
            "\n",
            "1",
            "1.",
            "[",
            "]",
            "2",
            "(",
            "【",
            "】",
            "一",
            "。",
            "”",
            "- ",
        ),
        *(
            "[1]",
            " [2](x)",
            "Dr.",
            "\n\n",
            "每年十天带薪年假",
            "it is paid by the company and that is a long line",
        ),
    ]
)


@st.composite
def chopped(draw: st.DrawFn) -> list[str]:
    text = "".join(draw(st.lists(PIECES, max_size=14)))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=len(text))))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(chopped())
@example(
    ["it is paid by the company and that is a long line\n1", ". Yes."]
)  # the list's number was sent twice
@example(["See [1]", "(http://x) and", " [2] this."])
@example(
    ["每年十天带薪年假，由公司支付\nP", "arental leave is sixteen weeks and it is paid by the company. Yes."]
)
@settings(deadline=None, max_examples=200)
def test_an_answer_that_streams_in_any_pieces_ends_as_the_same_answer(pieces: list[str]) -> None:
    whole, plain = run(["".join(pieces)])
    sent, streamed = run(pieces)
    assert streamed.text == plain.text
    assert streamed.citations == plain.citations
    assert streamed.unsupported == plain.unsupported
    for items, stream in ((whole, plain), (sent, streamed)):
        assert "".join(item.marked for item in items) == stream.text
        assert [c for item in items for c in item.new] == stream.citations


def test_a_sentence_said_twice_cites_both_documents_that_say_it() -> None:
    other = replace(passage(0, 40), record=replace(passage(0, 40).record, document_id="d2"))
    both = Attributor([passage(0, 40), other], Verifier({"d1": DOCUMENT, "d2": DOCUMENT}))
    stream = CitingStream(both)
    stream.feed("Parental leave is 16 weeks.\nParental leave is 16 weeks.\n")
    stream.finish()
    assert [c.document_id for c in stream.citations] == ["d1", "d2"]
    assert {c.quote for c in stream.citations} == {"Parental leave is 16 weeks."}
