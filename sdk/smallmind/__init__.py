"""Run GGUF language models in-process, and see everything they do.

>>> import smallmind
>>> with smallmind.load("smollm2", exporters=["prometheus"]) as engine:  # doctest: +SKIP
...     print(engine.generate("The capital of France is", max_tokens=8, temperature=0.0).text)
"""

from smallmind._chat import ChatClient
from smallmind._chat_options import ChatOptions
from smallmind._chat_result import ChatResult
from smallmind._engine import Engine
from smallmind._estimate import estimate_memory
from smallmind._load import load
from smallmind._session import Session
from smallmind._version import __version__
from smallmind_engine.control import CancellationToken
from smallmind_engine.kernels import WeightsMode
from smallmind_engine.memory import MemoryBudgetMode, MemoryCategory, MemoryPlan
from smallmind_engine.runtime import (
    BackpressurePolicy,
    ContextOverflow,
    Detail,
    EngineOptions,
    EngineStats,
    GenerationOptions,
    GenerationResult,
    StreamChunk,
    Timings,
    TokenStream,
    Usage,
)
from smallmind_engine.telemetry import (
    Correlation,
    DegradeReason,
    Phase,
    ReasonCode,
    SmallMindError,
    StopReason,
)
from smallmind_engine.tokenizers import TokenizerMode

__all__ = [
    "BackpressurePolicy",
    "CancellationToken",
    "ChatClient",
    "ChatOptions",
    "ChatResult",
    "ContextOverflow",
    "Correlation",
    "DegradeReason",
    "Detail",
    "Engine",
    "EngineOptions",
    "EngineStats",
    "GenerationOptions",
    "GenerationResult",
    "MemoryBudgetMode",
    "MemoryCategory",
    "MemoryPlan",
    "Phase",
    "ReasonCode",
    "Session",
    "SmallMindError",
    "StopReason",
    "StreamChunk",
    "Timings",
    "TokenStream",
    "TokenizerMode",
    "Usage",
    "WeightsMode",
    "__version__",
    "estimate_memory",
    "load",
]
