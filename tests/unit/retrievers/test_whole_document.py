"""Which questions are about whole documents, in Chinese and English, and which only look like it."""

from __future__ import annotations

import pytest

from retrievers.whole_document import Kind, whole_document_question

ABOUT = [
    "What is this contract about?",
    "what's the Atlas 9 manual about",
    "What is policies/leave.md about?",
    "What are these documents about?",
    "What does the employee handbook cover?",
    "Summarize this report.",
    "Please summarise the annual report 2025",
    "Give me a short summary of the contract.",
    "What is the purpose of this agreement?",
    "这份合同讲什么？",
    "这份合同主要讲了什么内容",
    "《员工手册》讲的是什么？",
    "这个文件的主要内容是什么？",
    "请概括一下这份报告",
    "总结一下《劳动合同》的主要内容",
    "leave.md 讲什么？",
]
WHICH = [
    ("Which of the manuals cover descaling?", "descaling"),
    ("which documents mention parental leave", "parental leave"),
    ("Which files talk about the hydraulic pump?", "the hydraulic pump"),
    ("What documents deal with safety?", "safety"),
    ("List all documents about travel expenses.", "travel expenses"),
    ("哪些文档提到年假？", "年假"),
    ("哪几份合同涉及违约金", "违约金"),
    ("有没有文件规定加班费？", "加班费"),
    ("提到产假的文档有哪些？", "产假"),
]
NAMES = [
    ("What is lease-quay-road about?", "lease-quay-road"),
    ("What's Moby Dick about", "Moby Dick"),
    ("What is 停车场管理办法 about?", "停车场管理办法"),
    ("停车场管理办法讲什么？", "停车场管理办法"),
    ("停车场管理办法主要讲了哪些内容？", "停车场管理办法"),
    ("停车场管理办法的主要内容是什么？", "停车场管理办法"),
]
NEITHER = [
    "How long is parental leave?",
    "What does the contract say about payment?",
    "What is the deposit in this contract?",
    "Which document do I need for a visa?",
    "What is the manual lever for?",
    "Summarize the payment terms of the contract in one line",
    "What about the report?",
    "合同的付款条件是什么？",
    "合同里讲什么时候付款？",
    "总结一下合同里关于付款的条款",
    "这份合同的押金是多少？",
    "需要哪些材料？",
    "年假有多少天？",
    "公司规定了什么？",
]


@pytest.mark.parametrize("question", ABOUT)
def test_what_a_document_is_about(question: str) -> None:
    found = whole_document_question(question)
    assert found is not None
    assert (found.kind, found.topic, found.name) == (Kind.ABOUT, question, "")


@pytest.mark.parametrize(("question", "topic"), WHICH)
def test_which_documents_cover_a_topic(question: str, topic: str) -> None:
    found = whole_document_question(question)
    assert found is not None
    assert (found.kind, found.topic) == (Kind.WHICH, topic)


@pytest.mark.parametrize(("question", "name"), NAMES)
def test_what_something_is_about_that_may_be_a_documents_name(question: str, name: str) -> None:
    found = whole_document_question(question)
    assert found is not None
    assert (found.kind, found.topic, found.name) == (Kind.ABOUT, question, name)


@pytest.mark.parametrize("question", NEITHER)
def test_questions_about_something_in_documents_are_left_alone(question: str) -> None:
    assert whole_document_question(question) is None


def test_rules_take_no_time_on_long_questions() -> None:
    for text in (
        "what is the " + "very " * 800 + "contract",
        "总结一下" * 1000,
        "which documents " * 250,
        "what is " * 600,
        "讲" * 4000,
    ):
        assert whole_document_question(text[:4000]) is None


def test_a_question_of_blanks_is_decided_at_once() -> None:
    """By a pattern that tried every run of them it took minutes."""
    blanks = " " * 3900
    assert whole_document_question(f"which documents mention x{blanks}y") is not None
    assert whole_document_question(f"哪些文档提到x{blanks}y") is not None
    assert whole_document_question("which documents mention " + "x y" * 500) is None
