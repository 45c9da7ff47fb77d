"""Extraction: from the bytes of a document to its text, by maintained parsers."""

from smallmind.rag._extraction.formats import EXTRACTORS, Extractor, extract, extractor_of

__all__ = ["EXTRACTORS", "Extractor", "extract", "extractor_of"]
