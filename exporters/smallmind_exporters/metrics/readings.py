"""How events are read: the functions behind the table of families that say more than a field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from smallmind_engine.telemetry import (
    EmbeddingEnded,
    InferenceStopped,
    KernelExecuted,
    KernelsPrepared,
    KVCacheLookup,
    ModelLoadEnded,
    Phase,
    PrefillEnded,
    RequestStatus,
    RetrievalEnded,
    RuntimeStalled,
    TokenGenerated,
    TokenizerDiagnosed,
    TokenQuality,
)

Rows = Iterable[tuple[tuple[str, ...], float]]


def time_to_first_token(event: InferenceStopped) -> float | None:
    """Of successful requests only: a failure's short time would flatter the figure."""
    return event.time_to_first_token_s if event.status is RequestStatus.COMPLETED else None


def time_per_output_token(event: InferenceStopped) -> float | None:
    """Mean over the tokens after the first, without the time that the reader held it up."""
    after_first = event.completion_tokens - 1
    if (
        event.status is not RequestStatus.COMPLETED
        or event.time_to_first_token_s is None
        or after_first < 1
    ):
        return None
    waited = phase_seconds(event, Phase.CONSUMER) or 0.0
    return max(0.0, event.duration_s - event.time_to_first_token_s - waited) / after_first


def decode_seconds(event: InferenceStopped) -> float | None:
    """The decode row of the ledger, of requests that decoded at all."""
    return phase_seconds(event, Phase.DECODE) if event.completion_tokens > 1 else None


def phase_seconds(event: InferenceStopped, phase: Phase) -> float | None:
    """A row of the request's ledger; None when it is not there."""
    for name, seconds in event.ledger:
        if name == phase:
            return seconds
    return None


def ledger_rows(event: InferenceStopped) -> Rows:
    """The whole ledger."""
    return [((phase,), seconds) for phase, seconds in event.ledger]


def inter_token_seconds(event: TokenGenerated) -> float | None:
    """Engine time since the previous token; the first one has no previous."""
    return event.engine_s if event.index else None


def consumer_wait_seconds(event: TokenGenerated) -> float | None:
    """Only a stream has a reader to wait for; without one the time is exactly zero."""
    return event.consumer_s or None


def prompt_token_rows(event: PrefillEnded) -> Rows:
    """Prompt tokens by where their keys and values came from."""
    return ((("computed",), event.computed_tokens), (("cached",), event.cached_tokens))


def error_rows(event: InferenceStopped) -> Rows:
    """The error that ended the request, when one did."""
    return (((event.error_type,), 1),) if event.error_type else ()


def request_token_rows(event: InferenceStopped) -> Rows:
    """Tokens in and out, of requests that had a first token; others have no usage to tell."""
    if event.time_to_first_token_s is None:
        return ()
    return ((("input",), event.prompt_tokens), (("output",), event.completion_tokens))


def lookup_rows(event: KVCacheLookup) -> Rows:
    """One lookup, by result."""
    return ((("hit" if event.hit else "miss",), 1),)


def kernel_rows(event: KernelsPrepared) -> Rows:
    """Kernels by where their machine code came from."""
    return ((("compiled",), event.compiled), (("cached",), event.cached))


def stall_rows(event: RuntimeStalled) -> Rows:
    """What a late token took beyond the usual, by cause; its pauses when there is no usual."""
    late_s = event.duration_s - event.typical_s if event.typical_s else event.gc_total_s
    return (((event.cause,), max(0.0, late_s)),)


def gc_rows(event: RuntimeStalled) -> Rows:
    """Pauses of the garbage collector, by generation."""
    return [((str(generation),), seconds) for generation, seconds in enumerate(event.gc_s)]


def fault_rows(event: RuntimeStalled) -> Rows:
    """Page faults, by what they took."""
    return ((("minor",), event.minor_faults), (("major",), event.major_faults))


def choice_rows(event: TokenQuality) -> Rows:
    """One token, by whether it was the likeliest."""
    return ((("best" if event.rank == 1 else "other",), 1),)


def non_finite_rows(event: InferenceStopped) -> Rows:
    """Where NaN or infinity first appeared, when it did."""
    return (((event.non_finite_at,), 1),) if event.non_finite_at else ()


def operation_rows(field: str) -> Callable[[KernelExecuted], Rows]:
    """A field of an operation, by its name and the types of what it read."""
    value = attrgetter(field)
    return lambda event: (((event.op, event.quantization), value(event)),)


def embedded(field: str) -> Callable[[EmbeddingEnded], float | None]:
    """A figure of an embedding that completed; others made no vectors."""
    value = attrgetter(field)
    return lambda event: value(event) if event.status is RequestStatus.COMPLETED else None


def issue_rows(event: TokenizerDiagnosed) -> Rows:
    """One row for each issue of the tokenizer."""
    return [((issue,), 1) for issue in event.issues]


def insufficient_rows(event: RetrievalEnded) -> Rows:
    """Of retrievals that completed: the reason why what they found is not good enough."""
    if event.status is not RequestStatus.COMPLETED or event.reason is None:
        return ()
    return (((event.reason,), 1),)


def load_phase_rows(event: ModelLoadEnded) -> Iterator[tuple[tuple[str, ...], float]]:
    """Phases of a successful load, and the rest, so that they add up to the whole."""
    if event.status is not RequestStatus.COMPLETED:
        return
    rest = event.duration_s
    for phase, seconds in event.phases:
        rest -= seconds
        yield (phase,), seconds
    yield ("unattributed",), max(0.0, rest)


def info_rows(event: ModelLoadEnded) -> Rows:
    """What is loaded, once it is."""
    if event.status is not RequestStatus.COMPLETED:
        return ()
    facts = (
        event.architecture,
        event.quantization,
        event.backend,
        str(event.parameters),
        str(event.context_length),
        event.fingerprint,
    )
    return ((facts, 1),)
