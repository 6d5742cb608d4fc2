"""How is a stranger's file parsed so that it can harm nobody? In a child process that may be killed.

The child is a fresh `python -m ingest.sandbox`: it inherits no secrets in its environment, limits its own
memory and processor time before it looks at the file, and dies with its parent. Request and result are JSON
on its standard input and output, never pickle: a parser that was taken over cannot make the parent run
anything. It works from any thread with an event loop. A child costs 0.1 s, and up to 0.3 s more for the
library of the format, which only the child imports.
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import json
import logging
import math
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from core.errors import RagError, UnreadableDocument
from core.types import Page, ParsedDocument, Section, Span
from ingest.parsers import Limits, parse
from ingest.parsers.ocr import NeedsRecognition

_ROOT = Path(__file__).resolve().parents[1]  # from where `-m ingest.sandbox` finds this package
_MIB = 2**20
_STARTED = b"started\n"  # the child's first word: from here on, what goes wrong is the document's fault
_OUT_OF_MEMORY = "out of memory"
_NEEDS_OCR = "needs OCR"
_GIVES_UP = "the parser crashed on it"
_MAX_ANSWER_EXTRA = 64 * _MIB  # bytes, for pages and sections
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STATM_DATA = 5  # place of "data + stack" in /proc/self/statm, proc_pid_statm(5)
_CODE_AND_FILES = 768 * _MIB  # address space for libraries and mapped files, beside a parser's own memory

_log = logging.getLogger(__name__)


async def parse_in_child(
    path: Path, name: str, limits: Limits, *, timeout_s: float, memory_mb: int, ocr_timeout_s: float = 3600.0
) -> ParsedDocument:
    """`ingest.parsers.parse` in a child process that gets `timeout_s` seconds and `memory_mb` MiB.

    A document that holds pictures of text is read again by a child that may recognise them; it gets
    `ocr_timeout_s`.

    Raises `UnreadableDocument` if the document cannot be read, takes longer, needs more, or crashes the
    parser; `RagError` if the child cannot be started at all. The child is gone when this returns or raises,
    also when the task is cancelled.
    """
    try:
        return await _parse(path, name, limits, timeout_s, memory_mb)
    except NeedsRecognition:
        return await _parse(path, name, dataclasses.replace(limits, ocr=True), ocr_timeout_s, memory_mb)


async def _parse(path: Path, name: str, limits: Limits, timeout_s: float, memory_mb: int) -> ParsedDocument:
    request = {
        "path": str(path.absolute()),
        "name": name,
        "limits": dataclasses.asdict(limits),
        "cpu_s": math.ceil(timeout_s) + 1,
        "memory_mb": memory_mb,
        "parent": os.getpid(),
    }
    most = 6 * limits.max_characters + _MAX_ANSWER_EXTRA  # JSON writes a control character in 6 bytes
    try:
        async with asyncio.timeout(timeout_s), _child() as child:
            answer = await _ask(child, json.dumps(request).encode(), most)
            code = await child.wait()
    except TimeoutError:
        raise _too_slow(name, timeout_s, ocr=limits.ocr) from None
    if code == -signal.SIGXCPU:
        raise _too_slow(name, timeout_s, ocr=limits.ocr)
    return _understood(answer, code, name, memory_mb)


@asynccontextmanager
async def _child() -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that is dead and buried on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest.sandbox",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env=_environment(),
        start_new_session=True,  # Ctrl-C reaches the parent, which decides
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """Nothing of ours: settings hold passwords. One thread, because each reserves address space."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "TZ") if key in os.environ}
    return kept | {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


async def _ask(child: asyncio.subprocess.Process, request: bytes, most: int) -> bytearray:
    """Send the request and read the whole answer, `most` bytes at the longest."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(request)
        await child.stdin.drain()
        child.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it died before it could read; the exit code tells why
    answer = bytearray()
    while block := await child.stdout.read(_MIB):
        answer += block
        if len(answer) > most:
            child.kill()
            break
    return answer


def _understood(answer: bytearray, code: int, name: str, memory_mb: int) -> ParsedDocument:
    if not answer.startswith(_STARTED):
        raise RagError(
            f"The child process that parses documents did not start (exit code {code}).",
            hint="The log above says why; is the package installed completely?",
        )
    del answer[: len(_STARTED)]  # a large document's answer is not copied
    try:
        reply = json.loads(answer)
        problem = reply.get("problem")
        if problem is None:
            return _document(reply)
    except (ValueError, KeyError, TypeError, AttributeError):
        _log.warning("The parser of %s ended with code %s", name, code)
        raise UnreadableDocument(
            f"{name}: {_GIVES_UP}, or it needs more than {memory_mb} MiB to read.",
            hint="Save it again, or in another format.",
        ) from None
    if problem == _NEEDS_OCR:
        raise NeedsRecognition
    if problem == _OUT_OF_MEMORY:
        raise UnreadableDocument(
            f"{name} needs more than {memory_mb} MiB to read.",
            hint="Split it, or raise `ingest.parse_memory_mb`.",
        )
    raise UnreadableDocument(str(problem), hint=reply.get("hint"))


def _too_slow(name: str, timeout_s: float, *, ocr: bool) -> UnreadableDocument:
    setting = "ocr_timeout_s" if ocr else "parse_timeout_s"
    return UnreadableDocument(
        f"{name} took longer than {timeout_s:g} s to read.", hint=f"Split it, or raise `ingest.{setting}`."
    )


def _reply(document: ParsedDocument) -> dict[str, Any]:
    return {
        "text": document.text,
        "title": document.title,
        "pages": [(page.number, page.span.start, page.span.end) for page in document.pages],
        "sections": [(section.path, section.span.start, section.span.end) for section in document.sections],
    }


def _document(reply: dict[str, Any]) -> ParsedDocument:
    """The document in a reply. Raises ValueError, KeyError or TypeError if the reply is not one."""
    text, title = reply["text"], reply["title"]
    if not isinstance(text, str) or not isinstance(title, str | None):
        raise TypeError("text and title are strings")
    return ParsedDocument(
        text=text,
        title=title,
        pages=tuple(Page(int(number), _span(start, end, text)) for number, start, end in reply["pages"]),
        sections=tuple(
            Section(tuple(str(part) for part in path), _span(start, end, text))
            for path, start, end in reply["sections"]
        ),
    )


def _span(start: int, end: int, text: str) -> Span:
    if not 0 <= start <= end <= len(text):
        raise ValueError("a span lies outside the text")
    return Span(start, end)


def _main() -> NoReturn:
    """The child: one request from standard input, one reply to standard output."""
    request = json.loads(sys.stdin.buffer.read())
    _die_with(request["parent"])
    _limit(request["memory_mb"], request["cpu_s"])
    # A library that prints would spoil the reply.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    output.write(_STARTED)
    output.flush()
    # Not in ASCII, which is twice as long for Chinese. The words of a library's error may hold lone surrogates.
    output.write(json.dumps(_answer(request), ensure_ascii=False).encode(errors="backslashreplace"))
    output.flush()
    os._exit(0)  # nothing to tidy up, and large documents take their time to be freed


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        limits = Limits(**request["limits"])
        return _reply(parse(Path(request["path"]), request["name"], limits))
    except NeedsRecognition:
        return {"problem": _NEEDS_OCR}
    except UnreadableDocument as error:
        own_words = error.__cause__ is None or isinstance(error.__cause__, UnreadableDocument)
        if not own_words and _was_short_of_memory(request["memory_mb"]):
            return {"problem": _OUT_OF_MEMORY}
        return {"problem": error.message, "hint": error.hint}
    except MemoryError:
        return {"problem": _OUT_OF_MEMORY}
    except RecursionError:
        return {"problem": f"{request['name']} is nested too deeply to be read."}


def _was_short_of_memory(memory_mb: int) -> bool:
    """Whether less than half of the memory was left at the worst moment. Libraries of C report a failed
    allocation as whatever they were doing; buffers double, so the one that failed may have been large."""
    status = Path(
        "/proc/self/status"
    )  # getrusage(2) begins with the peak of the process that started this one
    if not status.exists():
        return False
    peak_kib = int(status.read_text().split("VmHWM:")[1].split()[0])
    return peak_kib * 1024 > memory_mb * _MIB // 2


def _die_with(parent: int) -> None:
    """Be killed when the thread that started this process ends, however it ends. Only Linux can do this."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _limit(memory_mb: int, cpu_s: int) -> None:
    """Limits of this process: memory above what it has now, processor time, no core file.

    RLIMIT_DATA counts private writable memory, not the code of libraries (text recognition maps 400 MiB of it).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    statm = Path("/proc/self/statm")
    if statm.exists():  # macOS has no such file, and does not enforce the limits
        pages = [int(number) * resource.getpagesize() for number in statm.read_text().split()]
        allowed = memory_mb * _MIB
        resource.setrlimit(resource.RLIMIT_DATA, (pages[_STATM_DATA] + allowed,) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (pages[0] + allowed + _CODE_AND_FILES,) * 2)


if __name__ == "__main__":
    _main()
