"""How is source code read? As it is; each definition that starts at the margin begins a section by its name."""

from __future__ import annotations

import re
from pathlib import Path

from core.types import ParsedDocument
from ingest.parsers.base import Format, Limits, TextBuilder, read_bytes, tidy
from ingest.parsers.encoding import decode
from ingest.parsers.sniff import is_text

# A word that announces a name, at the margin, after any of the words that may stand before it. Languages whose
# functions have no such word (C, Java inside classes) get fewer sections.
_DEFINITION = re.compile(
    r"^(?:(?:export|default|public|private|protected|internal|static|abstract|final|sealed|open|data|async|pub"
    r"(?:\([a-z]+\))?|unsafe|extern|const|declare|partial|override|inline)\s+)*"
    r"(?:def|class|function\*?|func|fn|fun|interface|struct|enum|trait|impl|module|namespace|object|record|type|sub"
    r"|procedure|create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure))\s+"
    r"(?:\([^)\n]{0,80}\)\s*)?"  # the receiver of a Go method
    r"(?:if\s+not\s+exists\s+)?([A-Za-z_$][\w$.:]{0,100})",
    re.M | re.I,
)

_EXTENSIONS = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .vue .svelte .java .kt .kts .scala .groovy .go .rs .c .h .cc .cpp "
    ".cxx .hpp .cs .fs .swift .m .mm .php .rb .pl .pm .lua .r .jl .dart .ex .exs .erl .hs .clj .lisp .el .sql .sh "
    ".bash .zsh .fish .ps1 .bat .cmd .proto .graphql .tf .gradle .cmake .mk .vb .pas .asm .sol"
).split()


def _read(path: Path, limits: Limits) -> ParsedDocument:
    builder = TextBuilder(limits)
    text = tidy(decode(read_bytes(path, limits)))
    builder.add(text)
    for found in _DEFINITION.finditer(text):
        builder.section(1, found[1], found.start())
    return builder.build()


CODE = Format(
    name="source code",
    label="source code",
    extensions=tuple(_EXTENSIONS),
    mime_types=("text/x-python", "text/javascript", "text/x-java-source", "application/sql"),
    recognises=is_text,
    read=_read,
)
