"""Do ruled tables of a PDF become rows, in their place, and does other text stay as it is?"""

from __future__ import annotations

from io import BytesIO

import pytest
import sample_files as made
from pdf_writer import placed, ruled
from pypdf import PdfReader, PdfWriter, Transformation
from sample_files import Read

LEFT, MIDDLE, RIGHT = 60, 200, 340  # where columns begin and end
TOP, BOTTOM = 600, 510
LINES = (600, 570, 540, 510)  # of three rows


def row(number: int, *cells: str) -> str:
    """The cells of a row, from 0, each in the column of its place."""
    return " ".join(
        placed(x + 4, LINES[number] - 20, cell) for x, cell in zip((LEFT, MIDDLE), cells, strict=False)
    )


ACROSS = [(LEFT, y, RIGHT, y) for y in LINES]
UPRIGHT = [(x, BOTTOM, x, TOP) for x in (LEFT, MIDDLE, RIGHT)]
CELLS = " ".join([row(0, "Part", "Price"), row(1, "Valve", "320"), row(2, "Pump", "12,800")])
ROWS = "| Part | Price |\n| Valve | 320 |\n| Pump | 12,800 |"


def text_of(read: Read, drawn: str) -> str:
    return read("a.pdf", made.pdf([[]], drawn=drawn)).text


def test_a_table_is_rows_between_the_text_around_it(read: Read) -> None:
    drawn = " ".join([placed(60, 700, "Before."), ruled(*ACROSS, *UPRIGHT), CELLS, placed(60, 400, "After.")])
    assert text_of(read, drawn) == f"Before.\n\n{ROWS}\n\nAfter."


def test_cells_may_be_drawn_as_rectangles(read: Read) -> None:
    cells = [f"{x} {y - 30} 140 30 re S" for y in LINES[:-1] for x in (LEFT, MIDDLE)]
    assert text_of(read, f"{' '.join(cells)} {CELLS}") == ROWS


def test_rules_may_be_thin_rectangles(read: Read) -> None:
    across = [f"{x0} {y} {x1 - x0} 0.5 re f" for x0, y, x1, _ in ACROSS]
    upright = [f"{x} {y0} 0.5 {y1 - y0} re f" for x, y0, _, y1 in UPRIGHT]
    assert text_of(read, f"{' '.join(across + upright)} {CELLS}") == ROWS


def test_the_sides_of_a_table_may_be_open(read: Read) -> None:
    assert text_of(read, f"{ruled(*ACROSS, (MIDDLE, BOTTOM, MIDDLE, TOP))} {CELLS}") == ROWS
    assert text_of(read, f"{ruled(*ACROSS[1:-1], *UPRIGHT)} {CELLS}") == ROWS


@pytest.mark.parametrize(
    ("wrapped", "joined"),
    [
        (("Cast iron, with", "a flange"), "Cast iron, with a flange"),
        (("额定流量每小时", "一百立方米"), "额定流量每小时一百立方米"),
    ],
    ids=["English", "Chinese, which has no blanks"],
)
def test_lines_of_a_cell_are_one_cell(read: Read, wrapped: tuple[str, str], joined: str) -> None:
    across = [ACROSS[0], *ACROSS[2:]]  # the first row is twice as high
    cells = f"{row(0, wrapped[0], '320')} {row(1, wrapped[1])} {row(2, 'Pump', '12,800')}"
    assert text_of(read, f"{ruled(*across, *UPRIGHT)} {cells}") == f"| {joined} | 320 |\n| Pump | 12,800 |"


def test_a_cell_of_two_columns_is_one(read: Read) -> None:
    parted = (MIDDLE, LINES[1], MIDDLE, BOTTOM)
    drawn = f"{ruled(*ACROSS, UPRIGHT[0], UPRIGHT[2], parted)} {placed(150, 580, 'Price of every part')}"
    cells = f"{row(1, 'Valve', '320')} {row(2, 'Pump', '12,800')}"
    assert text_of(read, f"{drawn} {cells}") == "| Price of every part |\n| Valve | 320 |\n| Pump | 12,800 |"


def test_a_cell_of_two_rows_stands_in_the_first(read: Read) -> None:
    across = [ACROSS[0], ACROSS[1], (MIDDLE, LINES[2], RIGHT, LINES[2]), ACROSS[3]]
    cells = " ".join(
        [row(0, "Part", "Price"), placed(64, 535, "Valve"), placed(204, 550, "320"), row(2, "", "340")]
    )
    assert (
        text_of(read, f"{ruled(*across, *UPRIGHT)} {cells}")
        == "| Part | Price |\n| Valve | 320 |\n|  | 340 |"
    )


@pytest.mark.parametrize(
    "frame",
    [
        ruled((50, 500, 350, 500), (50, 610, 350, 610), (50, 500, 50, 610), (350, 500, 350, 610)),
        ruled((50, 590, 350, 590)),
        ruled((50, 590, 350, 590), (60, 400, 60, 790)),
    ],
    ids=["a frame", "a rule", "two rules that cross"],
)
def test_other_rules_leave_the_text_as_it_is(read: Read, frame: str) -> None:
    paragraph = " ".join(placed(64, y, f"Line {y} of a paragraph.") for y in (590, 570, 550))
    assert text_of(read, f"{frame} {paragraph}") == text_of(read, paragraph)


def test_a_table_within_a_frame_is_rows(read: Read) -> None:
    frame = ruled((20, 20, 580, 20), (20, 780, 580, 780), (20, 20, 20, 780), (580, 20, 580, 780))
    drawn = f"{frame} {placed(60, 700, 'Before.')} {ruled(*ACROSS, *UPRIGHT)} {CELLS}"
    assert text_of(read, drawn) == f"Before.\n\n{ROWS}"


def test_two_tables_are_two(read: Read) -> None:
    lower = [(x0, y0 - 200, x1, y1 - 200) for x0, y0, x1, y1 in [*ACROSS, *UPRIGHT]]
    cells = " ".join(placed(x + 4, y - 220, f"{x} {y}") for y in LINES[:-1] for x in (LEFT, MIDDLE))
    text = text_of(read, f"{ruled(*ACROSS, *UPRIGHT, *lower)} {CELLS} {cells}")
    assert text == f"{ROWS}\n\n| 60 600 | 200 600 |\n| 60 570 | 200 570 |\n| 60 540 | 200 540 |"


def test_a_table_of_a_turned_page_is_read_as_it_is_shown(read: Read) -> None:
    writer = PdfWriter(
        clone_from=PdfReader(BytesIO(made.pdf([[]], drawn=f"{ruled(*ACROSS, *UPRIGHT)} {CELLS}")))
    )
    for page in writer.pages:  # a landscape page that is stored upright: turned left, and shown turned right
        page.add_transformation(Transformation().rotate(90).translate(800, 0))
        page.rotate(90)
    file = BytesIO()
    writer.write(file)
    assert read("a.pdf", file.getvalue()).text == ROWS


def test_a_drawing_of_thousands_of_lines_is_no_table(read: Read) -> None:
    hatched = ruled(
        *((60 + n, 20, 60 + n, 780) for n in range(0, 480, 4)), *((20, n, 580, n) for n in range(20, 780, 1))
    )
    words = " ".join(placed(64, 760 - 20 * n, f"word {n}") for n in range(30))
    assert text_of(read, f"{hatched} {words}") == text_of(read, words)
