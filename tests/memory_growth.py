"""Run as a program: load a model, fill one context, and print plan and growth as JSON.

Arguments: model file, backend, positions, and maybe layouts of weights. What a process has once for
all models is there before: Python's and NumPy's own, and the compiled kernels of those layouts.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import astuple

import smallmind
from smallmind_engine.memory import ProcessMemory, process_memory

SHORT_PROMPTS = (10, 50, 200)


def measured() -> ProcessMemory:
    gc.collect()
    memory = process_memory()
    assert memory is not None
    return memory


def make_kernels_ready(layouts: str) -> None:
    """As the first load of a process does."""
    from smallmind_engine.cache import KVType
    from smallmind_engine.kernels.numba_backend.compile_cache import compile_kernels
    from smallmind_engine.kernels.numba_backend.isa import choose_tier
    from smallmind_engine.kernels.numba_backend.kernel_table import all_layouts, kernel_sources
    from smallmind_engine.kernels.packing import SPLIT_Q8_0

    known = {layout.name: layout for layout in (*all_layouts(), SPLIT_Q8_0)}
    tier = choose_tier()
    wanted = [known[name] for name in layouts.split(",")]
    compile_kernels(kernel_sources(tier, wanted, [KVType.F16]), tier=tier)


def main(path: str, backend: str, positions: str, layouts: str = "") -> None:
    context = int(positions)
    if layouts:
        make_kernels_ready(layouts)
    before = measured()
    engine = smallmind.load(
        path,
        backend=backend,
        exporters=(),
        context_length=context,
        max_batch_size=1,
        prefix_cache=False,
    )
    loaded = measured()
    prompt = [100 + index % 5000 for index in range(context - 8)]
    for count in SHORT_PROMPTS:  # steps of every size have buffers of their own
        engine.generate(prompt[:count], max_tokens=1, temperature=0.0)
    with engine.session() as session:
        session.generate(prompt, max_tokens=7, temperature=0.0, ignore_eos=True)
        full = measured()
    shares = {category.value: size for category, size in engine.memory_plan.shares}
    json.dump(
        {
            "shares": shares,
            "before": astuple(before),
            "loaded": astuple(loaded),
            "full": astuple(full),
            "scratch": engine.model.runner.scratch_bytes,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
