"""The shapes of requests and responses under `/api/v1`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest.chunkers.base import Chunking
from models.llm.sampling import SamplingParams
from rag_service.answering.task import AnswerMode
from rerankers.ranking import RankingChoice
from retrievers.fields import DeclaredField
from retrievers.refine import RefineChoice
from retrievers.structure import StructureChoice
from stores.checks import check_text

T = TypeVar("T")
Mode = Literal["union", "strict", "flat"]

NAME = r"^[\w][\w.\-]*$"
CONVERSATION = r"^[\w.\-]+$"
NOT_BLANK = r"\S"
# What is said instead of showing the pattern.
IN_WORDS = {
    NAME: "It may hold letters (of any script), digits, `_`, `-` and `.`, but no spaces or slashes, and begins with a "
    "letter, a digit or `_`",
    CONVERSATION: "It may hold letters (of any script), digits, `_`, `-` and `.`, but no spaces or slashes",
    NOT_BLANK: "It holds nothing but blanks",
}


def refuse_unstorable(value: object, owner: str) -> None:
    """Raise `InvalidValue` if a text anywhere inside a JSON value holds what no database keeps."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            check_text(item, owner)
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            todo += item


class Body(BaseModel):
    """Base of everything that clients send: NUL characters and lone surrogates are refused."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, values: object) -> object:
        refuse_unstorable(values, "The request")
        return values


class Request(Body):
    """Base of request bodies: an unknown field is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error (RFC 9457, `application/problem+json`). `code` is stable; `hint` says what to do."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no knowledge base named 'hr'."])
    code: str = Field(examples=["not-found"])
    hint: str | None = None
    retry_after_s: float | None = None
    errors: list[dict[str, Any]] | None = Field(None, description="For a malformed body: each wrong field.")


class Page(BaseModel, Generic[T]):
    """One page of a list. Pass `next_cursor` as `cursor` to get the next; null on the last page."""

    items: list[T]
    next_cursor: str | None = None


# --- knowledge bases ---------------------------------------------------------------------------------------

KbName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=NAME,
        description="Letters (of any script), digits, `_`, `-`, `.`; no spaces or slashes.",
        examples=["handbook"],
    ),
]


class KbOptions(Request):
    """How a knowledge base cuts and searches its documents; what is null stays as it is (at first: the defaults)."""

    chunking: Chunking | None = Field(
        None,
        description="How documents are cut that are read from now on: the whole object, not a part of it.",
    )
    structure: StructureChoice | None = Field(
        None,
        description="What the search does with the structure of documents, where a request does not say: the whole "
        "object, not a part of it.",
    )
    refine: RefineChoice | None = Field(
        None,
        description="What else is searched for than the question, where a request does not say: the whole object, not "
        "a part of it.",
    )
    ranking: RankingChoice | None = Field(
        None,
        description="What becomes of what was found, where a request does not say: the whole object, not a part of it.",
    )
    fields: list[DeclaredField] | None = Field(
        None,
        max_length=50,
        description="Attributes of documents that questions may name: what a question names becomes a filter.",
    )


class StageLlms(Request):
    """Language models by their names in the settings (`default`, or one of `llms`); null: the service's `stages`."""

    answer: str | None = Field(None, max_length=64, description="Writes answers.", examples=["default"])
    rewrite: str | None = Field(
        None,
        max_length=64,
        description="Makes follow-ups stand alone; refines questions.",
        examples=["small"],
    )
    judge: str | None = Field(
        None, max_length=64, description="Says whether passages are enough (`refine.rounds`)."
    )
    rerank: str | None = Field(
        None, max_length=64, description="Ranks what was found (`ranking.reranker`: `llm`)."
    )
    summarise: str | None = Field(
        None,
        max_length=64,
        description="Writes the summaries of documents that are read from now on (`…/reread` reads the others "
        "again), whatever `ingest.summarise` says.",
    )


class KbAnswering(Request):
    """How a knowledge base is answered from. What is null is as the service is set."""

    llms: StageLlms | None = None
    params: SamplingParams | None = Field(
        None, description="Sampling parameters; a request may name others. An engine without one refuses it."
    )
    answer_mode: AnswerMode | None = Field(None, description="How passages become an answer.")

    def wishes(self) -> dict[str, Any]:
        """The fields that were sent, as a knowledge base keeps them; None for those sent as null."""
        sent = self.model_dump(mode="json", include={"llms", "params", "answer_mode"}, exclude_unset=True)
        return {name: _without_nulls(value) for name, value in sent.items()}


def _without_nulls(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class KbCreate(KbOptions, KbAnswering):
    name: KbName
    description: str = Field("", max_length=2000, examples=["Everything new colleagues ask."])
    store: str | None = Field(
        None, max_length=32, description="Vector store; null: the service's setting.", examples=["pgvector"]
    )


class KbUpdate(KbOptions, KbAnswering):
    name: KbName | None = None
    description: str | None = Field(None, max_length=2000)


class KbRebuild(Request):
    chunking: Chunking | None = Field(None, description="How to cut documents; null: as they are cut now.")


class Generation(BaseModel):
    """A generation that readers do not see."""

    number: int = Field(examples=[2])
    embedder: str = Field(examples=["multilingual-e5-small-q4"])
    dimensions: int = Field(examples=[384])
    chunking: Chunking
    complete: bool = Field(
        description="It was seen before: `…/rollback` shows it again. Else it is being built."
    )


class KbMove(Request):
    store: str = Field(max_length=32, description="Where to.", examples=["redis"])


class Kb(BaseModel):
    id: str
    name: str
    description: str
    store: str = Field(examples=["pgvector"])
    paused: bool = Field(description="Uploads wait: no document is read.")
    copies: list[str] = Field(description="Stores that it moved away from and that still hold a copy.")
    embedder: str = Field(examples=["multilingual-e5-small-q4"])
    dimensions: int = Field(examples=[384])
    generation: int = Field(description="Which build of it readers see.")
    other_generation: Generation | None = Field(
        description="Another that is being built, or that was seen before."
    )
    chunking: Chunking
    structure: StructureChoice
    refine: RefineChoice
    ranking: RankingChoice
    fields: list[DeclaredField]
    llms: dict[str, str] = Field(description="Language models it chose, by stage.")
    params: SamplingParams
    answer_mode: AnswerMode | None
    documents: int = Field(description="Documents that can be searched.")
    created_at: datetime


class PreviewedChunk(BaseModel):
    """A chunk; `parent_start` and `parent_end`: the text that takes its place in the prompt, where that is another."""

    position: int
    text: str
    header: str = Field(description="Embedded and searched with the text, never quoted.")
    section: str
    start: int
    end: int
    page_start: int | None
    page_end: int | None
    tokens: int = Field(description="As the embedder counts them, header included.")
    parent_start: int | None
    parent_end: int | None


class ChunkPreview(BaseModel):
    chunking: Chunking
    name: str = Field(
        examples=["sentence-400-432"], description="Strategy and parameters, as chunk ids know them."
    )
    total: int
    cut_off: bool = Field(description="The document is longer than what was looked at.")
    tokens: int = Field(description="Of all chunks together: what embedding the document costs.")
    chunks: list[PreviewedChunk]


class TuneQuestion(Request):
    """A passage answers it if it holds `evidence`, or (without evidence) belongs to `document`."""

    question: str = Field(min_length=1, max_length=1000, pattern=NOT_BLANK)
    evidence: str = Field("", max_length=2000, description="Words of the document that answer it, verbatim.")
    document: str = Field("", max_length=500, description="Name of the document that answers it.")

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if not self.evidence.strip() and not self.document:
            raise ValueError("it has neither evidence nor document, so nothing can be measured with it")
        return self


class TuneRequest(Request):
    questions: list[TuneQuestion] | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Null: questions are made of sentences of the documents, by the language model if there is one "
        "that can be told to, else by leaving out their rarest word.",
    )
    candidates: list[Chunking] | None = Field(
        None, min_length=1, max_length=20, description="Null: seven that differ most."
    )
    sample_characters: int = Field(
        20_000, ge=1000, le=200_000, description="Text that is tried, in Chinese characters."
    )
    made_questions: int = Field(30, ge=5, le=200, description="Questions that are made where none are sent.")
    seconds: float = Field(300, ge=5, le=1800, description="Longest time for all of it.")


class TuneStart(BaseModel):
    """Data of a `start` event."""

    documents: int
    questions: int
    questions_by: Literal["you", "model", "cloze"]


class Tuned(BaseModel):
    """Data of a `measured` event, and the items of `done`: a candidate's shares in [0, 1]."""

    chunking: Chunking
    finished: bool = Field(description="False where the time ran out.")
    chunks: int
    recall_at_5: float = Field(description="Questions that one of the first five passages answers.")
    mrr: float = Field(description="Mean of one over the rank of the first passage that answers.")
    support: float = Field(description="Questions whose answer lies in the first 1,200 tokens of passages.")
    seconds: float


class TuneResult(BaseModel):
    """Data of the `done` event: all candidates, best first. To apply one, PATCH it as `chunking`, then `…/reread`."""

    candidates: list[Tuned]
    best: Chunking | None = Field(
        description="Null if none was finished, or none found what answers a question."
    )
    current: Chunking = Field(description="How documents are cut now; the best of those that are alike.")


class CalibrationQuestion(Request):
    question: str = Field(min_length=1, max_length=1000, pattern=NOT_BLANK)
    answerable: bool = Field(True, description="Whether the documents hold an answer.")


class CalibrateRequest(Request):
    questions: list[CalibrationQuestion] = Field(
        max_length=1000,
        description="At least 20 answerable ones, as readers ask them; others may be with them.",
    )
    lose: float = Field(5, ge=0, le=50, description="Percent of the answerable ones that may be refused.")
    save: bool = Field(
        False, description="Keep the threshold in the knowledge base, as `ranking.least_strength`."
    )


class Strength(BaseModel):
    question: str
    strength: float = Field(
        description="With the included embedder 0 is where the rule for all knowledge bases lies; -1: nothing found."
    )


class CalibrateResult(BaseModel):
    """Percents are of the questions that were sent, those that are repeated counted once. A question is refused if the
    rule for all knowledge bases refuses it, or its strength is below the threshold."""

    threshold: float = Field(
        description="Questions of less strength are refused; -1: none but those that the rule refuses.",
        examples=[0.031],
    )
    answerable: int
    unanswerable: int
    answerable_refused: float = Field(description="Percent; by rule and threshold together.", examples=[5])
    unanswerable_refused: float | None = Field(
        description="Percent; by rule and threshold together; null without such questions."
    )
    rule_answerable_refused: float = Field(
        description="Percent that the rule refuses without a threshold.", examples=[1]
    )
    rule_unanswerable_refused: float | None = Field(description="The same; null without such questions.")
    auc: float | None = Field(
        description="Percent of pairs in which the answerable question is the stronger one (50: the strengths are "
        "blind); null without unanswerable questions."
    )
    note: str | None = Field(description="What to beware of, in words.")
    weakest: list[Strength] = Field(description="Up to ten answerable questions, weakest first.")
    saved: bool


class Restore(BaseModel):
    """A backup that was taken. The knowledge base appears when the job is done."""

    name: str = Field(examples=["handbook"])
    documents: int
    job: Job


class Reread(BaseModel):
    documents: int = Field(description="Documents that are read again; their jobs tell the progress.")


# --- checks ------------------------------------------------------------------------------------------------


class CheckStart(Request):
    mend: bool = Field(
        False,
        description="Delete what nobody needs, and read documents again whose entries are not all there.",
    )
    foreign: bool = Field(
        False,
        description="With `mend`: also drop indexes of knowledge bases that this database does not know. They may be "
        "those of another service on the same server.",
    )


class Finding(BaseModel):
    trouble: Literal[
        "orphan-index",
        "foreign-index",
        "orphan-records",
        "stale-records",
        "missing-records",
        "surplus-records",
        "stale-text",
        "missing-text",
        "orphan-file",
        "missing-file",
        "stuck",
    ]
    what: str = Field(description="What is wrong, in words.")
    kb: str | None
    store: str | None
    document_id: str | None
    document: str | None
    mended: str | None = Field(description="What was done about it.")


class CheckReport(BaseModel):
    problems: int = Field(description="Found and not mended; `foreign-index` does not count.")
    checked: dict[str, int] = Field(
        description="How many knowledge bases, documents, records … were looked at."
    )
    found: dict[str, int] = Field(description="How many of each `trouble`.")
    mended: dict[str, int]
    busy: int = Field(description="What was being written, and was left alone.")
    unchecked: list[str] = Field(description="What could not be looked at, and why.")
    findings: list[Finding] = Field(description="The first 1000.")


class Check(BaseModel):
    """A comparison of rows, files and stores."""

    id: str
    mend: bool
    foreign: bool
    status: Literal["queued", "running", "done", "failed"]
    report: CheckReport | None = Field(description="When it is done.")
    error: JobError | None
    created_at: datetime
    finished_at: datetime | None


# --- documents and jobs ------------------------------------------------------------------------------------


class Document(BaseModel):
    id: str
    name: str = Field(examples=["policies/leave.docx"])
    status: Literal["queued", "processing", "ready"]
    title: str | None
    language: str | None = Field(description="`zh` or `en`.")
    size: int = Field(description="Bytes of the original file.")
    sha256: str
    pages: int | None = Field(description="Pages, slides or sheets; null for formats without.")
    characters: int | None
    chunks: int | None
    summary: str | None
    attributes: dict[str, Any]
    source: str | None = Field(
        description="What keeps it up to date; null for what was uploaded by hand.",
        examples=["folder:handbook"],
    )
    created_at: datetime
    updated_at: datetime


class DocumentText(BaseModel):
    """A stretch of a document's parsed text, with where its pages and sections lie (document offsets)."""

    document_id: str
    name: str
    start: int
    end: int
    characters: int = Field(description="Length of the whole text.")
    text: str
    page: int | None = Field(description="Page of the character at `start`.")
    section: str = Field(description="Heading path at `start`.")


class JobError(BaseModel):
    code: str
    message: str
    hint: str | None = None


FINAL = ("done", "failed", "cancelled", "dismissed")  # states of jobs that are over


class Job(BaseModel):
    id: str
    kb_id: str
    kind: Literal[
        "ingest",
        "delete-document",
        "delete-kb",
        "move-kb",
        "drop-copy",
        "restore-kb",
        "backup-kb",
        "export-kb",
        "sync-source",
        "rebuild-kb",
        "rollback-kb",
        "drop-generation",
    ]
    document_id: str | None
    document_name: str | None
    status: Literal["queued", "running", "done", "failed", "cancelled", "dismissed"] = Field(
        description="`dismissed`: it failed, and nobody will try it again."
    )
    cancelling: bool = Field(False, description="It was called off; a worker is about to end it.")
    stage: str = Field(
        examples=["embedding"],
        description="waiting, parsing, chunking, summarising, embedding, indexing, finished; of a move: copying, "
        "comparing; of a restoration: restoring; of a backup or export: documents, chunks, summaries, finishing; "
        "of a source: fetching; of a rebuild or rollback: building, switching",
    )
    done: int = Field(description="Units of the stage that are done (chunks while embedding).")
    total: int
    percent: int = Field(ge=0, le=100)
    error: JobError | None
    attempts: int
    created_at: datetime
    finished_at: datetime | None


class FailedJobs(Request):
    kb: str | None = Field(None, description="Only those of this knowledge base.")


class Retried(BaseModel):
    jobs: int = Field(description="Queued again.")
    refused: list[str] = Field(description="Why the others were not.")


class Dismissed(BaseModel):
    jobs: int


class UploadResult(BaseModel):
    """What became of one file of an upload.

    `queued`: `job` tells its progress. `unchanged`: the same bytes are already there, no work is done.
    `refused`: `error` says why, nothing is stored. `same_as`: the document with the same bytes that is there already
    under another name; `document_id` is its id, and no second one is made.
    """

    name: str
    outcome: Literal["queued", "unchanged", "refused"]
    document_id: str | None = None
    job: Job | None = None
    error: JobError | None = None
    same_as: str | None = Field(None, examples=["policies/leave.docx"])


class UploadResponse(BaseModel):
    files: list[UploadResult]


# --- sources -----------------------------------------------------------------------------------------------


Interval = Annotated[
    int | None,
    Field(
        ge=60,
        le=366 * 86400,
        description="Seconds from one synchronisation to the next; null: only when asked for.",
    ),
]


class SourceCreate(Request):
    kind: Literal["url", "sitemap"] = Field("url", description="One page, or all pages that a sitemap lists.")
    url: str = Field(max_length=2000, examples=["https://docs.example.com/sitemap.xml"])
    interval_s: Interval = None


class SourceUpdate(Request):
    interval_s: Interval


class SourceError(BaseModel):
    url: str
    code: str
    message: str


class SourceResult(BaseModel):
    """What the last synchronisation came to, in pages. `errors` describes the first of those that failed."""

    read: int = Field(description="New or changed; their jobs tell how far they are.")
    unchanged: int
    removed: int
    failed: int
    errors: list[SourceError]


class Source(BaseModel):
    id: str
    kind: Literal["url", "sitemap"]
    url: str
    interval_s: int | None
    next_at: datetime | None
    synced_at: datetime | None
    result: SourceResult | None
    created_at: datetime


# --- search and ask ----------------------------------------------------------------------------------------


FilterValues = dict[str, str | int | float | bool | list[str | int | float | bool]]
Filters = Annotated[
    FilterValues,
    Field(
        description="Attributes that documents must have, all of them; a list means any of its values. Types must "
        'match: 2026 does not find "2026".',
        examples=[{"department": ["hr", "finance"], "year": 2026}],
    ),
]


FilterTree = Annotated[
    dict[str, Any],
    Field(
        description="A filter over attributes: `{field, OPERATOR: value}` with eq, ne, in, lt, lte, gt, gte, contains "
        "or exists, joined by `{and: […]}`, `{or: […]}`, `{not: …}`. Where `filters` is sent, too, both hold.",
        examples=[{"and": [{"field": "year", "gte": 2024}, {"not": {"field": "draft", "eq": True}}]}],
    ),
]


TopK = Annotated[int, Field(strict=True, ge=1, le=50)]


class SearchRequest(Request):
    query: str = Field(
        min_length=1, max_length=4000, pattern=NOT_BLANK, examples=["How long is parental leave?"]
    )
    top_k: TopK | None = None
    mode: Mode | None = Field(
        None, description="How the summary index is used: see `retrieval.mode` in the settings."
    )
    filters: Filters | None = None
    filter: FilterTree | None = None
    structure: StructureChoice | None = Field(
        None,
        description="What the search does with the structure of documents; null: as the knowledge base says.",
    )
    refine: RefineChoice | None = Field(
        None, description="What else is searched for than the question; null: as the knowledge base says."
    )
    ranking: RankingChoice | None = Field(
        None, description="What becomes of what was found; null: as the knowledge base says."
    )
    trace: bool = False


Kbs = Annotated[
    Literal["auto"] | Annotated[list[str], Field(min_length=1, max_length=20)],
    Field(
        description="Names or ids of knowledge bases, or `auto`: the up to three that are nearest to the question by "
        "their descriptions and summaries."
    ),
]


class RoutedSearchRequest(SearchRequest):
    kbs: Kbs = "auto"


class Passage(BaseModel):
    kb: str = Field(description="Name of the knowledge base.")
    document_id: str
    document_name: str
    chunk_id: str
    text: str
    page: int | None
    section: str
    start: int
    end: int
    spans: list[tuple[int, int]] | None = Field(
        None, description="Of a whole document: the places of its key sentences, which `text` is made of."
    )
    score: float = Field(
        description="By which the reranker ordered it; comparable within one search. A passage of a document that a "
        "better one names has the score of that one."
    )
    url: str = Field(description="Page that opens the passage.")


class StageTrace(BaseModel):
    stage: str = Field(examples=["retrieve"])
    milliseconds: float
    inputs: int
    outputs: int
    notes: dict[str, Any] = {}


class SearchResponse(BaseModel):
    """`degraded` names stages that failed or were not there, and were left out."""

    passages: list[Passage]
    degraded: list[str]
    trace: list[StageTrace] | None = None


class AskRequest(Request):
    question: str = Field(
        min_length=1, max_length=4000, pattern=NOT_BLANK, examples=["How long is parental leave?"]
    )
    conversation_id: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        pattern=CONVERSATION,
        description="Continues this conversation, or starts it under this id. Without: no history.",
    )
    stream: bool = Field(
        False,
        description="Answer as server-sent events: `step` (of `refine.rounds`), `delta`, `citation`, `done`.",
    )
    top_k: TopK | None = None
    mode: Mode | None = None
    filters: Filters | None = None
    filter: FilterTree | None = None
    structure: StructureChoice | None = Field(
        None,
        description="What the search does with the structure of documents; null: as the knowledge base says.",
    )
    refine: RefineChoice | None = Field(
        None, description="What else is searched for than the question; null: as the knowledge base says."
    )
    ranking: RankingChoice | None = Field(
        None, description="What becomes of what was found; null: as the knowledge base says."
    )
    template: str | None = Field(
        None, max_length=64, description="Prompt template: `zh`, `en`, or one of yours."
    )
    params: SamplingParams | None = Field(
        None, description="Sampling parameters of this answer; those not set are the knowledge base's."
    )
    answer_mode: AnswerMode | None = Field(
        None, description="How passages become an answer; null: as the knowledge base is set."
    )
    trace: bool = False


class RoutedAskRequest(AskRequest):
    kbs: Kbs = "auto"
    conversation_id: None = Field(None, description="Conversations belong to one knowledge base: not here.")


class Citation(BaseModel):
    """A checked citation: `quote` is exactly the characters `start:end` of the document's text."""

    number: int = Field(description="The mark in the answer: 1 for `[1]`.")
    document_id: str
    document_name: str
    chunk_id: str
    page: int | None
    section: str
    start: int
    end: int
    quote: str
    kb: str = Field("", description="Name of the knowledge base.")
    url: str


class Delta(BaseModel):
    """Data of a `delta` event: the next piece of the answer, marks included."""

    text: str


class Step(BaseModel):
    """Data of a `step` event: one search of several is over."""

    round: int
    question: str = Field(description="What it searched for.")
    passages: int = Field(description="How many there are by now.")
    enough: bool | None = Field(description="What the judge says of them; null after the last round.")
    next_question: str = Field(description="What is searched for next; empty: nothing.")


class AskResponse(BaseModel):
    """`found` is false when the knowledge base holds no answer. `unsupported` lists answer sentences that
    no passage supports. `degraded` names stages that failed and were left out. `warnings` tells of parameters that
    work against each other."""

    answer: str
    found: bool
    unread: int = Field(
        0, description="Where nothing was found: documents that were uploaded and are not read yet."
    )
    citations: list[Citation]
    unsupported: list[str]
    model: str = Field(description="What wrote the answer.")
    conversation_id: str | None
    degraded: list[str]
    warnings: list[str] = []
    finish_reason: Literal["stop", "length"]
    usage: dict[str, int]
    trace: list[StageTrace] | None = None


# --- conversations, keys, health ---------------------------------------------------------------------------


class Turn(BaseModel):
    question: str
    answer: str
    citations: list[Citation]


class Conversation(BaseModel):
    id: str
    turns: list[Turn]
    created_at: datetime
    updated_at: datetime


class ConversationSummary(BaseModel):
    id: str
    questions: int
    first_question: str
    created_at: datetime
    updated_at: datetime


class KeyCreate(Request):
    name: str = Field(min_length=1, max_length=100, examples=["chat front-end"])
    role: Literal["admin", "reader"] = "reader"


class Key(BaseModel):
    id: str
    name: str
    role: Literal["admin", "reader"]
    created_at: datetime


class NewKey(Key):
    key: str = Field(description="Shown this once; only its hash is kept.")


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class Ready(BaseModel):
    status: Literal["ready", "not-ready"]
    checks: dict[str, str] = Field(description="`ok` or what is wrong, for database, store and worker.")
