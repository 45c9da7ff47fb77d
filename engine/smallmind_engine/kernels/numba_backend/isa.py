"""Which instructions the kernels use: found from the CPU, or forced by ``SMALLMIND_ISA``."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from smallmind_engine.kernels.numba_backend.target_cpu import target_features
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

VARIABLE: Final = "SMALLMIND_ISA"


class IsaTier(StrEnum):
    """Ways to multiply bytes, best first. All give the same integers."""

    AVX512_VNNI = "avx512-vnni"  # vpdpbusd on 64 bytes
    AVX_VNNI = "avx-vnni"  # vpdpbusd on 32 bytes
    AVX2 = "avx2"  # vpmaddubsw and vpmaddwd
    NEON_DOTPROD = "neon-dotprod"  # sdot
    PORTABLE = "portable"  # whatever LLVM makes of plain arithmetic


_NEEDS: Final[Mapping[IsaTier, tuple[frozenset[str], ...]]] = {
    # Any one of the sets will do.
    IsaTier.AVX512_VNNI: (frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"}),),
    IsaTier.AVX_VNNI: (
        frozenset({"avx2", "fma", "f16c", "avxvnni"}),
        frozenset({"avx2", "fma", "f16c", "avx512vl", "avx512vnni"}),
    ),
    IsaTier.AVX2: (frozenset({"avx2", "fma", "f16c"}),),
    IsaTier.NEON_DOTPROD: (frozenset({"neon", "dotprod"}),),
    IsaTier.PORTABLE: (frozenset(),),
}

_X86: Final = frozenset({"x86_64", "amd64"})


def host_features() -> frozenset[str]:
    """LLVM's names of what the CPU can do, as far as Numba's settings allow to use it."""
    return frozenset(name[1:] for name in target_features().split(",") if name.startswith("+"))


def usable_tiers(features: frozenset[str]) -> tuple[IsaTier, ...]:
    """The tiers that a CPU with these features runs, best first."""
    return tuple(
        tier
        for tier, choices in _NEEDS.items()
        if any(needed <= features for needed in choices)
        and (tier is not IsaTier.NEON_DOTPROD or platform.machine().lower() not in _X86)
    )


def choose_tier() -> IsaTier:
    """The best tier of this CPU, or the one that ``SMALLMIND_ISA`` names.

    Raises:
        ConfigError: the variable names no tier, or one that this CPU does not run.
    """
    usable = usable_tiers(host_features())
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if not wanted:
        return usable[0]
    if wanted not in usable:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"{VARIABLE} is {wanted!r}; this CPU runs {', '.join(usable)}",
            hint=f"unset {VARIABLE}, and the best one is taken",
            option=VARIABLE,
            value=wanted,
        )
    return IsaTier(wanted)
