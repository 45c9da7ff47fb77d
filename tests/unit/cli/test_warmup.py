"""``smallmind warmup``, with a backend that only pretends to compile."""

from __future__ import annotations

import itertools
import json
import signal
import time
from pathlib import Path

import pytest

from smallmind_engine.kernels import CompileReport, registry

CACHE = Path("/cache/kernels/0123")


class Compiler:
    """Tells its progress, and answers with a report."""

    def __init__(self, **changes):
        self.asked = []
        fields = {"compiled": 2, "cached": 1, "seconds": 0.25, "directory": CACHE}
        self.report = CompileReport(**{**fields, **changes})

    def __call__(self, quant_types, on_progress):
        self.asked.append(quant_types)
        for done in range(4):
            on_progress("product_q4_1", done, 3)
        return self.report


@pytest.fixture
def compiler(monkeypatch):
    """Puts a compiler in the place of the real one."""

    def put(**changes):
        made = Compiler(**changes)
        monkeypatch.setattr(registry, "_PREPARATIONS", {"numba": lambda: made})
        return made

    return put


def test_without_a_model_the_kernels_of_all_types_are_compiled(cli, compiler):
    made = compiler()
    ran = cli("warmup")
    assert (ran.exit_code, made.asked) == (0, [None])
    assert ran.stdout.splitlines() == [
        "3 kernels ready in 0.2 s: 2 compiled, 1 found in the cache",
        str(CACHE),
    ]
    assert ran.stderr == "compiling kernels (3)\n"


def test_with_models_only_what_they_need_is_compiled(cli, compiler):
    made = compiler()
    assert cli("warmup", "--model", "MODEL", "--model", "MODEL").exit_code == 0
    assert made.asked == [["F32"]]


def test_json_has_every_figure(cli, compiler):
    compiler(loaded=1)
    document = json.loads(cli("warmup", "--model", "MODEL", "--json").stdout)
    assert document == {
        "backend": "numba",
        "quant_types": ["F32"],
        "report": {
            "compiled": 2,
            "cached": 1,
            "seconds": 0.25,
            "directory": str(CACHE),
            "problem": None,
            "loaded": 1,
        },
    }


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_kernels_that_cannot_be_kept_fail_the_build_of_an_image(cli, compiler, option):
    compiler(directory=None, problem="/cache cannot be written: Read-only file system")
    ran = cli("warmup", *option)
    assert ran.exit_code == 1
    assert "not kept: /cache cannot be written" in ran.stderr


def test_without_the_extra_the_error_names_it(cli, monkeypatch):
    def missing():
        raise ModuleNotFoundError(name="numba")

    monkeypatch.setattr(registry, "_PREPARATIONS", {"numba": missing})
    ran = cli("warmup")
    assert ran.exit_code == 2
    assert 'pip install "smallmind[fast]"' in ran.stderr


def test_a_backend_without_kernels_is_refused(cli):
    ran = cli("warmup", "--backend", "numpy")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "numba" in ran.stderr


def test_an_interrupt_stops_between_two_kernels(cli, monkeypatch):
    def prepare(_, on_progress):
        on_progress("product_q4_1", 0, 3)
        signal.raise_signal(signal.SIGINT)
        for done in itertools.count(1):  # ends with the error that the progress raises
            on_progress("product_q4_1", min(done, 3), 3)
            time.sleep(0.001)

    monkeypatch.setattr(registry, "_PREPARATIONS", {"numba": lambda: prepare})
    ran = cli("warmup")
    assert ran.exit_code == 130
    assert "compiling kernels was stopped" in ran.stderr


def test_an_unknown_model_is_refused_before_anything_is_compiled(cli, compiler):
    made = compiler()
    assert cli("warmup", "--model", "no-such-model").exit_code == 2
    assert made.asked == []
