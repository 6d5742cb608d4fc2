"""How do other libraries find it? Their default recipes with our embedder, for `benchmarks.retrieval --peers`.

They are installed apart from the service (`benchmarks/peers.sh`). Each gets the plain text of the documents and the
title where its own documents have a place for one, and is asked for `top_k` chunks, as many as fill 1,200 tokens:

- LangChain: `RecursiveCharacterTextSplitter` with 1,000 characters and 200 of overlap (its tutorial's numbers),
  `InMemoryVectorStore`;
- LlamaIndex: `VectorStoreIndex` with its default splitter, 1,024 tokens and 200 of overlap;
- LlamaIndex `DocumentSummaryIndex`: the summaries choose documents, all of whose chunks follow. Without a language
  model the summary is the first 500 characters of the document;
- Haystack: `DocumentSplitter` with its default of 200 words, `InMemoryEmbeddingRetriever`;
- txtai: whole documents, hybrid search (its BM25 and the vectors).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from haystack import Document as HaystackDocument
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings as LangChainEmbeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter
from llama_index.core import Document as LlamaDocument
from llama_index.core import DocumentSummaryIndex, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.document_summary import DocumentSummaryIndexEmbeddingRetriever
from llama_index.core.response_synthesizers import BaseSynthesizer
from pydantic import PrivateAttr
from txtai import Embeddings as TxtaiEmbeddings

from benchmarks.cache import CachedEmbedder
from benchmarks.dataset import CorpusDocument
from benchmarks.metrics import Found
from benchmarks.recipes import Outcome, Peer

TOP_K = 20
DOCUMENTS = 10  # that a DocumentSummaryIndex chooses
SUMMARY = 500  # characters


class Blocking:
    """The embedder for code that does not wait: it is called from threads, and works on the loop."""

    def __init__(self, embedder: CachedEmbedder) -> None:
        self._embedder = embedder
        self._loop = asyncio.get_running_loop()

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        return asyncio.run_coroutine_threadsafe(self._embedder.embed_passages(texts), self._loop).result()

    def query(self, text: str) -> np.ndarray:
        vectors = asyncio.run_coroutine_threadsafe(self._embedder.embed_queries([text]), self._loop).result()
        return vectors[0]


class InThread:
    """A peer whose library blocks: `build` and `find` run in a thread."""

    name = ""
    peer = True

    def __init__(self, embedder: Blocking, documents: Sequence[CorpusDocument]) -> None:
        self._embedder = embedder
        self._documents = documents

    async def index(self) -> int:
        return await asyncio.to_thread(self.build)

    async def search(self, question: str) -> Outcome:
        return Outcome.of_ranking(await asyncio.to_thread(self.find, question))

    def build(self) -> int:
        raise NotImplementedError

    def find(self, question: str) -> list[Found]:
        raise NotImplementedError


class _ForLangChain(LangChainEmbeddings):
    def __init__(self, embedder: Blocking) -> None:
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.passages(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self._embedder.query(text).tolist()


class LangChain(InThread):
    name = "LangChain"

    def build(self) -> int:
        splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200)
        chunks = splitter.split_documents(
            [LangChainDocument(d.text, metadata={"id": d.id, "title": d.title}) for d in self._documents]
        )
        self._store = InMemoryVectorStore.from_documents(chunks, _ForLangChain(self._embedder))
        return len(chunks)

    def find(self, question: str) -> list[Found]:
        found = self._store.similarity_search(question, k=TOP_K)
        return [Found(document.metadata["id"], document.page_content) for document in found]


class _ForLlamaIndex(BaseEmbedding):
    _embedder: Blocking = PrivateAttr()

    def __init__(self, embedder: Blocking) -> None:
        super().__init__(embed_batch_size=100)
        self._embedder = embedder

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.query(query).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.passages([text])[0].tolist()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.passages(texts).tolist()


class LlamaIndex(InThread):
    name = "LlamaIndex"

    def build(self) -> int:
        index = VectorStoreIndex.from_documents(
            _llama_documents(self._documents), embed_model=_ForLlamaIndex(self._embedder)
        )
        self._retriever = index.as_retriever(similarity_top_k=TOP_K)
        return len(index.docstore.docs)

    def find(self, question: str) -> list[Found]:
        return [
            Found(n.node.ref_doc_id or "", n.node.get_content()) for n in self._retriever.retrieve(question)
        ]


class _Lead(BaseSynthesizer):
    """The beginning of a text as its summary."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        return

    def get_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        return "".join(text_chunks)[:SUMMARY]

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        return self.get_response(query_str, text_chunks)


class LlamaIndexSummaries(InThread):
    name = "LlamaIndex DocumentSummaryIndex"

    def build(self) -> int:
        from llama_index.core.llms import MockLLM  # noqa: PLC0415 - never asked, but wanted

        embed = _ForLlamaIndex(self._embedder)
        with redirect_stdout(sys.stderr):  # it prints the id of every document
            index = DocumentSummaryIndex.from_documents(
                _llama_documents(self._documents),
                llm=MockLLM(),
                response_synthesizer=_Lead(llm=MockLLM()),
                embed_model=embed,
            )
        self._retriever = DocumentSummaryIndexEmbeddingRetriever(
            index, similarity_top_k=DOCUMENTS, embed_model=embed
        )
        return len(index.docstore.docs)

    def find(self, question: str) -> list[Found]:
        return [
            Found(n.node.ref_doc_id or "", n.node.get_content()) for n in self._retriever.retrieve(question)
        ]


class Haystack(InThread):
    name = "Haystack"

    def build(self) -> int:
        splitter = DocumentSplitter()
        splitter.warm_up()
        chunks = splitter.run(
            [HaystackDocument(content=d.text, meta={"id": d.id, "title": d.title}) for d in self._documents]
        )["documents"]
        vectors = self._embedder.passages([chunk.content for chunk in chunks])
        for chunk, vector in zip(chunks, vectors, strict=True):
            chunk.embedding = vector.tolist()
        store = InMemoryDocumentStore()
        store.write_documents(chunks)
        self._retriever = InMemoryEmbeddingRetriever(store, top_k=TOP_K)
        return len(chunks)

    def find(self, question: str) -> list[Found]:
        found = self._retriever.run(query_embedding=self._embedder.query(question).tolist())["documents"]
        return [Found(document.meta["id"], document.content) for document in found]


class Txtai(InThread):
    name = "txtai"

    def build(self) -> int:
        self._texts = {document.id: document.text for document in self._documents}
        self._built = False

        def transform(texts: Sequence[str]) -> np.ndarray:
            if self._built:
                return np.stack([self._embedder.query(text) for text in texts])
            return self._embedder.passages(texts)

        self._index = TxtaiEmbeddings(method="external", transform=transform, hybrid=True)
        self._index.index([(document.id, document.text, None) for document in self._documents])
        self._built = True
        return len(self._texts)

    def find(self, question: str) -> list[Found]:
        return [Found(i, self._texts[i]) for i, _ in self._index.search(question, TOP_K)]


def _llama_documents(documents: Sequence[CorpusDocument]) -> list[LlamaDocument]:
    return [
        LlamaDocument(id_=d.id, text=d.text, metadata={"title": d.title} if d.title else {})
        for d in documents
    ]


def all_peers(embedder: CachedEmbedder, documents: Sequence[CorpusDocument]) -> list[Peer]:
    """One of each."""
    blocking = Blocking(embedder)
    return [
        kind(blocking, documents) for kind in (LangChain, LlamaIndex, LlamaIndexSummaries, Haystack, Txtai)
    ]
