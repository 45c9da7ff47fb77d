"""``smallmind bench``."""

from __future__ import annotations

import json

import pytest

from smallmind import CancellationToken, Engine
from smallmind._cli.kernel_profile import KernelProfile
from smallmind_engine.kernels.ceilings import Ceilings, MeasuredCeilings

SHORT = ("--prompt-tokens", "40", "--tokens", "4", "--repeat", "2")


def test_it_tells_the_speed_of_prefill_and_decode(cli):
    ran = cli("bench", "MODEL", *SHORT, "--backend", "numpy")
    assert ran.exit_code == 0
    assert "tiny on numpy: 40 prompt tokens, 4 decoded, 2 runs" in ran.stdout
    assert [line.split()[0] for line in ran.stdout.splitlines()[2:]] == [
        "prefill",
        "decode",
        "time",
        "whole",
    ]


def test_json_has_every_run_and_the_medians(cli):
    document = json.loads(cli("bench", "MODEL", *SHORT, "--json").stdout)
    assert (document["prompt_tokens"], document["completion_tokens"]) == (40, 4)
    assert len(document["runs"]) == document["repeat"] == 2
    for name, median in document["median"].items():
        runs = [run[name] for run in document["runs"]]
        assert min(runs) <= median <= max(runs)
        assert median > 0


def test_an_interrupted_run_gives_no_figures(cli, monkeypatch):
    original = Engine.generate

    def cancelled(self, prompt, *, options):
        token: CancellationToken = options.cancellation
        token.cancel()
        return original(self, prompt, options=options)

    monkeypatch.setattr(Engine, "generate", cancelled)
    ran = cli("bench", "MODEL", *SHORT)
    assert (ran.exit_code, ran.stdout) == (130, "")
    assert "CANCELLED_BY_CALLER" in ran.stderr


@pytest.mark.parametrize("option", ["--prompt-tokens", "--tokens", "--repeat"])
def test_counts_have_a_least(cli, option):
    assert cli("bench", "MODEL", option, "0").exit_code == 2


@pytest.fixture
def known_ceilings(monkeypatch):
    """The machine is not measured in these tests."""
    fixed = Ceilings(2, 1e9, 2e9, 4e9)
    monkeypatch.setattr(MeasuredCeilings, "get", lambda self, what, threads, measure: fixed)


@pytest.mark.usefixtures("known_ceilings")
def test_operations_are_shown_for_prefill_and_decode(cli):
    ran = cli("bench", "MODEL", *SHORT, "--kernels", "--backend", "numpy")
    assert ran.exit_code == 0
    lines = ran.stdout.splitlines()
    assert any("The machine, 2 threads" in line for line in lines)
    assert any("4 Gop/s" in line for line in lines)
    for part in ("prefill", "decode"):
        assert f"tiny on numpy: operations of {part}" in lines
    names = [line.split()[0] for line in lines if line]
    for op in ("attention_block", "ffn_block", "output"):
        assert names.count(op) == 2


@pytest.mark.usefixtures("known_ceilings")
def test_operations_as_json_leave_the_first_run_out(cli):
    ran = cli("bench", "MODEL", *SHORT, "--kernels", "--backend", "numpy", "--json")
    document = json.loads(ran.stdout)
    assert document["machine"]["read_bytes_per_second"] == 1e9
    calls = {
        part: {row["op"]: row["calls"] for row in document[part]} for part in ("prefill", "decode")
    }
    assert calls["prefill"] == {"attention_block": 4, "ffn_block": 4, "output": 2}
    assert calls["decode"] == {"attention_block": 12, "ffn_block": 12, "output": 6}
    for row in (*document["prefill"], *document["decode"]):
        assert row["read_bytes_per_second"] > 0
        assert row["read_share"] > 0


def test_a_profile_can_be_closed_and_flushed_as_any_exporter():
    profile = KernelProfile()
    assert profile.flush(0.0).complete
    assert (profile.prefill, profile.decode, profile.measured) == ((), (), None)
    profile.close()
