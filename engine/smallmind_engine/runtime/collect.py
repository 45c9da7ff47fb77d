"""Ways to consume a run: all at once, or as a stream."""

from __future__ import annotations

from smallmind_engine.runtime.generation import GenerationRun
from smallmind_engine.runtime.options import GenerationOptions
from smallmind_engine.runtime.results import GenerationResult
from smallmind_engine.runtime.streams import TokenStream, buffered, pulled
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import InferenceError


def finished(run: GenerationRun) -> GenerationResult:
    """The result of a run that ended.

    Raises:
        InferenceError: it did not; which would be a fault of ours.
    """
    if run.result is None:
        raise InferenceError(ReasonCode.ERROR, "the request ended without a result")
    return run.result


def collected(run: GenerationRun) -> GenerationResult:
    """Run to the end; raises what the run raises."""
    for _ in run.steps():
        pass
    return finished(run)


def open_stream(run: GenerationRun, options: GenerationOptions) -> TokenStream:
    """A stream in the way that the options ask for."""
    if options.max_buffered_tokens is None:
        return pulled(run)
    return buffered(run, options.max_buffered_tokens, options.backpressure)
