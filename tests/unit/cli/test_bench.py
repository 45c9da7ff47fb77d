"""``smallmind bench``."""

from __future__ import annotations

import json

import pytest

from smallmind import CancellationToken, Engine

SHORT = ("--prompt-tokens", "40", "--tokens", "4", "--repeat", "2")


def test_it_tells_the_speed_of_prefill_and_decode(cli):
    ran = cli("bench", "MODEL", *SHORT)
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
