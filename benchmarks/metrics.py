"""How good is one ranking of passages? Ranks of the gold documents, and whether the evidence is in it.

A document's rank is the rank of its first passage. All values are shares in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.dataset import Question
from core.text import squeezed

# What a prompt of a small model has room for, in the embedder's tokens.
PROMPT_TOKENS = 1200


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a recipe found."""

    document_id: str
    text: str


def gold_ranks(ranking: Sequence[str], gold: Collection[str]) -> list[int]:
    """The ranks (from 1) at which gold documents appear for the first time, ascending."""
    first = {document_id: rank for rank, document_id in reversed(list(enumerate(ranking, start=1)))}
    return sorted(first[document_id] for document_id in gold if document_id in first)


def recall(ranks: Sequence[int], gold: int, k: int) -> float:
    """The share of the `gold` documents that are found up to rank `k`."""
    return sum(rank <= k for rank in ranks) / gold


def reciprocal_rank(ranks: Sequence[int], k: int) -> float:
    """One over the rank of the first gold document, 0 if that is beyond `k`."""
    return 1 / ranks[0] if ranks and ranks[0] <= k else 0.0


def ndcg(ranks: Sequence[int], gold: int, k: int) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), every gold document worth the same."""
    gain = sum(1 / math.log2(1 + rank) for rank in ranks if rank <= k)
    return gain / sum(1 / math.log2(1 + rank) for rank in range(1, min(gold, k) + 1))


def supported(texts: Sequence[str], question: Question) -> bool | None:
    """Whether the passages hold all the evidence or, where there is none, one of the answers.

    Each piece must lie in one passage. None: the question has neither.
    """
    passages = [squeezed(text) for text in texts]

    def held(piece: str) -> bool:
        return any(piece in passage for passage in passages)

    evidence = [piece for text in question.evidence if (piece := squeezed(text))]
    if evidence:
        return all(map(held, evidence))
    answers = [piece for text in question.answers if (piece := squeezed(text))]
    return any(map(held, answers)) if answers else None


def first_tokens(texts: Sequence[str], limit: int, count_tokens: Callable[[str], int]) -> Iterator[str]:
    """The passages up to `limit` tokens together; the one that crosses the line is cut in proportion."""
    for text in texts:
        tokens = count_tokens(text)
        if tokens >= limit:
            yield text[: len(text) * limit // tokens]
            return
        yield text
        limit -= tokens


def at_an_end(texts: Sequence[str], question: Question) -> bool | None:
    """Whether the first or the last passage holds evidence or an answer; None if none of them does."""
    pieces = [squeezed(text) for text in question.evidence or question.answers]
    holds = [any(piece and piece in squeezed(text) for piece in pieces) for text in texts]
    return (holds[0] or holds[-1]) if any(holds) else None


def measure(
    questions: Sequence[Question], rankings: Sequence[Sequence[Found]], count_tokens: Callable[[str], int]
) -> dict[str, float]:
    """The means over all questions, in percent; support only over those with evidence or answers."""
    values: dict[str, list[float]] = {
        name: [] for name in ("recall@5", "recall@10", "mrr@10", "ndcg@10", "support@1200")
    }
    for question, ranking in zip(questions, rankings, strict=True):
        ranks = gold_ranks([found.document_id for found in ranking], question.gold)
        gold = len(question.gold)
        values["recall@5"].append(recall(ranks, gold, 5))
        values["recall@10"].append(recall(ranks, gold, 10))
        values["mrr@10"].append(reciprocal_rank(ranks, 10))
        values["ndcg@10"].append(ndcg(ranks, gold, 10))
        texts = [found.text for found in ranking]
        seen = list(first_tokens(texts, PROMPT_TOKENS, count_tokens))
        if (support := supported(seen, question)) is not None:
            values["support@1200"].append(support)
    return {name: round(100 * fmean(each), 1) for name, each in values.items() if each}


def measure_prompts(
    questions: Sequence[Question], prompts: Sequence[Sequence[Found]], count_tokens: Callable[[str], int]
) -> tuple[float | None, float]:
    """Of what goes into the prompt: support in percent (None without evidence and answers), and mean tokens."""
    texts = [[found.text for found in prompt] for prompt in prompts]
    supports = [s for t, q in zip(texts, questions, strict=True) if (s := supported(t, q)) is not None]
    tokens = fmean(sum(map(count_tokens, each)) for each in texts)
    return round(100 * fmean(supports), 1) if supports else None, round(tokens)
