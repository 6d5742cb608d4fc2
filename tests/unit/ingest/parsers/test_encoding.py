"""Is text read as it was written, whatever its encoding, and never as mojibake?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UnreadableDocument
from ingest.parsers.encoding import decode

SIMPLIFIED = (
    "知识库系统的检索流程分为两个阶段。首先，系统会根据用户的问题改写成适合搜索的语句，"
    "然后在摘要索引中找出相关的文件。"
)
TRADITIONAL = "員工請病假超過三天時，應該附上醫院開立的診斷證明書，並在返回工作崗位後一週內提交給人事部門。"
JAPANESE = (
    "当社の就業規則では、年次有給休暇は入社後六か月で十日間付与されます。"
    "休暇を取得する場合は、上司へ申請してください。"
)
KOREAN = (
    "회사의 휴가 규정에 따르면 직원은 입사 후 여섯 달이 지나면 열흘의 유급 휴가를 받을 수 있습니다. "
    "휴가를 신청하려면 일주일 전에 상사에게 알려야 합니다."
)
RUSSIAN = "Сотрудники компании имеют право на ежегодный оплачиваемый отпуск продолжительностью двадцать восемь дней."
FRENCH = "Les employés ont droit à vingt-cinq jours de congés payés par an, une semaine à l’avance."
ALL = SIMPLIFIED + TRADITIONAL + JAPANESE + KOREAN + RUSSIAN + FRENCH


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *(
            (ALL, encoding)
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be")
        ),
        *((SIMPLIFIED, encoding) for encoding in ("gb2312", "gbk", "gb18030", "utf-16-le", "utf-16-be")),
        *((TRADITIONAL, encoding) for encoding in ("big5", "gb18030", "utf-16-le")),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "cp949"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "utf-16-be"),
        (FRENCH, "cp1252"),
        ("姓名,城市\n张三,北京\n", "gbk"),
        ("一二三 123\n", "utf-16-le"),
        ("你好", "gbk"),
        ("plain", "ascii"),
    ],
)
def test_text_comes_back_as_written(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@settings(deadline=None)
@given(st.integers(0, len(SIMPLIFIED) - 12), st.integers(12, len(SIMPLIFIED)))
def test_any_stretch_of_chinese_is_told_from_other_encodings(start: int, length: int) -> None:
    text = SIMPLIFIED[start : start + length]
    assert decode(text.encode("gb18030")) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Co", "Cn"))))
def test_utf_8_is_always_utf_8(text: str) -> None:
    assert decode(text.encode()) == text


def test_a_declared_encoding_counts_where_the_bytes_allow_several() -> None:
    assert decode("日本".encode("euc_jp"), declared="EUC-JP") == "日本"
    assert decode("龘".encode("gb18030"), declared="gb2312") == "龘"
    assert decode("漢字".encode(), declared="shift_jis") == "漢字"


@pytest.mark.parametrize("declared", ["no-such-encoding", "base64", "utf-7", "", "\x00"])
def test_a_senseless_declaration_is_ignored(declared: str) -> None:
    assert decode(SIMPLIFIED.encode("gbk"), declared=declared) == SIMPLIFIED


def test_a_log_cut_in_the_middle_of_a_character_is_still_read() -> None:
    text = SIMPLIFIED * 5
    assert decode(text.encode()[:-1]) == text[:-1] + "\ufffd"


@pytest.mark.parametrize("data", [b"\xfa\xfb\xfc", "龚璟".encode("gb18030"), "отп".encode("koi8-r")])
def test_what_nobody_can_tell_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableDocument, match="UTF-8"):
        decode(data)


def test_binary_data_is_refused() -> None:
    with pytest.raises(UnreadableDocument, match="binary"):
        decode(b"\x01\x02\x03 word " * 20)
