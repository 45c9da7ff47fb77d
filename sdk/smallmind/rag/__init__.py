"""Retrieval: answers from your own documents, with citations and access control.

>>> from smallmind import load, rag
>>> with load("smollm2") as engine, rag.RagIndex("docs.db") as index:  # doctest: +SKIP
...     index.update(rag.FolderSource("docs"))
...     print(rag.RagPipeline(engine, index).ask("How are kernels compiled ahead?").text)
"""

from smallmind.rag._access import Authorizer, LabelRule, UserContext
from smallmind.rag._answers import RagAnswer, RagStream
from smallmind.rag._chunking import ChunkingOptions
from smallmind.rag._citations import Citation
from smallmind.rag._documents import DocumentSource, ExtractedText, Section, SourceDocument
from smallmind.rag._embedding import Embedder
from smallmind.rag._engine_embedder import EngineEmbedder
from smallmind.rag._errors import (
    DocumentError,
    InsufficientEvidenceError,
    RagBudgetError,
    RagError,
    RagIndexError,
)
from smallmind.rag._fusion import FusionOptions
from smallmind.rag._grounding import GroundingRules
from smallmind.rag._hashing import HashingEmbedder
from smallmind.rag._index import RagIndex
from smallmind.rag._indexing import IndexLimits
from smallmind.rag._pipeline import RagPipeline
from smallmind.rag._prompt import PromptOptions
from smallmind.rag._reports import IndexReport
from smallmind.rag._results import RetrievalMode, RetrievalResult, RetrievedChunk
from smallmind.rag._retrieval_options import Reranker, RetrievalOptions
from smallmind.rag._sources import FolderSource, TextDocument, TextSource
from smallmind.rag._tokens import tokens_of

__all__ = [
    "Authorizer",
    "ChunkingOptions",
    "Citation",
    "DocumentError",
    "DocumentSource",
    "Embedder",
    "EngineEmbedder",
    "ExtractedText",
    "FolderSource",
    "FusionOptions",
    "GroundingRules",
    "HashingEmbedder",
    "IndexLimits",
    "IndexReport",
    "InsufficientEvidenceError",
    "LabelRule",
    "PromptOptions",
    "RagAnswer",
    "RagBudgetError",
    "RagError",
    "RagIndex",
    "RagIndexError",
    "RagPipeline",
    "RagStream",
    "Reranker",
    "RetrievalMode",
    "RetrievalOptions",
    "RetrievalResult",
    "RetrievedChunk",
    "Section",
    "SourceDocument",
    "TextDocument",
    "TextSource",
    "UserContext",
    "tokens_of",
]
