"""Real engines over a tiny model that do everything an operator may see, troubles included."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from engines import tiny_engine
from smallmind import Engine, rag
from smallmind.structured import Regex
from smallmind_engine.control import CancellationToken
from smallmind_engine.telemetry import ALL_KINDS, Event, FlushResult, QueuedExporter, TokenGenerated
from smallmind_engine.telemetry.errors import BackpressureError, InferenceError, MemoryBudgetError
from smallmind_exporters.prometheus import MetricsServer, PrometheusExporter
from telemetry_events import headers

GREEDY = {"temperature": 0.0, "ignore_eos": True}
PROMPT = "the band and the land"


@dataclass
class Sink:
    """An exporter that fails, or waits until it is let go."""

    name: str
    fails: bool = False
    interests: int = ALL_KINDS
    inline: bool = True
    go: threading.Event = field(default_factory=threading.Event)

    def export(self, event: Event, /) -> None:
        if self.fails:
            raise RuntimeError("this exporter never works")
        self.go.wait(60)

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult()

    def close(self) -> None:
        self.go.set()


@dataclass(frozen=True)
class Service:
    """Engines in one registry.

    Attributes:
        busy: with details of kernels, and a failing and a slow exporter beside.
        narrow: one request at a time and no queue.
        strict: with a budget that refuses.
        lenient: with a budget that gives less.
        exporter: of ``busy``.
        slow: the exporter that holds up its queue.
    """

    busy: Engine
    narrow: Engine
    strict: Engine
    lenient: Engine
    exporter: PrometheusExporter
    slow: Sink

    @property
    def models(self) -> set[str]:
        return {"busy", "narrow", "strict", "lenient"}


@dataclass(frozen=True)
class Shown:
    """Exporters in one registry, and the server that shows it. There are no engines yet."""

    registry: CollectorRegistry
    exporters: list[PrometheusExporter]
    server: MetricsServer

    @property
    def metrics(self) -> str:
        """``host:port`` to scrape."""
        return f"{self.server.addr}:{self.server.port}"


@contextmanager
def shown_metrics() -> Iterator[Shown]:
    """What can be scraped before any engine is loaded, so that the first increase is seen."""
    registry = CollectorRegistry()
    with ExitStack() as stack:
        exporters = [stack.enter_context(PrometheusExporter(registry=registry)) for _ in range(4)]
        yield Shown(registry, exporters, exporters[0].start_http_server())


@contextmanager
def running_service(folder: Path, shown: Shown) -> Iterator[Service]:
    """The engines, loaded; nothing was asked of them yet."""
    with tiny_engine(folder) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        per_token = probe.model.runner.kv_bytes_per_token
    room = weights + 64 * per_token
    slow = Sink("slow")
    with ExitStack() as stack:
        stack.callback(slow.close)
        queue = QueuedExporter(slow, capacity=2)
        stack.callback(queue.stop, 5.0)
        own = iter(shown.exporters)

        def load(name: str, *more: object, **options: object) -> Engine:
            engine = tiny_engine(folder, name=name, exporters=[next(own), *more], **options)
            return stack.enter_context(engine)

        yield Service(
            busy=load(
                "busy", Sink("broken", fails=True), queue, detail="kernel", quality_signals=True
            ),
            narrow=load("narrow", max_concurrent_requests=1, max_queue_depth=0),
            strict=load("strict", max_memory_bytes=room, memory_budget_mode="strict"),
            # Weights that stay whole, or the budget would be met by taking them layer by layer.
            lenient=load(
                "lenient",
                max_memory_bytes=room,
                memory_budget_mode="best_effort",
                weights="resident",
            ),
            exporter=shown.exporters[0],
            slow=slow,
        )


def do_everything(service: Service, folder: Path) -> None:
    """Ask for all that there is; every request has ended when it returns.

    Args:
        service: the engines.
        folder: takes an index of documents.
    """
    good_requests(service.busy)
    service.busy.embed([PROMPT, "the land"])
    _searches(service.busy, folder)
    _cancelled_requests(service.busy)
    _failing_request(service.busy)
    _turned_away(service.narrow)
    with suppress(MemoryBudgetError):
        service.strict.generate(PROMPT, max_tokens=100, **GREEDY)
    service.lenient.generate(PROMPT, max_tokens=100, **GREEDY)
    _evictions(service.strict)
    (header, *_) = (headers("odd")(),)
    service.exporter.export(
        TokenGenerated(*header, model="busy", index=1, engine_s=math.nan, consumer_s=0.0)
    )
    service.slow.go.set()


def good_requests(engine: Engine) -> None:
    """Requests of all kinds that are answered."""
    for length in (2, 8, 16):
        engine.generate(PROMPT, max_tokens=length, **GREEDY)
    with engine.stream(PROMPT, max_tokens=6, **GREEDY) as stream:
        for _ in stream:
            threading.Event().wait(0.01)  # a reader that takes its time
    with engine.session() as session:
        session.generate(PROMPT, max_tokens=4, **GREEDY)
        session.generate(" in", max_tokens=4, **GREEDY)
    engine.chat().send("the", max_tokens=4, **GREEDY)
    engine.generate(PROMPT, max_tokens=8, response_format=Regex("[a-z]+"), temperature=0.0)


def _searches(engine: Engine, folder: Path) -> None:
    """A search that finds something, and a question that nothing answers."""
    documents = folder / "documents"
    documents.mkdir()
    (documents / "holidays.md").write_text("# Holidays\n\nAll have 27 days of holiday a year.\n")
    with rag.RagIndex(folder / "documents.db", embedder=rag.HashingEmbedder()) as index:
        index.update(rag.FolderSource(documents))
        pipeline = rag.RagPipeline(engine, index)
        pipeline.retrieve("How many days of holiday?")
        with suppress(rag.InsufficientEvidenceError):
            pipeline.ask("Who painted the Mona Lisa?", max_tokens=2, **GREEDY)


def _cancelled_requests(engine: Engine) -> None:
    token = CancellationToken()
    engine.generate(
        PROMPT, max_tokens=9, cancellation=token, on_token=lambda _: token.cancel(), **GREEDY
    )
    full = engine.stream(
        PROMPT, max_tokens=50, max_buffered_tokens=2, backpressure="cancel", **GREEDY
    )
    while full.result is None:
        threading.Event().wait(0.001)
    full.close()


def _failing_request(engine: Engine) -> None:
    """The model computes what is no number."""
    runner = type(engine.model.runner)
    forward = runner.forward

    def broken(self: object, *args: object, **kwargs: object) -> object:
        answers = forward(self, *args, **kwargs)
        if self is not engine.model.runner:
            return answers
        return [np.full(engine.model.spec.vocab_size, np.nan, np.float32) for _ in answers]

    runner.forward = broken
    try:
        with suppress(InferenceError):
            engine.generate(PROMPT, max_tokens=4, **GREEDY)
    finally:
        runner.forward = forward


def _turned_away(engine: Engine) -> None:
    running = engine.stream(PROMPT, max_tokens=50, **GREEDY)
    next(running)
    with suppress(BackpressureError):
        engine.generate(PROMPT, **GREEDY)
    running.close()


def _evictions(engine: Engine) -> None:
    """Sessions that do not fit together: each new one drops the caches of the idle ones."""
    with ExitStack() as stack:
        for _ in range(3):
            session = stack.enter_context(engine.session())
            session.generate(PROMPT, max_tokens=20, **GREEDY)
