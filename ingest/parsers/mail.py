"""How is an e-mail (.eml) read? Who, to whom, when and about what, then its text; attachments by name only.

Of a message that holds its text twice, as plain text and as HTML, the plain text is read.
https://www.rfc-editor.org/rfc/rfc5322 and https://www.rfc-editor.org/rfc/rfc2046
"""

from __future__ import annotations

from email import policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from pathlib import Path

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers.base import LINE, PARAGRAPH, Format, Limits, TextBuilder, clean, one_line, read_bytes
from ingest.parsers.encoding import decode
from ingest.parsers.html import add_page, page_of
from ingest.parsers.sniff import is_text

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_MAX_PARTS = 1000
_MAX_NESTED = 20  # multiparts inside multiparts, and forwarded messages


def _read(path: Path, limits: Limits) -> ParsedDocument:
    message = BytesParser(policy=policy.default).parsebytes(read_bytes(path, limits))
    assert isinstance(message, EmailMessage)  # the policy makes them
    if not any(_header(message, name) for name in _SHOWN):
        raise UnreadableDocument("This is no e-mail: it has neither sender nor subject.")
    builder = TextBuilder(limits)
    attached = _Walk(builder).through(message)
    if attached:
        builder.add(f"Attachments: {', '.join(attached)}")
    return builder.build(_header(message, "Subject"))


def _header(message: MIMEPart, name: str) -> str:
    """A header without its encoding. Not by the policy: its grammar is strict, and slow on long lists of addresses."""
    raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
    value = str(raw).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        pieces = decode_header(value)
    except (HeaderParseError, ValueError):
        return one_line(value)
    return one_line("".join(_header_piece(*piece) for piece in pieces))


def _header_piece(piece: bytes | str, charset: str | None) -> str:
    if isinstance(piece, str):
        return piece
    try:
        return piece.decode(charset or "utf-8", "replace")
    except LookupError:  # a charset that nobody knows
        return piece.decode("utf-8", "replace")


class _Walk:
    """Goes through the parts of a message, appends their texts and remembers what is attached."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._attached: list[str] = []
        self._parts = 0

    def through(self, message: MIMEPart) -> list[str]:
        """The names of what is attached."""
        self._message(message, _MAX_NESTED)
        return self._attached

    def _message(self, message: MIMEPart, depth: int) -> None:
        gap = PARAGRAPH
        for name in _SHOWN:
            value = _header(message, name)
            if value:
                self._builder.add(f"{name}: {value}", gap=gap)
                gap = LINE
        self._part(message, depth)

    def _part(self, part: MIMEPart, depth: int) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS or depth < 0:
            raise UnreadableDocument(
                f"The e-mail has more than {_MAX_PARTS} parts, or parts nested more than {_MAX_NESTED} deep.",
                hint="Save what is attached as files.",
            )
        if part.get_content_type() == "message/rfc822":
            for forwarded in part.iter_parts():
                self._message(forwarded, depth - 1)
        elif part.get_content_type() == "multipart/alternative":
            best = part.get_body(("plain", "html"))
            if best is not None:
                self._part(best, depth - 1)
        elif part.is_multipart():
            for each in part.iter_parts():
                self._part(each, depth - 1)
        elif part.is_attachment() or part.get_content_maintype() != "text":
            self._attached.append(one_line(part.get_filename() or part.get_content_type()))
        elif part.get_content_subtype() == "html":
            add_page(self._builder, page_of(clean(_text(part))))
        else:
            self._builder.add(_text(part))


def _text(part: MIMEPart) -> str:
    payload = part.get_payload(decode=True)
    return decode(payload if isinstance(payload, bytes) else b"", declared=part.get_content_charset())


MAIL = Format(
    name="e-mail",
    label="an e-mail",
    extensions=(".eml",),
    mime_types=("message/rfc822",),
    recognises=is_text,
    read=_read,
)
