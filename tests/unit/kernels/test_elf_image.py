"""Kernels in memory without LLVM: the same results, and what is unknown is left to LLVM."""

from __future__ import annotations

import ctypes
import platform
import struct
import subprocess
import sys

import pytest

pytest.importorskip("numba")

import numpy as np
from gguf import GGMLQuantizationType as Quant

from compiled_kernels import TIERS, Floats, Quantized, multiply
from packed_weights import random_packed
from smallmind_engine.kernels.numba_backend import elf_image
from smallmind_engine.kernels.numba_backend.elf_image import image_of
from smallmind_engine.kernels.numba_backend.emit.matmul import packed_product
from smallmind_engine.kernels.numba_backend.emit.numba_compiler import compile_function
from smallmind_engine.kernels.numba_backend.kernel_files import KernelCode
from smallmind_engine.kernels.numba_backend.machine_code import linked_by_llvm
from smallmind_engine.kernels.packing import LAYOUTS
from tiny_models import TinyModel, write_tiny_model

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="other systems have other object files, which LLVM loads",
)

LAYOUT = LAYOUTS["Q4_K"]


@pytest.fixture(scope="module")
def code() -> KernelCode:
    found, _ = compile_function(
        packed_product(TIERS[0], LAYOUT), "product_in_memory", 2, returns=False
    )
    return found


def products(address: int) -> Floats:
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(address)
    matrix = random_packed(LAYOUT, 37, 512)
    inputs = np.random.default_rng(1).normal(0, 1, (9, 512)).astype(np.float32)
    return multiply(call, matrix, Quantized.of(inputs))


def test_a_kernel_computes_what_it_computes_when_llvm_loads_it(code: KernelCode) -> None:
    image = image_of(code.machine_code, code.symbol)
    assert image is not None
    by_llvm = linked_by_llvm(code)
    np.testing.assert_array_equal(products(image.address), products(by_llvm.address))


def test_it_can_be_run_and_not_be_written_to(code: KernelCode) -> None:
    image = image_of(code.machine_code, code.symbol)
    assert image is not None
    with open("/proc/self/maps", encoding="ascii") as maps:  # noqa: PTH123 - a file of the system
        rights = [
            line.split()[1]
            for line in maps
            if (span := line.split()[0].split("-"))
            and int(span[0], 16) <= image.address < int(span[1], 16)
        ]
    assert rights == ["r-xp"]


def test_a_function_that_is_not_there_is_left_to_llvm(code: KernelCode) -> None:
    assert image_of(code.machine_code, "no_such_function") is None


def test_a_symbol_that_nobody_has_is_left_to_llvm() -> None:
    """What raises needs functions of Numba's, which only LLVM is told of."""

    def positive(number: int) -> int:
        if number < 0:
            raise ValueError
        return number

    raising, _ = compile_function(positive, "raising", 1, returns=True)
    assert raising.needs
    assert image_of(raising.machine_code, raising.symbol) is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        pytest.param(0, b"\x7fELG", id="no ELF"),
        pytest.param(4, b"\x01", id="of 32 bits"),
        pytest.param(5, b"\x02", id="big-endian"),
        pytest.param(16, b"\x03", id="a library"),
        pytest.param(18, b"\xb7", id="of another processor"),
    ],
)
def test_other_files_are_left_to_llvm(code: KernelCode, at: int, value: bytes) -> None:
    content = code.machine_code
    changed = content[:at] + value + content[at + len(value) :]
    assert image_of(changed, code.symbol) is None


def test_other_relocations_are_left_to_llvm(code: KernelCode) -> None:
    content = bytearray(code.machine_code)
    (sections_at,) = struct.unpack_from("<Q", content, 40)
    (count,) = struct.unpack_from("<H", content, 60)
    changed = 0
    for index in range(count):
        at = sections_at + 64 * index
        (kind,) = struct.unpack_from("<I", content, at + 4)
        (offset, size) = struct.unpack_from("<QQ", content, at + 24)
        if kind == 4:
            for place in range(offset, offset + size, 24):
                struct.pack_into("<I", content, place + 8, 9)
                changed += 1
    assert changed
    assert image_of(bytes(content), code.symbol) is None


def test_a_file_that_is_cut_short_is_left_to_llvm(code: KernelCode) -> None:
    size = len(code.machine_code)
    for end in (0, 10, 63, 64, size // 2, size - 65):
        assert image_of(code.machine_code[:end], code.symbol) is None


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_other_processors_are_left_to_llvm(
    code: KernelCode, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(elf_image.platform, "machine", lambda: machine)
    assert image_of(code.machine_code, code.symbol) is None


def test_a_system_that_lets_nobody_run_what_was_written_leaves_it_to_llvm(
    code: KernelCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elf_image, "_make_executable", lambda base, size: False)
    assert image_of(code.machine_code, code.symbol) is None


def test_a_model_whose_kernels_are_on_disk_needs_neither_numba_nor_llvm(split_model: str) -> None:
    program = (
        "import sys, smallmind\n"
        f"with smallmind.load({split_model!r}, backend='numba', exporters=()) as engine:\n"
        "    engine.generate('a', max_tokens=2)\n"
        "print(sorted({'numba', 'llvmlite'} & {name.split('.')[0] for name in sys.modules}))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=240
        ).stdout.strip()
        for _ in range(2)
    ]
    assert outputs[1] == "[]"


@pytest.fixture
def split_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    return str(write_tiny_model(folder / "tiny.gguf", TinyModel(qtype=Quant.Q8_0)))
