"""Does the page have all its words in both languages, and keep to its content security policy?"""

from __future__ import annotations

import re

import pytest

from web import static_dir

SOURCES = {path.name: path.read_text(encoding="utf-8") for path in static_dir().iterdir() if path.is_file()}
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}


def words(language: str) -> dict[str, str]:
    """The words of a language, read from `i18n.js`."""
    block = re.search(rf"\n  {language}: {{\n(.*?)\n  }},", SOURCES["i18n.js"], re.DOTALL)
    assert block is not None
    return dict(re.findall(r'^    "?([\w.]+)"?: "(.+)",$', block.group(1), re.MULTILINE))


def test_both_languages_have_the_same_words_with_the_same_values() -> None:
    english, chinese = words("en"), words("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", chinese[key])), key


def test_every_word_that_the_page_uses_is_there() -> None:
    used = set(re.findall(r'data-t(?:-label|-placeholder)?="([\w.]+)"', SOURCES["index.html"]))
    for text in SCRIPTS.values():
        used |= set(re.findall(r'\b(?:t|say|spoken)\("([\w.]+)"', text))
    assert used
    assert used <= set(words("en"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_turns_text_into_markup_or_code(name: str) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc"
    )
    assert re.findall(forbidden, SCRIPTS[name]) == []


def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    html = SOURCES["index.html"]
    assert all(address.startswith("/web/") for address in re.findall(r'(?:src|href)="([^#"]+)"', html))
    assert re.findall(r"<style|style=|\son\w+=|<script[^>]*>[^<]", html) == []
    for name, text in SOURCES.items():
        if name.endswith((".js", ".css")):
            assert re.findall(r"https?://|@import|url\(", text) == [], name
