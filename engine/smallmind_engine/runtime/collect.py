"""Ways to consume a run: all at once, or as a stream."""

from __future__ import annotations

from smallmind_engine.runtime.generation import GenerationRun
from smallmind_engine.runtime.results import GenerationResult
from smallmind_engine.runtime.streams import TokenStream


def collected(run: GenerationRun) -> GenerationResult:
    """Run to the end; raises what the run raises."""
    for _ in run.steps():
        pass
    return run.finished()


def open_stream(run: GenerationRun) -> TokenStream:
    """A stream of a run; one that runs ahead of its reader begins now."""
    stream = TokenStream(run, run.steps(), run.close)  # first: it ends what Ctrl-C interrupts
    if run.runs_ahead:
        run.begin_quietly()
    return stream
