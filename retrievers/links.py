"""Which documents do the best passages name? Those may hold what the question asks, without a word of it.

"Who directed the film that was shot in Leland?": one document says which film was shot there, and only the document of
that title who directed it. Such a document is put right behind the passage that names it. Links between texts let one
search find what else takes several (Gutiérrez et al. 2024, "HippoRAG"); here names are titles and file names, so that
reading documents takes no model and no longer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.db.documents import Named
from core.types import Passage, Query
from retrievers.base import Mode, Retriever, Scope
from retrievers.documents import Names
from retrievers.names import Naming, folded, heads, stands_in

NAMING = 3  # passages, the best ones, that are read for names
FOLLOWED = 2  # documents that one passage brings
SHARE, MOST = 3, 3  # that all of them bring: one for every three passages that are asked for, three at most
FETCHED = 4  # chunks of a document that no candidate is from, of which the best one is taken
SAME_NAME = 2  # documents: what more are called names none of them
# A name that a larger share of the candidates (and more than a few) hold is a word of the subject, such as "report".
COMMON, FEW = 0.25, 3


@dataclass(frozen=True, slots=True)
class Followed:
    """A ranking with the passages of named documents in their places, and the file names of those documents."""

    passages: list[Passage]
    names: list[str]


class LinkFollower:
    """Brings documents that the best passages name into a ranking."""

    def __init__(self, *, names: Names, retriever: Retriever) -> None:
        self._names = names
        self._retriever = retriever

    async def followed(
        self,
        query: Query,
        ranked: Sequence[Passage],
        candidates: Sequence[Passage],
        scopes: Sequence[Scope],
        *,
        top_k: int,
    ) -> Followed:
        """`ranked` (best first), behind each of the best passages the best ones of documents that it names; as many as
        suit the `top_k` passages that go on.

        A document that ranks higher stays there. What moves up gets the score of the passage that names it. Raises what
        the retriever does.
        """
        if top_k < SHARE:
            return Followed(list(ranked), [])
        ids = {passage.record.id for passage in ranked}
        known = [*ranked, *(passage for passage in candidates if passage.record.id not in ids)]
        best: dict[str, Passage] = {}  # of each document
        for passage in known:
            best.setdefault(passage.record.document_id, passage)
        named: dict[str, list[str]] = {}  # documents by the id of the passage that names them
        where: dict[str, Scope] = {}
        for scope in scopes:
            naming = [Naming.of(passage) for passage in ranked[:NAMING] if passage.kb == scope.kb_name]
            found = await self._named(naming, known, scope)
            named |= found
            where |= {document_id: scope for ids_of_one in found.values() for document_id in ids_of_one}
        brought = _brought(ranked, named, list(best), most=min(top_k // SHARE, MOST))
        missing = [i for ids_of_one in brought.values() for i in ids_of_one if i not in best]
        for passages in await asyncio.gather(*(self._fetched(query, i, where[i]) for i in missing)):
            best |= {passage.record.document_id: passage for passage in passages[:1]}
        return _in_their_places(
            ranked, {r: [best[i] for i in of_one if i in best] for r, of_one in brought.items()}
        )

    async def _named(
        self, naming: Sequence[Naming], known: Sequence[Passage], scope: Scope
    ) -> dict[str, list[str]]:
        """The documents that each of the `naming` passages names, by its record id."""
        if not naming:
            return {}
        text = "\n".join(each.folded for each in naming)
        begins = {head for each in naming for head in heads(each.folded)}
        files = sorted({file for each in naming for file in each.files})
        named = await self._names.named(scope, text, begins, files)
        if not any(each.named(named) for each in naming):
            return {}
        documents = _telling(named, known, frozenset(files))
        return {each.passage.record.id: each.named(documents) for each in naming}

    async def _fetched(self, query: Query, document_id: str, scope: Scope) -> tuple[Passage, ...]:
        """The best chunks of the document."""
        question = Query(query.text, (query.standalone,))
        inside = replace(scope, document_ids=(document_id,))
        return (await self._retriever.retrieve(question, inside, mode=Mode.FLAT, pool=FETCHED)).passages


def _telling(named: Sequence[Named], known: Sequence[Passage], files: frozenset[str]) -> list[Named]:
    """Those of the documents whose names tell them from others: those of the `files` do."""
    called = Counter(each.known_as for each in named)
    texts = [(passage.record.document_id, folded(passage.record.text)) for passage in known]
    most = max(FEW, COMMON * len(known))

    def tells(each: Named) -> bool:
        holding = (each.id != document_id and stands_in(each.known_as, text) for document_id, text in texts)
        return called[each.known_as] <= SAME_NAME and sum(holding) <= most

    return [each for each in named if each.name in files or tells(each)]


def _brought(
    ranked: Sequence[Passage], named: Mapping[str, Sequence[str]], known: Sequence[str], *, most: int
) -> dict[str, list[str]]:
    """The documents that each passage brings, by its record id: those it names and that do not rank higher, at most
    `FOLLOWED` each and `most` in all, those first whose own best passage is `known` to be better.
    """
    place = {document_id: number for number, document_id in enumerate(known)}
    above = set[str]()
    brought: dict[str, list[str]] = {}
    for passage in ranked[:NAMING]:
        above.add(passage.record.document_id)
        new = [i for i in named.get(passage.record.id, ()) if i not in above]
        chosen = sorted(new, key=lambda i: place.get(i, len(place)))[: min(FOLLOWED, most)]
        brought[passage.record.id] = chosen
        above.update(chosen)
        most -= len(chosen)
    return brought


def _in_their_places(ranked: Sequence[Passage], brought: Mapping[str, Sequence[Passage]]) -> Followed:
    result: dict[str, Passage] = {}
    for passage in ranked:
        result.setdefault(passage.record.id, passage)
        result |= {b.record.id: b.with_score(passage.score) for b in brought.get(passage.record.id, ())}
    return Followed(list(result.values()), [b.document_name for of_one in brought.values() for b in of_one])
