"""Telemetry: reason codes, errors, events, the bus that carries them, and the exporter protocol."""

from smallmind_engine.telemetry.batch_events import BatchStepped
from smallmind_engine.telemetry.bus import Emitter, EventBus
from smallmind_engine.telemetry.clock import ANCHOR, ClockAnchor, now_ns
from smallmind_engine.telemetry.console_logger import ConsoleRuntimeLogger
from smallmind_engine.telemetry.correlation import (
    Correlation,
    TraceContext,
    correlated,
    current_correlation,
    new_correlation,
    parse_traceparent,
)
from smallmind_engine.telemetry.distribution import Distribution
from smallmind_engine.telemetry.embedding_events import EmbeddingEnded
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ChatStoreError,
    ChatTemplateError,
    ClosedError,
    ConcurrentSessionUseError,
    ConfigError,
    ContextOverflowError,
    EventLogError,
    ExporterError,
    GgufFormatError,
    InferenceError,
    MemoryBudgetError,
    MissingExtraError,
    ModelFileError,
    OperationCancelledError,
    RegistryError,
    SmallMindError,
    TokenizerError,
    ToolError,
    UnsupportedModelError,
    ValidationDataError,
)
from smallmind_engine.telemetry.events import (
    BackpressureApplied,
    Degraded,
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    KVCacheEvicted,
    KVCacheLookup,
    KVCacheUsage,
    LogLevel,
    MemoryBudgetEvent,
    MemoryHighWater,
    ModelLoadEnded,
    ModelLoadProgress,
    ModelLoadStarted,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
    RuntimeLogEvent,
    TokenGenerated,
    TokenizerDiagnosed,
)
from smallmind_engine.telemetry.exporter import (
    Exporter,
    ExporterHealth,
    FlushResult,
    Gathering,
    Patient,
    taken_from,
)
from smallmind_engine.telemetry.fork import Renewable, renew_in_child
from smallmind_engine.telemetry.grammar_events import GrammarApplied
from smallmind_engine.telemetry.health import HealthAware, LossAware
from smallmind_engine.telemetry.in_memory_metrics import InMemoryRuntimeMetrics, MetricsSnapshot
from smallmind_engine.telemetry.insight_events import (
    RuntimeStalled,
    StallCause,
    TokenQuality,
)
from smallmind_engine.telemetry.kernel_events import (
    KernelExecuted,
    KernelsPrepared,
    MachineMeasured,
)
from smallmind_engine.telemetry.kinds import ALL_KINDS, BY_NAME_ONLY, NO_KINDS, EventKind
from smallmind_engine.telemetry.log_rendering import as_log_event
from smallmind_engine.telemetry.logger import NullRuntimeLogger, RuntimeLogger, RuntimeLoggerAdapter
from smallmind_engine.telemetry.logger_exporter import LoggerExporter
from smallmind_engine.telemetry.memory_events import MemoryUsage
from smallmind_engine.telemetry.metrics import MetricsExporter, NullRuntimeMetrics, RuntimeMetrics
from smallmind_engine.telemetry.phases import Phase
from smallmind_engine.telemetry.queued import QueuedExporter
from smallmind_engine.telemetry.reason_rows import Reason
from smallmind_engine.telemetry.reason_table import REASONS
from smallmind_engine.telemetry.reasons import (
    DegradeReason,
    ReasonCode,
    RequestStatus,
    StopReason,
)
from smallmind_engine.telemetry.recording_events import RequestRecorded
from smallmind_engine.telemetry.retrieval_events import (
    RetrievalEnded,
    RetrievalStarted,
    publish_retrieval_ended,
    publish_retrieval_started,
)
from smallmind_engine.telemetry.roofline import RooflineRow, roofline_rows
from smallmind_engine.telemetry.snapshots import SNAPSHOT_SCHEMA, Snapshot
from smallmind_engine.telemetry.stdlib_logging import BusLoggingHandler, StdlibLoggingExporter
from smallmind_engine.telemetry.subscription import Subscription

__all__ = [
    "ALL_KINDS",
    "ANCHOR",
    "BY_NAME_ONLY",
    "NO_KINDS",
    "REASONS",
    "SNAPSHOT_SCHEMA",
    "BackpressureApplied",
    "BackpressureError",
    "BatchStepped",
    "BusLoggingHandler",
    "ChatStoreError",
    "ChatTemplateError",
    "ClockAnchor",
    "ClosedError",
    "ConcurrentSessionUseError",
    "ConfigError",
    "ConsoleRuntimeLogger",
    "ContextOverflowError",
    "Correlation",
    "DegradeReason",
    "Degraded",
    "Distribution",
    "EmbeddingEnded",
    "Emitter",
    "Event",
    "EventBus",
    "EventKind",
    "EventLogError",
    "Exporter",
    "ExporterError",
    "ExporterHealth",
    "FirstToken",
    "FlushResult",
    "Gathering",
    "GgufFormatError",
    "GrammarApplied",
    "HealthAware",
    "InMemoryRuntimeMetrics",
    "InferenceError",
    "InferenceStarted",
    "InferenceStopped",
    "KVCacheEvicted",
    "KVCacheLookup",
    "KVCacheUsage",
    "KernelExecuted",
    "KernelsPrepared",
    "LogLevel",
    "LoggerExporter",
    "LossAware",
    "MachineMeasured",
    "MemoryBudgetError",
    "MemoryBudgetEvent",
    "MemoryHighWater",
    "MemoryUsage",
    "MetricsExporter",
    "MetricsSnapshot",
    "MissingExtraError",
    "ModelFileError",
    "ModelLoadEnded",
    "ModelLoadProgress",
    "ModelLoadStarted",
    "NullRuntimeLogger",
    "NullRuntimeMetrics",
    "OperationCancelledError",
    "Patient",
    "Phase",
    "PrefillEnded",
    "QueuedExporter",
    "Reason",
    "ReasonCode",
    "RegistryError",
    "Renewable",
    "RequestAdmitted",
    "RequestQueued",
    "RequestRecorded",
    "RequestRejected",
    "RequestStatus",
    "RetrievalEnded",
    "RetrievalStarted",
    "RooflineRow",
    "RuntimeLogEvent",
    "RuntimeLogger",
    "RuntimeLoggerAdapter",
    "RuntimeMetrics",
    "RuntimeStalled",
    "SmallMindError",
    "Snapshot",
    "StallCause",
    "StdlibLoggingExporter",
    "StopReason",
    "Subscription",
    "TokenGenerated",
    "TokenQuality",
    "TokenizerDiagnosed",
    "TokenizerError",
    "ToolError",
    "TraceContext",
    "UnsupportedModelError",
    "ValidationDataError",
    "as_log_event",
    "correlated",
    "current_correlation",
    "new_correlation",
    "now_ns",
    "parse_traceparent",
    "publish_retrieval_ended",
    "publish_retrieval_started",
    "renew_in_child",
    "roofline_rows",
    "taken_from",
]
