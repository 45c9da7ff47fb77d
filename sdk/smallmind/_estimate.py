"""What a model would take in memory, without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from smallmind._load import EngineKwargs, load_options
from smallmind._merged_options import merged_options
from smallmind._registry import resolve
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import choose_backend
from smallmind_engine.memory import MemoryPlan
from smallmind_engine.model import GgufWeights, plan_run, transformer_spec
from smallmind_engine.runtime import EngineOptions


def estimate_memory(
    path_or_name: str | Path,
    *,
    options: EngineOptions | None = None,
    cancellation: CancellationToken | None = None,
    timeout: float | None = None,
    **kwargs: Unpack[EngineKwargs],
) -> MemoryPlan:
    """What ``load`` with the same arguments would take, found out from the file's header alone.

    Args:
        path_or_name: as for ``load``; a model of the registry is fetched when it is not there.
        options: see ``EngineOptions``.
        cancellation: stops the work.
        timeout: seconds until it is stopped.
        kwargs: fields of ``EngineOptions``, one by one; they win over ``options``.

    Returns:
        Bytes by category, the limit that holds here, and what a best-effort budget gives up.

    Raises:
        MemoryBudgetError: the model does not fit the budget of the options.
        RegistryError: the name is unknown, or the download failed.
        ModelFileError: the file is damaged or incomplete.
        UnsupportedModelError: it is sound, but does not run here.
        OperationCancelledError: cancelled, or out of time.
    """
    chosen = merged_options(EngineOptions, options, kwargs)
    limit = WorkLimit.within(timeout, cancellation)
    path = resolve(path_or_name, limit=limit)
    how = load_options(chosen)
    with GgufFile.open(path, limit=limit) as file:
        spec = transformer_spec(file.metadata, GgufWeights(file), how.context_length)
        backend = choose_backend(how.backend).backend
        return plan_run(file, spec, how, backend, mode=chosen.memory_budget_mode).plan
