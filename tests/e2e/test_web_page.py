"""Does the web page do what a user needs, in a real browser against the real service?

Needs Chromium at `CHROMIUM` (`apt-get install chromium`). Every test has a knowledge base and a browser
profile of its own. A page that logs an error or breaks its content security policy fails its test.
"""

from __future__ import annotations

import io
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
INGEST_TIMEOUT_MS = 60_000
# A refused request is logged by the browser itself; the tests that provoke one check what the page says.
EXPECTED_LOG = re.compile(
    r"Failed to load resource: (the server responded with a status of 4|net::ERR_INTERNET)"
)
LEAVE = """# 员工手册

本手册适用于全体员工。😀

## 休假

正式员工每年享有十五天带薪年假。申请应当提前五个工作日提交。

## 加班

周末加班优先安排调休。
"""
QUOTE = "正式员工每年享有十五天带薪年假。"
QUESTION = "正式员工每年享有多少天带薪年假？"


class Service(Protocol):
    """The fixture `service`: the running service's address and its admin key."""

    url: str
    admin_key: str


@dataclass(frozen=True)
class KnowledgeBase:
    name: str
    api: httpx.Client  # below `/api/v1`, with the admin key

    def add(self, name: str, text: str) -> None:
        """Upload a document and wait until it can be searched."""
        path = f"/kbs/{self.name}/documents"
        result = (
            self.api.post(path, files={"file": (name, text.encode())}).raise_for_status().json()["files"][0]
        )
        with self.api.stream("GET", f"/jobs/{result['job']['id']}/events") as events:
            last = [line for line in events.iter_lines() if line.startswith("data:")][-1]
        assert '"status":"done"' in last

    def documents(self) -> list[str]:
        response = self.api.get(f"/kbs/{self.name}/documents").raise_for_status()
        return [document["name"] for document in response.json()["items"]]


@pytest.fixture
def kb(service: Service) -> Iterator[KnowledgeBase]:
    headers = {"Authorization": f"Bearer {service.admin_key}"}
    with httpx.Client(base_url=f"{service.url}/api/v1", headers=headers, timeout=60) as api:
        name = f"page-{uuid.uuid4().hex[:8]}"
        api.post("/kbs", json={"name": name}).raise_for_status()
        yield KnowledgeBase(name, api)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)  # milliseconds: a busy machine is no failure
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, service: Service, kb: KnowledgeBase) -> Iterator[Open]:
    """Opens the page on the test's knowledge base; `key` None means that none was ever given."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def log(message: ConsoleMessage) -> None:
        if message.type == "error" and not EXPECTED_LOG.match(message.text):
            errors.append(message.text)

    def open_(*, key: str | None = service.admin_key, width: int = 1280, locale: str = "en-US") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, locale=locale)
        contexts.append(context)
        page = context.new_page()
        page.on("console", log)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if key is not None:
            # The key dialog is tested below; elsewhere the browser knows the key already.
            page.goto(f"{service.url}/web/icon.svg")
            page.evaluate("key => localStorage.setItem('rag.key', key)", key)
        page.goto(f"{service.url}/?kb={kb.name}")
        if key == service.admin_key:
            expect(page.locator("#kb")).to_have_value(kb.name)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []


def ask(page: Page, question: str = QUESTION) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    expect(page.locator(".answer").last).not_to_have_attribute("aria-busy", "true")


def upload(page: Page, name: str, content: str) -> None:
    page.set_input_files("#files", {"name": name, "mimeType": "text/plain", "buffer": content.encode()})


def test_upload_ask_and_read_the_cited_passage(open_page: Open, service: Service) -> None:
    page = open_page()
    upload(page, "员工手册.md", LEAVE)
    expect(page.locator("#uploads .state")).to_have_text("ready", timeout=INGEST_TIMEOUT_MS)
    expect(page.locator("#document-list .name")).to_have_text("员工手册.md")

    ask(page)
    expect(page.locator(".answer .text").last).to_contain_text("十五天")
    expect(page.locator(".sources .name").first).to_have_text("员工手册.md")
    page.locator(".answer .mark").first.click()
    expect(page.locator("#passage-title")).to_have_text("员工手册.md")
    expect(page.locator("#passage-text mark")).to_have_text(QUOTE)
    expect(page.locator("#passage-place")).to_contain_text("休假")
    expect(page.locator("#passage-text")).to_have_text(LEAVE.strip())
    assert page.locator("#passage-text mark").evaluate("e => getComputedStyle(e).backgroundColor") != (
        "rgba(0, 0, 0, 0)"
    )
    assert service.admin_key not in page.url

    page.go_back()
    expect(page.locator("#panel")).to_be_hidden()


def test_progress_is_shown_from_upload_to_ready(open_page: Open) -> None:
    page = open_page()
    page.evaluate(
        """() => {
          window.states = [];
          new MutationObserver(() => {
            const state = document.querySelector("#uploads .state")?.textContent;
            if (state && window.states.at(-1) !== state) window.states.push(state);
          }).observe(document.getElementById("uploads"), { subtree: true, childList: true, characterData: true });
        }"""
    )
    # Long enough to be seen while it is embedded: the page hears of a stage three times a second.
    facts = [
        " ".join(f"Screw {n}-{m} weighs {n + m} grams and is kept dry." for m in range(12)) for n in range(30)
    ]
    upload(page, "long.md", "\n\n".join(f"# Part {n}\n\n{fact}" for n, fact in enumerate(facts)))
    expect(page.locator("#uploads .state")).to_have_text("ready", timeout=INGEST_TIMEOUT_MS)
    states = page.evaluate("window.states")
    assert states[0] == "uploading"
    assert states[-1] == "ready"
    assert any(state.startswith("embedding") for state in states)
    expect(page.locator("#uploads progress")).to_have_count(0)


def test_a_refused_file_says_why_and_the_others_are_taken(open_page: Open) -> None:
    page = open_page()
    files = [
        {"name": name, "mimeType": "text/plain", "buffer": LEAVE.encode()} for name in ("tool.exe", "good.md")
    ]
    page.set_input_files("#files", files)
    expect(page.locator("#uploads .failed .error")).to_contain_text(".exe")
    expect(page.locator("#uploads .done .name")).to_have_text("good.md", timeout=INGEST_TIMEOUT_MS)


def test_the_files_of_an_archive_are_listed_one_by_one(open_page: Open) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tool.exe", "no document")
        archive.writestr("休假.md", LEAVE)
    page = open_page()
    page.set_input_files(
        "#files", {"name": "all.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}
    )
    expect(page.locator("#uploads .failed .error")).to_contain_text(".exe")
    expect(page.locator("#uploads .done .name")).to_have_text("all.zip/休假.md", timeout=INGEST_TIMEOUT_MS)
    expect(page.locator("#uploads li")).to_have_count(2)


def test_a_file_that_is_there_under_another_name_says_so(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    upload(page, "copy.md", LEAVE)
    expect(page.locator("#uploads .state")).to_have_text("unchanged")
    expect(page.locator("#uploads li")).to_contain_text("same as 员工手册.md")
    expect(page.locator("#document-list .name")).to_have_text("员工手册.md")


def test_files_and_folders_can_be_dropped(open_page: Open, tmp_path: Path) -> None:
    folder = tmp_path / "制度"
    (folder / "hr").mkdir(parents=True)
    (folder / "hr" / "leave.md").write_text(LEAVE, encoding="utf-8")
    (folder / ".hidden.md").write_text("secret", encoding="utf-8")
    (tmp_path / "single.txt").write_text("A single file.", encoding="utf-8")
    page = open_page()
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder), str(tmp_path / "single.txt")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    expect(page.locator("#drop")).to_be_visible()
    devtools.send("Input.dispatchDragEvent", {"type": "drop", "x": 300, "y": 300, "data": data})
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator("#uploads .done")).to_have_count(2, timeout=INGEST_TIMEOUT_MS)
    assert set(page.locator("#document-list .name").all_text_contents()) == {"single.txt", "制度/hr/leave.md"}


def test_markup_in_names_and_texts_stays_text(open_page: Open, kb: KnowledgeBase) -> None:
    attack = "<img src=x onerror='window.hacked=1'>"
    name = f"{attack}.md"
    text = f"{attack}<script>window.hacked=1</script> 的年假是十五天。"
    kb.add(name, f"# {attack}\n\n{text}\n")
    page = open_page()
    page.click("#show-documents")
    expect(page.locator("#document-list .name")).to_have_text(name)
    ask(page, "年假是几天？")
    expect(page.locator(".sources .name").first).to_have_text(name)
    page.locator(".sources a").first.click()
    expect(page.locator("#passage-title")).to_have_text(name)
    expect(page.locator("#passage-text")).to_contain_text(attack)
    assert page.locator("img, main script, aside script").count() == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<b>x</b> & <script>1</script>", "<p>&lt;b&gt;x&lt;/b&gt; &amp; &lt;script&gt;1&lt;/script&gt;</p>"),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("first\nsecond\n\nthird", "<p>first<br>second</p><p>third</p>"),
        ("- **one**\n- two", "<ul><li><strong>one</strong></li><li>two</li></ul>"),
        ("3. three\n4. four", '<ol start="3"><li>three</li><li>four</li></ol>'),
        ("```\n**x** [1] <i>\n```", "<pre><code>**x** [1] &lt;i&gt;</code></pre>"),
        ("`[1]` and [7]", "<p><code>[1]</code> and [7]</p>"),
        ("## Title", '<p class="heading">Title</p>'),
        ("2 * 3 ** 4 **", "<p>2 * 3 ** 4 **</p>"),
        ("```\nunclosed", "<pre><code>unclosed</code></pre>"),
    ],
)
def test_an_answer_is_built_from_a_few_safe_elements(open_page: Open, text: str, html: str) -> None:
    page = open_page()
    built = page.evaluate(
        """async (text) => {
          const { answerNodes } = await import("/web/answer.js");
          const box = document.createElement("div");
          box.append(...answerNodes(text, new Map([[1, { number: 1, document_name: "a" }]]), () => {}));
          return box.innerHTML;
        }""",
        text,
    )
    assert built == html


def test_a_stream_is_read_however_it_is_cut(open_page: Open) -> None:
    page = open_page()
    read = page.evaluate(
        r"""async () => {
          const { events } = await import("/web/sse.js");
          const text = "event: delta\r\ndata: {\"text\": \"年😀\\n\"}\r\n\r\n: ping\r\n\r\nevent: done\ndata: {}\n\n";
          const bytes = new TextEncoder().encode(text);
          const results = [];
          for (let size = 1; size <= bytes.length; size += 1) {
            const body = new ReadableStream({
              start(controller) {
                for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
                controller.close();
              },
            });
            const found = [];
            for await (const event of events(new Response(body))) found.push(event);
            results.push(JSON.stringify(found));
          }
          return [...new Set(results)].map((each) => JSON.parse(each));
        }"""
    )
    assert read == [[{"event": "delta", "data": {"text": "年😀\n"}}, {"event": "done", "data": {}}]]


def test_a_wrong_key_is_told_and_the_right_one_opens_the_page(open_page: Open, service: Service) -> None:
    page = open_page(key=None)
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    for wrong in ("rag_wrong", "密钥"):
        page.fill("#key-input", wrong)
        page.press("#key-input", "Enter")
        expect(page.locator("#key-error")).to_have_text("The service does not accept this key.")
        expect(dialog).to_be_visible()
    page.fill("#key-input", service.admin_key)
    page.press("#key-input", "Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#kb option").first).to_be_attached()
    assert page.evaluate("document.cookie") == ""
    assert service.admin_key not in page.url


def test_a_key_that_may_only_read_is_offered_no_way_to_change_anything(
    open_page: Open, kb: KnowledgeBase, tmp_path: Path
) -> None:
    kb.add("员工手册.md", LEAVE)
    reader = kb.api.post("/keys", json={"name": "reader", "role": "reader"}).raise_for_status().json()["key"]
    page = open_page(key=reader)
    expect(page.locator("#kb")).to_have_value(kb.name)
    expect(page.locator("#kb option[value='']")).to_have_count(0)
    expect(page.locator("#welcome h1")).to_be_visible()
    expect(page.get_by_text("drop files and folders")).to_be_hidden()
    page.click("#show-documents")
    expect(page.locator("#document-list .name")).to_have_text("员工手册.md")
    expect(page.get_by_role("button", name=re.compile("Add documents|Delete"))).to_have_count(0)

    (tmp_path / "a.txt").write_text("A single file.", encoding="utf-8")
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "a.txt")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    expect(page.locator("#drop")).to_be_hidden()
    ask(page)
    expect(page.locator(".answer .text").last).to_contain_text("十五天")
    assert kb.documents() == ["员工手册.md"]


def test_an_admin_key_after_a_reader_key_brings_the_buttons_back(
    open_page: Open, service: Service, kb: KnowledgeBase
) -> None:
    reader = kb.api.post("/keys", json={"name": "reader", "role": "reader"}).raise_for_status().json()["key"]
    page = open_page(key=reader)
    expect(page.locator("#kb")).to_have_value(kb.name)
    expect(page.locator("#welcome-upload")).to_be_hidden()
    page.click("#show-key")
    page.fill("#key-input", service.admin_key)
    page.press("#key-input", "Enter")
    expect(page.locator("#welcome-upload")).to_be_visible()


def test_an_answer_can_be_stopped(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)  # the network is so slow that nothing arrives

    page.route("**/ask", hold)
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    expect(page.locator("#send")).to_be_hidden()
    page.click("#stop")
    expect(page.locator(".answer .below")).to_have_text("Stopped.")
    expect(page.locator("#send")).to_be_visible()
    page.unroute("**/ask", hold)
    ask(page)
    expect(page.locator(".answer .text").last).to_contain_text("十五天")
    assert len(held) == 1


def test_what_the_service_warns_of_stands_below_the_answer(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    warning = "temperature and top_p are both set: change one and leave the other."

    def warn(route: Route) -> None:  # the service under test has no model that could be warned about
        answered = route.fetch().text()
        assert '"warnings":[]' in answered
        route.fulfill(
            body=answered.replace('"warnings":[]', f'"warnings":["{warning}"]'),
            content_type="text/event-stream",
        )

    page.route("**/ask", warn)
    ask(page)
    expect(page.locator(".answer .warning")).to_have_text(f"Settings of the model: {warning}")


def test_a_service_that_is_away_is_told_in_words(open_page: Open) -> None:
    page = open_page()
    page.context.set_offline(True)
    ask(page)
    expect(page.locator(".answer .error")).to_contain_text("The service does not answer")
    upload(page, "a.md", LEAVE)
    expect(page.locator("#uploads .error")).to_contain_text("The service does not answer")


def test_a_conversation_is_still_there_after_a_reload_until_a_new_one_is_begun(
    open_page: Open, kb: KnowledgeBase
) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    ask(page)
    page.reload()
    expect(page.locator(".question")).to_have_text(re.compile(re.escape(QUESTION)))
    expect(page.locator(".answer .mark").first).to_be_visible()
    page.click("#new-chat")
    expect(page.locator("#welcome")).to_be_visible()
    page.reload()
    expect(page.locator("#welcome")).to_be_visible()


def test_a_document_is_deleted_only_after_confirmation(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    page.click("#show-documents")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete 员工手册.md").click()
    expect(page.locator("#document-list li")).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete 员工手册.md").click()
    expect(page.locator("#document-note")).to_have_text("No documents yet.", timeout=INGEST_TIMEOUT_MS)
    assert kb.documents() == []


def test_the_original_can_be_downloaded(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("制度/员工手册.md", LEAVE)
    page = open_page()
    page.click("#show-documents")
    page.get_by_role("button", name="Open 制度/员工手册.md").click()
    expect(page.locator("#passage-text")).to_contain_text("本手册适用于全体员工")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "员工手册.md"
    assert download.value.path().read_text(encoding="utf-8") == LEAVE


def test_more_of_a_long_document_can_be_read_around_a_passage(open_page: Open, kb: KnowledgeBase) -> None:
    lines = [f"Line {number} of the book 😀" for number in range(160)]
    kb.add("book.txt", "\n".join(lines))
    document = kb.api.get(f"/kbs/{kb.name}/documents").json()["items"][0]["id"]
    text = kb.api.get(f"/kbs/{kb.name}/documents/{document}/text").json()["text"]
    start = text.index("Line 80")
    page = open_page()
    page.goto(f"{page.url}&document={document}&start={start}&end={start + len(lines[80])}")
    expect(page.locator("#passage-text mark")).to_have_text(lines[80])
    expect(page.locator("#passage-text mark")).to_be_in_viewport()
    for side in ("Earlier text", "Later text"):
        button = page.get_by_role("button", name=side)
        while button.count():
            shown = page.locator("#passage-text > span").count()
            button.click()
            expect(page.locator("#passage-text > span")).not_to_have_count(shown)
    assert page.locator("#passage-text").text_content() == text


LONG_QUOTE = "The whole of this sentence is quoted, and it goes on and on. " * 60


def open_long_passage(page: Page, kb: KnowledgeBase) -> None:
    """A passage whose quote is longer than the panel, far down in its text."""
    kb.add("book.txt", "Before it. " * 100 + "\n\n" + LONG_QUOTE + "\n\n" + "After it. " * 100)
    document = kb.api.get(f"/kbs/{kb.name}/documents").json()["items"][0]["id"]
    text = kb.api.get(f"/kbs/{kb.name}/documents/{document}/text").json()["text"]
    start = text.index(LONG_QUOTE.strip())
    for _ in range(4):  # more than fits the window
        ask(page, "What is quoted?")
    page.evaluate(
        "address => { history.pushState(null, '', address); dispatchEvent(new PopStateEvent('popstate')); }",
        f"/?kb={kb.name}&document={document}&start={start}&end={start + len(LONG_QUOTE.strip())}",
    )
    expect(page.locator("#passage-text mark")).to_have_text(LONG_QUOTE.strip())


@pytest.mark.parametrize("width", [1280, 360])
def test_a_quote_longer_than_the_panel_begins_under_its_header_and_the_page_stays(
    open_page: Open, kb: KnowledgeBase, width: int
) -> None:
    page = open_page(width=width)
    open_long_passage(page, kb)
    below_header = page.evaluate(
        """document.querySelector("#passage-text mark").getBoundingClientRect().top
          - document.querySelector("#passage header").getBoundingClientRect().bottom"""
    )
    assert 0 <= below_header <= 40
    assert page.evaluate("document.scrollingElement.scrollTop") == 0
    assert page.evaluate("document.scrollingElement.scrollHeight - innerHeight") <= 0


def test_documents_and_new_uploads_are_in_view_after_a_passage_was_read(
    open_page: Open, kb: KnowledgeBase
) -> None:
    page = open_page()
    earlier = [{"name": f"{n}.exe", "mimeType": "text/plain", "buffer": b"MZ"} for n in range(20)]
    page.set_input_files("#files", earlier)
    expect(page.locator("#uploads .failed")).to_have_count(20)
    open_long_passage(page, kb)
    assert page.locator("#panel").evaluate("e => e.scrollTop") > 200
    page.get_by_role("button", name="Documents").click()
    expect(page.locator("#upload")).to_be_in_viewport(ratio=1)
    page.locator("#panel").evaluate("e => e.scrollTo(0, e.scrollHeight)")
    upload(page, "refused.exe", "MZ")
    row = page.locator("#uploads li", has_text="refused.exe")
    expect(row).to_have_class("failed")
    expect(row).to_be_in_viewport(ratio=1)


def test_a_link_to_a_document_that_is_gone_says_so(open_page: Open) -> None:
    page = open_page()
    page.goto(f"{page.url}&document=0123456789abcdef0123456789abcdef&start=0&end=5")
    expect(page.locator("#passage-note .error")).not_to_be_empty()


def test_the_page_works_by_keyboard_alone(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    page.locator("#question").focus()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Shift+Enter")
    assert page.locator("#question").input_value() == QUESTION + "\n"
    page.keyboard.press("Enter")
    expect(page.locator(".answer .mark").first).to_be_visible()
    expect(page.locator("#question")).to_be_focused()
    page.locator(".answer .mark").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#passage-text mark")).to_have_text(QUOTE)
    expect(page.locator("#passage-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator("#question")).to_be_focused()


def test_every_control_has_a_name_for_screen_readers(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("员工手册.md", LEAVE)
    page = open_page()
    ask(page)
    page.click("#show-documents")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, select, textarea, input, progress, a[href]")]
          .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize(("locale", "send", "other"), [("zh-CN", "提问", "Ask"), ("de-DE", "Ask", "提问")])
def test_the_page_speaks_the_language_of_the_browser_and_can_be_switched(
    open_page: Open, locale: str, send: str, other: str
) -> None:
    page = open_page(locale=locale)
    ask(page)
    expect(page.locator("#send")).to_have_text(send)
    page.click("#language")
    expect(page.locator("#send")).to_have_text(other)
    page.reload()
    expect(page.locator("#send")).to_have_text(other)
    assert page.locator("html").get_attribute("lang") == ("en" if other == "Ask" else "zh-CN")


def test_a_phone_shows_everything_without_scrolling_sideways(open_page: Open, kb: KnowledgeBase) -> None:
    kb.add("a-very-long-file-name-without-any-space-" * 3 + ".md", LEAVE)
    page = open_page(width=360)
    ask(page)

    def sideways() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    assert sideways() <= 0
    page.locator(".answer .mark").first.click()
    expect(page.locator("#passage-text mark")).to_be_in_viewport()
    assert sideways() <= 0
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#question")).to_be_in_viewport()


def test_a_knowledge_base_can_be_created_and_chosen(open_page: Open, kb: KnowledgeBase) -> None:
    fresh = f"新-{uuid.uuid4().hex[:8]}"
    page = open_page()
    page.select_option("#kb", label="New knowledge base…")
    page.fill("#kb-name", kb.name)
    page.press("#kb-name", "Enter")
    expect(page.locator("#kb-error .error")).to_contain_text(kb.name)
    page.fill("#kb-name", fresh)
    page.press("#kb-name", "Enter")
    expect(page.locator("#kb")).to_have_value(fresh)
    page.select_option("#kb", kb.name)
    expect(page.locator("#kb")).to_have_value(kb.name)
