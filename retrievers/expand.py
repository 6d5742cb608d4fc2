"""How do small chunks become passages that can be read? Parents, whole sections, and neighbours made one.

What is found exactly (a sentence, a small chunk) is often too little to answer from. Every passage stays one
stretch of one document, character for character, so citations stay exact; no text appears twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from core.types import ParsedDocument, Passage, Section, Span
from retrievers.documents import Documents, Place
from retrievers.structure import Structure

Key = TypeVar("Key", bound=Hashable)

WIDEN = 3  # so many times `top_k` chunks are looked at where several may share a parent
TOUCHING = 4  # characters (line breaks, a blank) between chunks that are neighbours
SECTION_SHARE = 0.5  # of a section's characters that must be found before it comes whole: it at most doubles


@dataclass(slots=True)
class _Group:
    """Chunks that become one passage: `span` of one revision of a document."""

    span: Span
    members: list[Passage]  # best first
    rank: int  # of the best of them

    @property
    def key(self) -> tuple[str, str]:
        return self.members[0].record.document_id, self.members[0].record.revision

    def join(self, other: _Group) -> _Group:
        first, second = sorted((self, other), key=lambda group: group.rank)
        span = Span(min(self.span.start, other.span.start), max(self.span.end, other.span.end))
        return _Group(span, [*first.members, *second.members], first.rank)


@dataclass(frozen=True, slots=True)
class Expanded:
    """At most `top_k` passages, best first, and what the trace should tell."""

    passages: tuple[Passage, ...]
    notes: dict[str, int] = field(default_factory=dict)


class Expander:
    """Makes the passages of a prompt from ranked chunks."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def wanted(self, passages: Sequence[Passage], top_k: int, how: Structure) -> int:
        """How many of the candidates to rank, so that `top_k` passages come of them."""
        several = how.parents and any(passage.record.parent for passage in passages)
        return WIDEN * top_k if several else top_k

    async def expand(self, ranked: Sequence[Passage], *, top_k: int, how: Structure) -> Expanded:
        """The passages that the best chunks (best first) make."""
        groups = list(_grouped(ranked, parents=how.parents))[:top_k]
        parents = sum(group.span != _own(group.members[0]) for group in groups)
        sections = 0
        if how.sections:
            groups, sections = await self._whole_sections(groups)
        before = len(groups)
        if how.neighbours:
            groups = _neighbours_joined(groups)
        groups.sort(key=lambda group: group.rank)
        passages = await self._passages(groups)
        notes = {"parents": parents, "sections": sections, "joined": before - len(groups)}
        return Expanded(tuple(passages), notes)

    async def _whole_sections(self, groups: Sequence[_Group]) -> tuple[list[_Group], int]:
        """Groups that make up half of their section, joined to all of it; and the number of such sections."""
        result: list[_Group] = []
        whole = 0
        for key, members in _by(groups, lambda group: group.key):
            layout = await self._documents.layout(*key) if len(members) > 1 else None
            for section, inside in _by(members, partial(_section_of, layout)):
                found = sum(len(group.span) for group in inside)
                if section is None or len(inside) < 2 or found < SECTION_SHARE * len(section.span):
                    result += inside
                    continue
                joined = inside[0]
                for group in inside[1:]:
                    joined = joined.join(group)
                result.append(replace(joined, span=section.span))
                whole += 1
        return result, whole

    async def _passages(self, groups: Sequence[_Group]) -> list[Passage]:
        """Each group as a passage; one whose document is gone meanwhile stays the chunk it was."""
        changed = [group for group in groups if group.span != _own(group.members[0])]
        texts = await self._documents.texts([Place(*group.key, group.span) for group in changed])
        layouts = {key: await self._documents.layout(*key) for key in {group.key for group in changed}}
        made = {
            id(group): _passage(group, text, layouts[group.key])
            for group, text in zip(changed, texts, strict=True)
        }
        return [made.get(id(group), group.members[0]) for group in groups]


def _grouped(ranked: Iterable[Passage], *, parents: bool) -> Iterable[_Group]:
    """Chunks with the same parent together, in the order of the best of each."""
    groups: dict[tuple[str, str, Span], _Group] = {}
    for rank, passage in enumerate(ranked):
        record = passage.record
        span = (record.parent if parents else None) or _own(passage)
        group = groups.setdefault((record.document_id, record.revision, span), _Group(span, [], rank))
        group.members.append(passage)
    return groups.values()


def _neighbours_joined(groups: Sequence[_Group]) -> list[_Group]:
    result: list[_Group] = []
    for group in sorted(groups, key=lambda group: (group.key, group.span.start)):
        last = result[-1] if result else None
        if last and last.key == group.key and group.span.start - last.span.end <= TOUCHING:
            result[-1] = last.join(group)
        else:
            result.append(group)
    return result


def _passage(group: _Group, text: str | None, layout: ParsedDocument | None) -> Passage:
    best = group.members[0]
    if text is None or layout is None:
        return best
    trimmed = text.strip()
    start = group.span.start + text.index(trimmed)
    end = start + len(trimmed)
    section = layout.section_at(start)
    first = next((p.record for p in group.members if p.record.start == start), None)
    record = replace(
        best.record,
        text=trimmed,
        start=start,
        end=end,
        section=section.label if section else "",
        header=first.header if first else best.record.header.partition("\n")[0],
        page_start=layout.page_at(start),
        page_end=layout.page_at(max(start, end - 1)),
        metadata={},
    )
    return replace(
        best,
        record=record,
        dense=max(p.dense for p in group.members),
        coverage=max(p.coverage for p in group.members),
        summary=max(p.summary for p in group.members),
        near=tuple(near for p in sorted(group.members, key=lambda p: p.record.start) for near in p.near),
    )


def _own(passage: Passage) -> Span:
    return Span(passage.record.start, passage.record.end)


def _section_of(layout: ParsedDocument | None, group: _Group) -> Section | None:
    """The section that holds all of the group."""
    section = layout.section_at(group.span.start) if layout else None
    return section if section and section.span.end >= group.span.end else None


def _by(groups: Iterable[_Group], key: Callable[[_Group], Key]) -> list[tuple[Key, list[_Group]]]:
    result: dict[Key, list[_Group]] = {}
    for group in groups:
        result.setdefault(key(group), []).append(group)
    return list(result.items())
