"""From raw samples to rows: medians, ranges, ratios, and shares of the machine's limits.

A ratio or share is computed for each round and its median taken, so that what slows a whole round
down does not show in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from compare_cases import ENGINES, LLAMA_CPP, SMALLMIND, Case


def single_beside(case: Case, cases: Sequence[Case]) -> Case | None:
    """The one sequence that a concurrent case is compared with: of the same context."""
    for other in cases:
        if case.sequences > 1 and other.sequences == 1 and other.context == case.context:
            return other if other.steps else None
    return None


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of some values."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One line of the table; what was not measured is None.

    Attributes:
        case: what was measured.
        group: ``prefill``, ``decode`` or ``concurrent``.
        label: of the case within the group.
        ours: tokens a second of smallmind, over all sequences.
        theirs: of llama.cpp.
        ratio: ours by theirs.
        our_share: of sgemm's operations when it is prefill, else of the memory bandwidth.
        their_share: the same of llama.cpp.
        our_rate: operations (prefill) or bytes a second that our share counts.
    """

    case: Case
    group: str
    label: str
    ours: Spread | None
    theirs: Spread | None
    ratio: Spread | None
    our_share: Spread | None
    their_share: Spread | None
    our_rate: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """Seconds or bytes of both engines: less is better."""

    label: str
    unit: str
    ours: float | None
    theirs: float | None


ByRound = dict[int, float]


def spread(values: ByRound) -> Spread | None:
    """None when there are no values."""
    if not values:
        return None
    each = list(values.values())
    return Spread(statistics.median(each), min(each), max(each), len(each))


def quotient(over: ByRound, under: ByRound) -> ByRound:
    """Round by round, where both are."""
    return {number: over[number] / under[number] for number in over if number in under}


def speed_rows(model: dict, cases: Sequence[Case]) -> list[SpeedRow]:
    """All rows of a model."""
    return [*_prefill_rows(model, cases), *_decode_rows(model, cases)]


def _prefill_rows(model: dict, cases: Sequence[Case]) -> Iterator[SpeedRow]:
    sgemm = _limit(model, "sgemm_flops_per_s")
    for case in cases:
        if case.prefill_is_measured:
            yield _row(
                model,
                case,
                group="prefill",
                label=f"{case.context} tokens",
                measured="prefill_s",
                tokens=case.context,
                work=2 * model["layer_parameters"] * case.context,
                limit=sgemm,
            )


def _decode_rows(model: dict, cases: Sequence[Case]) -> Iterator[SpeedRow]:
    bandwidth = _limit(model, "read_bytes_per_s")
    for case in cases:
        if case.steps:
            yield _row(
                model,
                case,
                group="decode" if case.sequences == 1 else "concurrent",
                label=(
                    f"context {case.context}"
                    if case.sequences == 1
                    else f"{case.sequences} sequences, context {case.context}"
                ),
                measured="decode_s",
                tokens=case.sequences * case.steps,
                work=model["bytes_per_step"] * case.steps,
                limit=bandwidth,
            )


def _row(
    model: dict,
    case: Case,
    *,
    group: str,
    label: str,
    measured: str,
    tokens: int,
    work: int,
    limit: ByRound,
) -> SpeedRow:
    """Turn the seconds of a case into speeds and shares."""
    ours, theirs = (_per_second(model, case, engine, measured, tokens) for engine in ENGINES)
    our_rate, their_rate = (_per_second(model, case, engine, measured, work) for engine in ENGINES)
    return SpeedRow(
        case=case,
        group=group,
        label=label,
        ours=spread(ours),
        theirs=spread(theirs),
        ratio=spread(quotient(ours, theirs)),
        our_share=spread(quotient(our_rate, limit)),
        their_share=spread(quotient(their_rate, limit)),
        our_rate=spread(our_rate),
    )


def scaling(model: dict, case: Case, single: Case, engine: str) -> Spread | None:
    """Tokens a second of all sequences together, by those of one alone."""
    together = _per_second(model, case, engine, "decode_s", case.sequences * case.steps)
    alone = _per_second(model, single, engine, "decode_s", single.steps)
    return spread(quotient(together, alone))


def _per_second(model: dict, case: Case, engine: str, measured: str, amount: float) -> ByRound:
    return {
        sample["round"]: amount / sample[measured]
        for sample in model["samples"]
        if sample["case"] == case.name and sample["engine"] == engine and sample[measured]
    }


def _limit(model: dict, name: str) -> ByRound:
    return {
        number: each[name]
        for number, each in enumerate(model["limits"], 1)
        if each[name] is not None
    }


def limit(model: dict, name: str) -> Spread | None:
    """A measured limit over all rounds."""
    return spread(_limit(model, name))


def disturbance(model: dict) -> float | None:
    """Processor time of engines that ought to have slept, by the time of those measured."""
    total = sum((each["prefill_s"] or 0) + (each["decode_s"] or 0) for each in model["samples"])
    return sum(each["others_cpu_s"] for each in model["samples"]) / total if total else None


def cost_rows(model: dict) -> list[CostRow]:
    """Load times and memory."""
    rows: list[tuple[str, str, Callable[[dict], float | None]]] = [
        ("import", "s", lambda facts: facts["loads"][1]["import_s"]),
        ("first load", "s", lambda facts: facts["loads"][0]["load_s"]),
        ("first load, to the first token", "s", lambda facts: facts["loads"][0]["first_token_s"]),
        ("second load", "s", lambda facts: facts["loads"][1]["load_s"]),
        ("second load, to the first token", "s", lambda facts: facts["loads"][1]["first_token_s"]),
        ("the same with packed weights kept", "s", _kept_first_token_s),
        ("peak RSS, loaded", "bytes", lambda facts: facts["memory"]["loaded"]),
        ("peak RSS, one sequence", "bytes", lambda facts: facts["memory"]["one_sequence"]),
        ("peak RSS, all cases", "bytes", lambda facts: facts["memory"]["all_cases"]),
    ]
    return [
        CostRow(
            label=label,
            unit=unit,
            ours=_fact(model, SMALLMIND, read),
            theirs=_fact(model, LLAMA_CPP, read),
        )
        for label, unit, read in rows
    ]


def _kept_first_token_s(facts: dict) -> float | None:
    loads = facts["loads"]
    return loads[2]["first_token_s"] if len(loads) > 2 else None


def _fact(model: dict, engine: str, read: Callable[[dict], float | None]) -> float | None:
    facts = model["engines"].get(engine, {"missing": ""})
    return None if "missing" in facts else read(facts)


def missing_because(model: dict, engine: str) -> str | None:
    """Why an engine was not measured; None when it was."""
    return model["engines"][engine].get("missing")


def leading_agreement(model: dict, case: Case) -> tuple[int, int] | None:
    """How many of the first tokens both engines decoded alike, and of how many; None without both.

    Random prompts lead to close calls, so a late difference is no error; none alike is one.
    """
    found = {
        each["engine"]: each["tokens"] for each in model["samples"] if each["case"] == case.name
    }
    if set(found) != set(ENGINES):
        return None
    ours, theirs = found[SMALLMIND], found[LLAMA_CPP]
    pairs = zip(ours, theirs, strict=True)
    alike = next((at for at, (a, b) in enumerate(pairs) if a != b), len(ours))
    return alike, len(ours)
