"""In which order the model reads the passages.

Models use what stands at the beginning and the end of their context and overlook the middle (Liu et al. 2023,
"Lost in the Middle: How Language Models Use Long Contexts"), so the best passages go to both ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.types import Passage


class BestFirst:
    """Leaves the passages as the reranker ranked them."""

    def order(self, passages: Sequence[Passage]) -> list[Passage]:
        return list(passages)


class BestAtBothEnds:
    """Ranks 1, 3, 5 … from the beginning, 2, 4, 6 … from the end: 1 3 5 4 2."""

    def order(self, passages: Sequence[Passage]) -> list[Passage]:
        return [*passages[0::2], *reversed(passages[1::2])]
