"""How do scores compare between passages in the question's script and in the other (Chinese, or alphabetic)?

Embedders place texts of one language nearer to each other, whatever they say: under the bundled one a Chinese question
is nearer to any Chinese text (0.86) than to the English one that answers it (0.79). So before passages in both are
ranked together, those in the other script are moved up by what the nearest of them are lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from statistics import median

from core.text import is_cjk
from core.types import Passage

NEAREST = 16  # passages in each script that are compared
# Of dense scores, which are half of cosines: what texts in another script are less near under the bundled embedder.
# Where the few that there are have nothing to do with the question, the difference is larger: they are to stay behind.
MOST_SHIFT = 0.045


def other_script(text: str, *, cjk: bool) -> bool:
    """Whether the text is in the other script than a question that is Chinese (`cjk`) or not. Numbers are in none."""
    return is_cjk(text) != cjk and any(map(str.isalpha, text))


def foreign(passages: Sequence[Passage]) -> list[Passage]:
    """Those that are in the other script than the question."""
    return [passage for passage in passages if passage.foreign]


def shift(passages: Sequence[Passage]) -> float:
    """What to add to the dense score of passages in the other script: the difference of the medians of the `NEAREST` in
    each, at least 0 and at most `MOST_SHIFT`; 0 if all passages are in one script.
    """
    own = [passage.dense for passage in passages if not passage.foreign]
    other = [passage.dense for passage in passages if passage.foreign]
    if not own or not other:
        return 0.0
    lead = median(nlargest(NEAREST, own)) - median(nlargest(NEAREST, other))
    return min(max(lead, 0.0), MOST_SHIFT)
