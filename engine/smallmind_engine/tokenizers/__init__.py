"""Tokenizers: text to token ids and back, built from the metadata of a GGUF file."""

from smallmind_engine.tokenizers.bpe import BpeTokenizer
from smallmind_engine.tokenizers.byte_fallback import ByteTokenizer
from smallmind_engine.tokenizers.diagnostics import (
    TokenizerDiagnostics,
    TokenizerIssue,
    TokenizerMode,
)
from smallmind_engine.tokenizers.factory import TokenizerFactory
from smallmind_engine.tokenizers.footprint import tokenizer_bytes
from smallmind_engine.tokenizers.protocol import Tokenizer
from smallmind_engine.tokenizers.streaming import StreamingDetokenizer
from smallmind_engine.tokenizers.token_table import TokenTableTokenizer
from smallmind_engine.tokenizers.unigram import UnigramTokenizer
from smallmind_engine.tokenizers.wordpiece import WordPieceTokenizer

__all__ = [
    "BpeTokenizer",
    "ByteTokenizer",
    "StreamingDetokenizer",
    "TokenTableTokenizer",
    "Tokenizer",
    "TokenizerDiagnostics",
    "TokenizerFactory",
    "TokenizerIssue",
    "TokenizerMode",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "tokenizer_bytes",
]
