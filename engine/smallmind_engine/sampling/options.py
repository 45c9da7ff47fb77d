"""What a caller may ask of sampling, checked when it is said."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

MAX_SEED: Final = 2**63 - 1  # a signed 64-bit integer: what OpenTelemetry and databases can hold

_MAX_COUNT: Final = 2**31 - 1  # token ids are 32 bits wide in every model format


@dataclass(frozen=True, slots=True)
class _Range:
    """The values that an option takes; ``text`` says the same to people."""

    text: str
    lowest: float = -math.inf
    highest: float = math.inf
    whole: bool = False
    without_lowest: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` is finite and lies inside."""
        if self.without_lowest and value == self.lowest:
            return False
        return self.lowest <= value <= self.highest and math.isfinite(value)


_PROBABILITY: Final = _Range("a number from 0 to 1", 0.0, 1.0)
_FINITE: Final = _Range("a finite number")
_SEED: Final = _Range(f"None or a whole number from 0 to {MAX_SEED}", 0, MAX_SEED, whole=True)
_TOKEN_ID: Final = _Range("a token id, a whole number >= 0", 0, _MAX_COUNT, whole=True)

_RANGES: Final[Mapping[str, _Range]] = {
    "temperature": _Range("a finite number >= 0; 0 is greedy", 0.0),
    "top_k": _Range("a whole number >= 0; 0 is off", 0, _MAX_COUNT, whole=True),
    "top_p": _PROBABILITY,
    "min_p": _PROBABILITY,
    "typical_p": _PROBABILITY,
    "repetition_penalty": _Range("a finite number > 0; 1 is off", 0.0, without_lowest=True),
    "frequency_penalty": _FINITE,
    "presence_penalty": _FINITE,
    "penalty_window": _Range(
        "a whole number >= -1; 0 is off, -1 is everything", -1, _MAX_COUNT, whole=True
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How the next token is chosen. The defaults are those of llama.cpp, without its min-p.

    The options act in this order, that of llama.cpp's default chain: ``logit_bias``, penalties,
    ``top_k``, ``typical_p``, ``top_p``, ``min_p``, ``temperature``, draw. So the filters judge the
    probabilities at temperature 1, and each judges only what the one before it has left.

    Args:
        temperature: divides the logits before the draw. 0 is greedy: the highest score after bias
            and penalties wins, on ties the lowest id, and no filter and no seed matters.
        top_k: keep so many of the highest scores; 0 keeps all. Equal scores: lower ids first.
        top_p: keep the fewest of the likeliest tokens whose probabilities add up to this or more;
            1 keeps all. Holtzman et al. 2019 (arXiv:1904.09751).
        min_p: keep tokens at least this many times as likely as the likeliest one; 0 keeps all.
            Nguyen et al. 2024 (arXiv:2407.01082).
        typical_p: keep the tokens whose surprise is nearest to the entropy, until they add up to
            more than this; 1 keeps all. Meister et al. 2022 (arXiv:2202.00666).
        repetition_penalty: for tokens seen in the window, a positive logit is divided by this and
            one that is not is multiplied; 1 is off. Keskar et al. 2019 (arXiv:1909.05858), with
            the usual mend for negative logits.
        frequency_penalty: taken off the logit once for each time the token was seen; 0 is off.
        presence_penalty: taken off once when the token was seen at all; 0 is off. Both as OpenAI
            defines them.
        penalty_window: so many of the last tokens, the prompt's included, count as seen by all
            three penalties: llama.cpp's ``repeat_last_n``. 0 switches them off, -1 is everything.
        logit_bias: added to the logits of these token ids; ``-inf`` forbids the token.
        seed: same seed, same tokens. ``None`` draws one from the operating system, which
            ``Sampler.seed`` tells.

    Raises:
        ConfigError: a value is outside its range or of another type; names option, value, range.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = 64
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in _RANGES.items():
            object.__setattr__(self, name, _number(name, getattr(self, name), allowed))
        if self.seed is not None:
            object.__setattr__(self, "seed", _number("seed", self.seed, _SEED))
        if self.logit_bias is not None:
            object.__setattr__(self, "logit_bias", _bias(self.logit_bias))

    @property
    def penalizes(self) -> bool:
        """Whether the tokens seen so far have any influence on the next one."""
        off = (
            self.repetition_penalty == 1.0
            and self.frequency_penalty == 0.0
            and self.presence_penalty == 0.0
        )
        return self.penalty_window != 0 and not off


def _number(name: str, value: object, allowed: _Range) -> float:
    """``value`` as a plain int or float (NumPy's numbers become Python's), if it is allowed."""
    # Python's own kinds first: to ask abstract ones takes ten times as long, at every request.
    if type(value) is (int if allowed.whole else float) and allowed.holds(value):
        return value
    kind = numbers.Integral if allowed.whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind):
        _refuse(name, value, allowed.text)
    try:
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        if not allowed.holds(number):
            _refuse(name, value, allowed.text)
        return number if allowed.whole else float(number)
    except OverflowError:  # an integer beyond the largest float
        _refuse(name, value, allowed.text)


def _bias(biases: object) -> dict[int, float]:
    """A copy of ``biases`` with plain numbers, so that later changes by the caller do nothing."""
    if not isinstance(biases, Mapping):
        _refuse("logit_bias", biases, "None or a mapping of token ids to numbers")
    return {
        int(_number("logit_bias", token_id, _TOKEN_ID)): _bias_value(token_id, bias)
        for token_id, bias in biases.items()
    }


def _bias_value(token_id: object, bias: object) -> float:
    if isinstance(bias, numbers.Real) and bias == -math.inf:
        return -math.inf
    allowed = _Range("a finite number, or -inf to forbid the token")
    return _number(f"logit_bias[{token_id!r}]", bias, allowed)


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ConfigError(
        ReasonCode.OPTION_INVALID,
        f"option {name} is {value!r} ({type(value).__name__})",
        hint=f"allowed: {allowed}",
        option=name,
        value=value,
        allowed=allowed,
    )
