"""How do the tests get PDFs? A minimal writer: lines of text, pages, an outline, as ISO 32000-1 has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def write_pdf(
    path: Path,
    pages: Sequence[Sequence[str]],
    *,
    outline: Sequence[tuple[str, int]] = (),
    sizes: Mapping[str, float] = {},
    drawn: str = "",
    rotate: int = 0,
    title: str = "",
) -> Path:
    """Write pages of lines. `outline` holds (title, page from 0), all of one level; `sizes` points of lines;
    `drawn` is content (`ruled`, `placed`) of every page, below its lines."""
    first_page = 6
    first_item = first_page + 2 * len(pages)
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R{' /Outlines 4 0 R' if outline else ''} >>",
        2: f"<< /Type /Pages /Count {len(pages)} "
        f"/Kids [{' '.join(f'{first_page + 2 * n} 0 R' for n in range(len(pages)))}] >>",
        # Characters are UTF-16, which this predefined CMap maps to the glyphs of a font that is not embedded.
        3: "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UTF16-H "
        "/DescendantFonts [<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo "
        "<< /Registry (Adobe) /Ordering (GB1) /Supplement 4 >> /DW 1000 /W [1 [500] 2 95 500] "
        "/FontDescriptor << /Type /FontDescriptor /FontName /STSong-Light /Flags 4 /FontBBox [0 -200 1000 900] "
        "/ItalicAngle 0 /Ascent 800 /Descent -200 /StemV 80 /CapHeight 700 >> >>] >>",
        4: f"<< /Type /Outlines /First {first_item} 0 R /Last {first_item + len(outline) - 1} 0 R "
        f"/Count {len(outline)} >>"
        if outline
        else "null",
        5: f"<< /Title {_name(title)} >>",
    }
    for number, lines in enumerate(pages):
        content = " ".join(f"/F {sizes.get(line, 12)} Tf {_text(line)} Tj 0 -20 Td" for line in lines)
        stream = f"{drawn} BT 60 760 Td {content} ET" if lines else drawn
        objects[first_page + 2 * number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Rotate {rotate} "
            f"/Resources << /Font << /F 3 0 R >> >> /Contents {first_page + 2 * number + 1} 0 R >>"
        )
        objects[first_page + 2 * number + 1] = f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream"
    for number, (name, page) in enumerate(outline):
        following = f" /Next {first_item + number + 1} 0 R" if number + 1 < len(outline) else ""
        objects[first_item + number] = (
            f"<< /Title {_name(name)} /Parent 4 0 R /Dest [{first_page + 2 * page} 0 R /Fit]{following} >>"
        )
    path.write_bytes(_assemble(objects))
    return path


def ruled(*lines: tuple[float, float, float, float]) -> str:
    """Content that draws thin lines, each from (x, y) to (x, y), in points from the lower left corner."""
    return " ".join(f"{x0} {y0} m {x1} {y1} l S" for x0, y0, x1, y1 in lines)


def placed(x: float, y: float, text: str) -> str:
    """Content that sets `text` at (x, y)."""
    return f"BT /F 12 Tf {x} {y} Td {_text(text)} Tj ET"


def _text(text: str) -> str:
    return f"<{text.encode('utf-16-be').hex()}>"


def _name(text: str) -> str:
    """Outside content streams a byte-order mark says that a string is UTF-16."""
    return f"<feff{text.encode('utf-16-be').hex()}>"


def _assemble(objects: dict[int, str]) -> bytes:
    data = b"%PDF-1.7\n"
    offsets = []
    for number in sorted(objects):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{objects[number]}\nendobj\n".encode("ascii")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode("ascii")
