"""Special tokens: which ids begin, end and pad a sequence, and which end a generation.

The well-known names are those by which the reference, llama.cpp, finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.telemetry.reasons import DegradeReason
from smallmind_engine.tokenizers.diagnostics import TokenizerIssue
from smallmind_engine.tokenizers.vocabulary import TokenType, Vocabulary

_PREFIX: Final = "tokenizer.ggml."

# Ids that the reference assumes per `tokenizer.ggml.model`. Its default of 11 for "gpt2"
# fits one old model only and is left out: names serve better.
_DEFAULT_IDS: Final[Mapping[str, Mapping[str, int]]] = {
    "llama": {"bos": 1, "eos": 2, "unknown": 0},
    "t5": {"eos": 1, "unknown": 2, "padding": 0},
}
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "bos": ("<s>", "<|startoftext|>", "<|begin_of_text|>", "<bos>"),
    "eos": ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|im_end|>"),
    "unknown": ("<unk>", "[UNK]"),
    "padding": ("<pad>", "[PAD]"),
}
# Vocabularies of BERT begin and end a text with tokens of other names; the key of the second is
# spelled so in all files.
_OTHER_KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "bert": {"bos": "cls", "eos": "seperator"},
}
_OTHER_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "bert": {"bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"},
}
_OTHER_FLAGS: Final[Mapping[str, Mapping[str, str]]] = {"bert": {"eos": "add_sep_token"}}
_EOG_KEYS: Final = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
_EOG_NAMES: Final = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001 - DeepSeek writes it so
    "[e~[",
    # Fill-in-the-middle: padding, next repository, next file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
)
# Ends a generation only where the file types it as control: elsewhere it is an HTML tag.
_EOG_NAME_IF_CONTROL: Final = "</s>"
_ALWAYS_SHOWN: Final = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """The special ids of a vocabulary and the rules for adding them."""

    bos_id: int | None = None
    eos_id: int | None = None
    unk_id: int | None = None
    pad_id: int | None = None
    eog_ids: frozenset[int] = frozenset()
    add_bos: bool = False
    add_eos: bool = False


def read_special_tokens(
    metadata: Mapping[str, object],
    vocabulary: Vocabulary,
    model: str,
    issues: list[TokenizerIssue],
    *,
    add_bos: bool,
    add_eos: bool,
) -> SpecialTokens:
    """Find the special ids; types in ``vocabulary`` are corrected where a name says better.

    Args:
        metadata: of the file.
        vocabulary: its ``types`` may be changed.
        model: ``tokenizer.ggml.model``.
        issues: receives ids that cannot be.
        add_bos: whether BOS is prepended when the file does not say.
        add_eos: whether EOS is appended when the file does not say.
    """
    found = {
        key: _read_id(metadata, key, model, vocabulary, issues)
        for key in ("bos", "eos", "unknown", "padding", "mask", "eot", "eom", *_EOG_KEYS[3:])
    }
    if "tokenizer.ggml.token_type" not in metadata:
        _infer_types(vocabulary.types, found)
    eog_ids = _end_of_generation(vocabulary, [found[key] for key in _EOG_KEYS])
    add_bos = _read_flag(metadata, "add_bos_token", default=add_bos)
    ending = _OTHER_FLAGS.get(model, {}).get("eos", "add_eos_token")
    add_eos = _read_flag(metadata, ending, default=add_eos)
    for wanted, key in ((add_bos, "bos"), (add_eos, "eos")):
        if wanted and found[key] is None:
            message = f"add_{key}_token is true, but there is no {key}_token_id; none is added"
            issues.append(TokenizerIssue(DegradeReason.TOKENIZER_VOCAB_PARTIAL, message))
    return SpecialTokens(
        bos_id=found["bos"],
        eos_id=found["eos"],
        unk_id=found["unknown"],
        pad_id=found["padding"],
        eog_ids=eog_ids,
        add_bos=add_bos and found["bos"] is not None,
        add_eos=add_eos and found["eos"] is not None,
    )


def _read_id(
    metadata: Mapping[str, object],
    key: str,
    model: str,
    vocabulary: Vocabulary,
    issues: list[TokenizerIssue],
) -> int | None:
    name = f"{_PREFIX}{key}_token_id"
    other = f"{_PREFIX}{_OTHER_KEYS.get(model, {}).get(key, key)}_token_id"
    if other in metadata:
        name = other
    value = metadata.get(name)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if 0 <= value < vocabulary.size:
            return int(value)
        # All bits set is how converters write "none".
        if value not in {-1, 0xFFFFFFFF}:
            message = f"{name} is {value}, the vocabulary has {vocabulary.size} entries"
            issues.append(TokenizerIssue(DegradeReason.TOKENIZER_VOCAB_PARTIAL, message))
        return None
    default = _DEFAULT_IDS.get(model, {}).get(key)
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    if default is not None and default < vocabulary.size and vocabulary.types[default] in special:
        return default
    other_name = _OTHER_NAMES.get(model, {}).get(key)
    names = _NAMES.get(key, ()) if other_name is None else (other_name,)
    named = (vocabulary.ids.get(text) for text in names)
    return next((token_id for token_id in named if token_id is not None), None)


def _read_flag(metadata: Mapping[str, object], key: str, *, default: bool) -> bool:
    value = metadata.get(_PREFIX + key)
    return bool(value) if isinstance(value, (bool, int, np.bool_)) else default


def _infer_types(types: npt.NDArray[np.int32], found: Mapping[str, int | None]) -> None:
    """Give the special ids of a file without token types their types.

    Bytes stay bytes: where the vocabulary is lost, ids 0 to 255 must spell any text.
    """
    for key, token_id in found.items():
        if token_id is not None and types[token_id] != TokenType.BYTE:
            types[token_id] = TokenType.UNKNOWN if key == "unknown" else TokenType.CONTROL


def _end_of_generation(vocabulary: Vocabulary, keyed: list[int | None]) -> frozenset[int]:
    ids, types = vocabulary.ids, vocabulary.types
    eog = {token_id for token_id in keyed if token_id is not None}
    for name in _EOG_NAMES:
        token_id = ids.get(name)
        if token_id is not None:
            eog.add(token_id)
            types[token_id] = TokenType.CONTROL
    closing = ids.get(_EOG_NAME_IF_CONTROL)
    # Gemma 4 has "</s>" and ends its turns otherwise.
    if (
        closing is not None
        and types[closing] == TokenType.CONTROL
        and "<|tool_response>" not in ids
    ):
        eog.add(closing)
    for name in _ALWAYS_SHOWN:
        if name in ids:
            types[ids[name]] = TokenType.USER_DEFINED
    # Harmony and Solar formats end a message with <|end|>, and the generation with others.
    harmony = {"<|return|>", "<|call|>"} <= ids.keys()
    solar = "<|flush|>" in ids and ("<|call|>" in ids or "<|calls|>" in ids)
    if (harmony or solar) and "<|end|>" in ids:
        eog.discard(ids["<|end|>"])
        types[ids["<|end|>"]] = TokenType.USER_DEFINED
    return frozenset(eog)
