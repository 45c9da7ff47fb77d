"""Pre-tokenizers: how byte-level BPE cuts text into words, by ``tokenizer.ggml.pre``.

Every pre-tokenizer is a row of data: patterns applied one after the other, each cutting the
pieces that the one before left. What a pattern does not match stays a piece of its own, and
``$`` and look-aheads end at the piece. The patterns are those that the reference, llama.cpp,
applies (``src/llama-vocab.cpp``), which for a few models differ from the model's own
``tokenizer.json``: there, letters beyond ASCII count as both cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Final

import regex

# Pieces that many patterns share.
_CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_DIGIT = r"\p{N}"
_ASCII_TRIPLE = r"[0-9][0-9][0-9]"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_OTHER}|{_SPACES}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_OTHER}|{_SPACES}"
_LINES = r"[^\n]+|\n+"

# Mixed-case words: any letters but a-z, then any letters but A-Z.
_NOT_LOWER, _NOT_UPPER = r"[^\P{L}a-z]", r"[^\P{L}A-Z]"


def _cased_word(not_lower: str, not_upper: str, tail: str) -> str:
    lead = r"[^\r\n\p{L}\p{N}]?"
    return f"{lead}{not_lower}*{not_upper}+{tail}|{lead}{not_lower}+{not_upper}*{tail}"


def _right_triples(digit: str) -> str:
    """Digits in groups of three counted from the right; the look-behind keeps it linear."""
    first = rf"(?<!{digit}){digit}{{1,2}}(?=(?:{digit}{{3}})+(?!{digit}))"
    return rf"{first}|{digit}{{3}}|{digit}+"


_OTHER_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_GPT4O = (
    _cased_word(_NOT_LOWER, _NOT_UPPER, _CONTRACTION + "?")
    + rf"|\p{{N}}{{1,3}}|{_OTHER_SLASH}|{_SPACES}"
)
_TEKKEN = _cased_word(_NOT_LOWER, _NOT_UPPER, "") + rf"|\p{{N}}|{_OTHER_SLASH}|{_SPACES}"
_SPACED_WORDS = r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+"
_MARKED_WORD = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"

_PUNCTUATED = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
)
_DEEPSEEK3 = rf"{_PUNCTUATED}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
_CJK_KANA = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
# Blanks inside the ranges count as blanks, not as characters of the script.
_CJK_WIDE = r"(?:(?!\s)[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff])+"
_CASED_SCRIPTS = (
    r"A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    r"\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    r"\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    r"\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    r"\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    r"\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    r"\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    r"\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    r"\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    r"\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    r"\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    r"\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    r"\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_HAN = (
    r"\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    r"\U0002b740-\U0002b81f\U0002b820-\U0002ebef\uf900-\ufaff\U0002f800-\U0002fa1f"
)
_KIMI = (
    rf"[{_HAN}]+|[^\r\n\p{{L}}\p{{N}}]?[^\P{{L}}{_HAN}]+{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_OTHER}|{_SPACES}"
)
_ASIAN = (
    r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
    r"\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f"
    r"\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)


@dataclass(frozen=True, slots=True)
class PreTokenizerSpec:
    """One pre-tokenizer and what goes with its name.

    Attributes:
        stages: patterns, applied in this order.
        ignore_merges: a word that is a token is taken whole, whatever the merges say.
        add_bos: BOS is prepended unless the file says otherwise.
    """

    stages: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


_SPEC_GPT2 = PreTokenizerSpec((_GPT2,))
_SPEC_DIGITS_GPT2 = PreTokenizerSpec((_DIGIT, _GPT2))
_SPEC_QWEN2 = PreTokenizerSpec((_QWEN2,))
_SPEC_DEEPSEEK3 = PreTokenizerSpec((r"\p{N}{1,3}", _CJK_KANA, _DEEPSEEK3))
_SPEC_BLOOM = PreTokenizerSpec((r" ?[^(\s|.,!?…。，、।۔،)]+",))  # noqa: RUF001
_SPEC_BAILING = PreTokenizerSpec(
    (
        (
            rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{_WORD}|\p{{N}}|{_OTHER}"
            r"|\s*[\r\n]|\s+(?!\S)|\s+"
        ),
    )
)
_SPEC_GPT4O = PreTokenizerSpec((_GPT4O,))
_SPEC_AYA = PreTokenizerSpec(
    (
        # The look-ahead is bounded, or long numbers would cost their length squared.
        r"[0-9]{1,3}(?=(?:[0-9]{3}){0,16}(?![0-9A-Za-z_]))",
        rf"{_MARKED_WORD}{_CONTRACTION}?|\p{{N}}{{1,3}}|{_OTHER_SLASH}|{_SPACES}",
    )
)

DEFAULT_SPEC: Final = PreTokenizerSpec(
    (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", _ASCII_TRIPLE),
)
"""What is used for the name ``default``, for no name and for a name that is not known."""

_FAMILIES: Final[tuple[tuple[str, PreTokenizerSpec], ...]] = (
    ("default", DEFAULT_SPEC),
    ("gpt-2 gpt2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat", _SPEC_GPT2),
    ("a.x-4.0 mellum modern-bert roberta-bpe", _SPEC_GPT2),
    ("jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code", _SPEC_GPT2),
    ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", _SPEC_DIGITS_GPT2),
    (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        PreTokenizerSpec((_LLAMA3,), ignore_merges=True, add_bos=True),
    ),
    ("dbrx smaug-bpe glm4 chatglm-bpe", PreTokenizerSpec((_LLAMA3,))),
    (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
        _SPEC_QWEN2,
    ),
    (
        "qwen35",
        PreTokenizerSpec(
            (
                (
                    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
                    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
                ),
            )
        ),
    ),
    (
        "deepseek-llm",
        PreTokenizerSpec(
            (
                r"[\r\n]",
                rf"\s?[{_CASED_SCRIPTS}]+",
                "\\s?[!-/:-~！-／：-～‘-‟\u3001-。]+",  # noqa: RUF001
                r"(?<!\s)\s++\Z",
                _CJK_WIDE,
                r"\p{N}+",
            )
        ),
    ),
    (
        "deepseek-coder",
        PreTokenizerSpec((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_WIDE, r"\p{N}")),
    ),
    ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", _SPEC_DEEPSEEK3),
    (
        "spark2_5",
        PreTokenizerSpec(
            (
                r"\p{N}{1,3}",
                _CJK_KANA,
                rf"{_PUNCTUATED}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+",
                r"\p{N}",
            )
        ),
    ),
    (
        "youtu",
        PreTokenizerSpec(
            (
                "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+",  # noqa: RUF001
                rf"{_MARKED_WORD}{_CONTRACTION}?|\p{{N}}|{_OTHER_SLASH}|{_SPACES}",
            ),
            ignore_merges=True,
        ),
    ),
    (
        "falcon",
        PreTokenizerSpec((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, _ASCII_TRIPLE)),
    ),
    ("bloom gpt3-finnish poro poro-chat", _SPEC_BLOOM),
    ("viking", PreTokenizerSpec((*_SPEC_BLOOM.stages, _DIGIT))),
    ("tekken", PreTokenizerSpec((_TEKKEN,), ignore_merges=True, add_bos=True)),
    (
        "chameleon",
        PreTokenizerSpec(
            (
                r"<sentinel:[0-9]+>",
                r"IMGIMG[A-I]{1,4}Z",
                r"[\t\n]|    |  ",
                _DIGIT,
                r"[\p{P}!-/:-@\[-`{-~]",
                _GPT2,
            ),
            add_bos=True,
        ),
    ),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", _SPEC_GPT4O),
    (
        "granite-embed-multi-97m",
        PreTokenizerSpec(
            (
                _cased_word(
                    rf"(?:{_NOT_LOWER}|\p{{M}})", rf"(?:{_NOT_UPPER}|\p{{M}})", _CONTRACTION + "?"
                )
                + rf"|\p{{N}}{{1,3}}|{_OTHER_SLASH}|{_SPACES}",
            ),
            ignore_merges=True,
        ),
    ),
    ("tiny_aya cohere2moe", _SPEC_AYA),
    ("kimi-k2", PreTokenizerSpec((_KIMI,))),
    ("superbpe", PreTokenizerSpec((r"\p{N}+", _right_triples("[0-9]")))),
    ("bailingmoe bailingmoe2 llada-moe", _SPEC_BAILING),
    (
        "seed-coder",
        PreTokenizerSpec(
            (rf"{_CONTRACTION}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",)
        ),
    ),
    ("ufakzeka", PreTokenizerSpec((rf"{_WORD}|\p{{N}}|{_OTHER}|{_SPACES}",))),
    ("afmoe", PreTokenizerSpec((_right_triples(r"\p{N}"), _ASIAN, _DEEPSEEK3))),
    ("laguna", PreTokenizerSpec((_LINES, _QWEN2))),
    (
        "exaone-moe",
        PreTokenizerSpec(
            (
                (
                    rf"{_CONTRACTION}|{_SPACED_WORDS}|\p{{N}}"
                    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
                ),
            )
        ),
    ),
    (
        "minicpm5",
        PreTokenizerSpec(
            (r"\p{N}{1,3}", rf"{_CONTRACTION}|{_WORD}|\p{{N}}+|{_OTHER}|{_SPACES}"),
            ignore_merges=True,
        ),
    ),
    (
        "jais-2",
        PreTokenizerSpec(
            (
                rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_OTHER}|\s*[\r\n]+|"
                + "".join(rf"\s{{{n}}}(?!\S)|" for n in (512, 256, 128, 64, 32, 16, 8, 4))
                + r"\s{1,2}(?!\S)|\s",
            )
        ),
    ),
    # Whole lines: spaces are written as U+2581, and merges run across words.
    ("gemma4 granite-embed-multi-311m sarvam-moe", PreTokenizerSpec((_LINES,))),
)

PRE_TOKENIZERS: Final = {name: spec for names, spec in _FAMILIES for name in names.split()}
"""Every known value of ``tokenizer.ggml.pre``."""


class PreTokenizer:
    """Cuts text into words.

    Args:
        stages: patterns of a ``PreTokenizerSpec``.
    """

    __slots__ = ("_stages",)

    def __init__(self, stages: tuple[str, ...]) -> None:
        self._stages = [_compiled(stage) for stage in stages]

    def split(self, text: str) -> Iterator[str]:
        """The words of ``text``, in order and without loss; found as they are asked for."""
        pieces: Iterable[str] = (text,)
        for stage in self._stages:
            # The group makes splititer give what matched and what lies between.
            pieces = chain.from_iterable(map(stage.splititer, filter(None, pieces)))
        return filter(None, pieces)


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(f"({pattern})")
