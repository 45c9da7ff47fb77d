"""Tiers of instructions: chosen by what there is, forced by a variable, and true to their name."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from llvmlite import binding, ir
from numba import cfunc, types

import compiled_kernels
from compiled_kernels import TIERS, Quantized, multiply, product
from packed_weights import random_packed
from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend import isa
from smallmind_engine.kernels.numba_backend.emit import attention_ir, kv_store_ir
from smallmind_engine.kernels.numba_backend.emit.kv_store_ir import store_row
from smallmind_engine.kernels.numba_backend.emit.matmul import _Product, by_count
from smallmind_engine.kernels.numba_backend.emit.vector_ir import I64, Code, Value
from smallmind_engine.kernels.numba_backend.isa import IsaTier, choose_tier, usable_tiers
from smallmind_engine.kernels.packing import LAYOUTS
from smallmind_engine.telemetry import ConfigError, ReasonCode

AVX2 = frozenset({"avx", "avx2", "fma", "f16c"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl"}
AARCH64 = "aarch64-unknown-linux-gnu"


# -- which tier ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "best"),
    [
        (AVX512 | {"avx512vnni"}, IsaTier.AVX512_VNNI),
        (AVX512, IsaTier.AVX2),
        (AVX2 | {"avxvnni"}, IsaTier.AVX_VNNI),
        (AVX2, IsaTier.AVX2),
        (AVX2 - {"fma"}, IsaTier.PORTABLE),
        (AVX2 - {"f16c"}, IsaTier.PORTABLE),
        (frozenset(), IsaTier.PORTABLE),
    ],
)
def test_the_best_tier_is_the_first_that_has_all_it_needs(
    features: frozenset[str], best: IsaTier
) -> None:
    assert usable_tiers(features)[0] is best


def test_arm_has_its_own_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = frozenset({"neon", "dotprod"})
    monkeypatch.setattr(isa.platform, "machine", lambda: "aarch64")
    assert usable_tiers(arm) == (IsaTier.NEON_DOTPROD, IsaTier.PORTABLE)
    assert usable_tiers(arm - {"dotprod"}) == (IsaTier.PORTABLE,)


def test_every_cpu_runs_the_portable_tier() -> None:
    assert TIERS[-1] is IsaTier.PORTABLE


def test_without_a_wish_the_best_tier_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    assert choose_tier() is TIERS[0]


@pytest.mark.parametrize("tier", TIERS)
def test_the_variable_forces_a_tier(tier: IsaTier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(isa.VARIABLE, f" {tier.upper()} ")
    assert choose_tier() is tier


@pytest.mark.parametrize("wanted", ["avx1024", "neon", "0", "avx2,avx512"])
def test_a_tier_that_there_is_none_of_is_refused(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(isa.VARIABLE, wanted)
    with pytest.raises(ConfigError, match="portable") as refused:
        choose_tier()
    assert refused.value.reason is ReasonCode.OPTION_INVALID
    assert wanted in str(refused.value)


def test_a_tier_that_this_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "host_features", lambda: AVX2)
    monkeypatch.setenv(isa.VARIABLE, "avx512-vnni")
    with pytest.raises(ConfigError, match="this CPU runs avx2, portable"):
        choose_tier()


def test_features_that_numba_is_told_to_use_are_those_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx2,-avx512f,+fma,+f16c")
    assert isa.host_features() == {"avx2", "fma", "f16c"}


def test_features_that_numba_is_told_to_leave_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With instructions that Numba has switched off, LLVM would end the process."""
    monkeypatch.delenv("NUMBA_CPU_FEATURES", raising=False)
    monkeypatch.setenv("NUMBA_ENABLE_AVX", "0")
    assert not [name for name in isa.host_features() if name.startswith("avx")]


@pytest.mark.parametrize("setting", [{}, {"NUMBA_CPU_NAME": "generic"}, {"NUMBA_ENABLE_AVX": "0"}])
def test_the_cpu_is_the_one_that_numba_compiles_for(setting: dict[str, str]) -> None:
    program = (
        "from smallmind_engine.kernels.numba_backend.target_cpu import target_machine\n"
        "ours = target_machine()\n"
        "from numba.core.registry import cpu_target\n"
        "theirs = cpu_target.target_context.codegen().magic_tuple()\n"
        "assert tuple(ours) == tuple(theirs), (ours, theirs)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=120, env={**os.environ, **setting}
    )


# -- x86 without AVX-512 --------------------------------------------------------------------------

HASWELL = "+64bit,+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3"


def digest_of_a_product(tier: IsaTier) -> str:
    matrix = random_packed(LAYOUTS["Q4_0"], 37, 256)
    inputs = np.random.default_rng(0).normal(0, 1, (6, 256)).astype(np.float32)
    out = multiply(product(tier, matrix.layout), matrix, Quantized.of(inputs))
    return hashlib.sha256(out.tobytes()).hexdigest()


IN_ANOTHER_PROCESS = """
from numba import cfunc, types
from compiled_kernels import host_features, usable_tiers
from smallmind_engine.kernels.numba_backend.isa import choose_tier
from smallmind_engine.kernels.numba_backend.emit.matmul import packed_product
from smallmind_engine.kernels.packing import LAYOUTS
from test_numba_isa import digest_of_a_product
tier = choose_tier()
code = cfunc(types.void(types.int64, types.int64))(packed_product(tier, LAYOUTS["Q4_0"]))
assembly = code._library.get_asm_str()
print(tier, *(word for word in ("ymm", "zmm", "vpmaddubsw", "vpdpbusd") if word in assembly))
print(digest_of_a_product(tier))
"""


@pytest.mark.skipif(IsaTier.AVX2 not in TIERS, reason="needs a CPU with AVX2")
@pytest.mark.parametrize(
    ("cpu", "features", "found"),
    [("haswell", HASWELL, "avx2 ymm vpmaddubsw"), ("generic", "", "portable")],
)
def test_an_older_cpu_gets_only_its_own_instructions_and_the_same_bits(
    cpu: str, features: str, found: str, tmp_path: Path
) -> None:
    tests = Path(compiled_kernels.__file__).parent
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "PYTHONPATH": os.pathsep.join([str(tests), str(Path(__file__).parent)]),
    }
    environment.pop(isa.VARIABLE, None)
    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    first, digest = run.stdout.split("\n")[:2]
    assert first == found
    assert digest == digest_of_a_product(TIERS[0])


# -- ARM ----------------------------------------------------------------------------------------


def arm_assembly(emit: Callable[[Code, Value, Value], None]) -> str:
    """What LLVM makes of a function of two addresses for an ARM CPU with dot products."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple(AARCH64)
    except RuntimeError:
        pytest.skip("this LLVM has no ARM target")
    module = ir.Module(name="arm")
    module.triple = AARCH64
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64, I64]), "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(Code(builder), *function.args)
    builder.ret_void()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    machine = target.create_target_machine(cpu="generic", features="+dotprod,+neon", opt=3)
    assembly: str = machine.emit_assembly(parsed)
    return assembly


def calls(assembly: str) -> list[str]:
    return [line for line in assembly.splitlines() if line.split()[:1] == ["bl"]]


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q6_K", "IQ4_NL", "Q8_0_SPLIT"])
def test_products_for_arm_multiply_with_sdot(name: str) -> None:
    layout = LAYOUTS[name]

    def emit(code: Code, matrix: Value, job: Value) -> None:
        made = _Product(code, IsaTier.NEON_DOTPROD, layout, matrix, job)
        by_count(code, job, made.few, made.many)

    assembly = arm_assembly(emit)
    assert "sdot" in assembly
    assert ("tbl" in assembly) == layout.codebook
    assert calls(assembly) == []


@pytest.mark.parametrize("kind", KVType)
def test_attention_for_arm_calls_no_c_function(kind: KVType) -> None:
    def emit(code: Code, job: Value, _: Value) -> None:
        attention_ir._Attention(code, IsaTier.NEON_DOTPROD, kind, 2, job).emit()

    assert calls(arm_assembly(emit)) == []


def test_halves_for_arm_are_rounded_by_an_instruction() -> None:
    def emit(code: Code, source: Value, target: Value) -> None:
        value = code.load(ir.FloatType(), source, 4)
        code.store(kv_store_ir._half(code, IsaTier.NEON_DOTPROD, value), target, 2)

    assembly = arm_assembly(emit)
    assert "fcvt" in assembly
    assert calls(assembly) == []


def test_halves_of_the_portable_tier_are_made_without_a_conversion() -> None:
    """LLVM would turn one into a call of a function that need not be there."""
    made = store_row(IsaTier.PORTABLE, KVType.F16)
    code = cfunc(types.void(types.int64, types.int64))(made)
    assert "fptrunc" not in code.inspect_llvm()
