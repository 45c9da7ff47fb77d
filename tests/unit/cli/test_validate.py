"""``smallmind validate``."""

from __future__ import annotations

import dataclasses
import json

import pytest
from junitparser import JUnitXml

from engines import TINY
from smallmind._cli.commands import validate as command
from smallmind._cli.validation_views import result_line, verdict
from smallmind.validation import (
    CheckResult,
    Figure,
    ValidationOptions,
    ValidationReport,
    judged,
    skipped,
)
from tiny_models import write_tiny_model

GOOD = CheckResult(
    name="kv-cache",
    outcome=judged("6 steps", [Figure(name="difference", value=1e-6, at_most=1e-3)]),
    duration_s=0.25,
)
BAD = CheckResult(
    name="determinism",
    outcome=judged("", [Figure(name="different", value=float("nan"), at_most=0)], ["it differs"]),
    duration_s=0.5,
)
LEFT = CheckResult(name="backends", outcome=skipped("there is one"), duration_s=0.0)


def report(*results: CheckResult, interrupted: bool = False) -> ValidationReport:
    return ValidationReport(
        model="tiny",
        path="/tiny.gguf",
        fingerprint="f00d",
        backend="numpy",
        references=("paper",),
        started=0.0,
        duration_s=1.5,
        results=results,
        interrupted=interrupted,
    )


@pytest.fixture
def finding(monkeypatch):
    """Makes the validation find these results; answers with what the runner was given."""

    def find(*results, interrupted=False):
        given = {}

        class Runner:
            def __init__(self, path, *, on_result, **kwargs):
                given.update(kwargs)
                self._told = on_result or (lambda _: None)

            def run(self):
                for result in results:
                    self._told(result)
                return report(*results, interrupted=interrupted)

        monkeypatch.setattr(command, "ValidationRunner", Runner)
        return given

    return find


def test_a_line_a_check_and_code_0_when_all_hold(cli, finding):
    finding(GOOD, LEFT)
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 0
    first, second, last = ran.stdout.splitlines()
    assert first.split() == ["ok", "kv-cache", "0.25", "s", "6", "steps"]
    assert second.split() == ["skip", "backends", "0.00", "s", "there", "is", "one"]
    assert last == "all 1 checks hold, 1 skipped: tiny on numpy, references: paper, 1.5 s"


def test_code_1_when_one_does_not(cli, finding):
    finding(GOOD, BAD)
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 1
    assert ran.stdout.splitlines()[1] == (
        "FAIL  determinism             0.50 s  it differs; different nan, at most 0"
        " [VALIDATION_FAILED]"
    )
    assert "1 checks fail (determinism), 1 hold: tiny" in ran.stdout


def test_code_2_when_there_is_nothing_to_check(cli, finding):
    finding(LEFT)
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 2
    assert "nothing was checked, 1 skipped" in ran.stdout


def test_an_interrupted_run_keeps_the_report_so_far(cli, finding, tmp_path):
    finding(GOOD, LEFT, interrupted=True)
    ran = cli("validate", "MODEL", "--json", str(tmp_path / "r.json"))
    assert ran.exit_code == 130
    assert "interrupted: 1 checks hold, 1 skipped" in ran.stdout
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["interrupted"], document["passed"]) == (True, False)


def test_options_reach_the_runner(cli, finding, tmp_path, monkeypatch):
    monkeypatch.setenv("SMALLMIND_GOLDEN_DIR", str(tmp_path))
    given = finding(GOOD)
    ran = cli(
        "validate", "MODEL", "--only", "k*", "--only", "speed", "--skip", "kv-cache", "--quick",
        "--min-decode", "5", "--min-prefill", "50", "--check-timeout", "9", "--backend", "numpy",
        "--context-length", "128",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.stderr
    assert given["options"] == ValidationOptions(
        only=("k*", "speed"),
        skip=("kv-cache",),
        quick=True,
        min_decode_speed=5.0,
        min_prefill_speed=50.0,
        check_timeout=9.0,
    )
    assert given["golden"] == [tmp_path]
    engine = given["engine_options"]
    assert (engine.backend, engine.context_length) == ("numpy", 128)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"model_sha256": 3}', b"\xff\xfe", b'{"model_sha256": "00"}']
)
def test_a_golden_file_that_is_none_is_code_2(cli, tmp_path, content):
    golden = tmp_path / "golden.json"
    golden.write_bytes(content)
    ran = cli("validate", "MODEL", "--golden", str(golden))
    assert ran.exit_code == 2
    assert "[GOLDEN_INVALID]" in ran.stderr


def test_a_check_that_there_is_not_is_code_2(cli):
    ran = cli("validate", "MODEL", "--only", "nonsense")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "there is no check 'nonsense'; there are: load, tokenizer-round-trip," in ran.stderr


def test_json_has_figures_and_limits(cli, finding):
    finding(GOOD, BAD)
    ran = cli("validate", "MODEL", "--json", "-")
    assert ran.exit_code == 1
    document = json.loads(ran.stdout)
    assert (document["passed"], document["references"]) == (False, ["paper"])
    good, bad = document["checks"]
    assert good == {
        "name": "kv-cache",
        "status": "passed",
        "reason": None,
        "message": "6 steps",
        "error_type": None,
        "duration_s": 0.25,
        "figures": [
            {
                "name": "difference",
                "value": 1e-6,
                "unit": "",
                "at_most": 1e-3,
                "at_least": None,
                "holds": True,
            }
        ],
    }
    assert (bad["reason"], bad["figures"][0]["value"]) == ("VALIDATION_FAILED", None)


def test_a_real_run_writes_both_files(cli, tmp_path):
    ran = cli(
        "validate", "MODEL", "--backend", "numpy", "--only", "kv-cache", "--only", "special-*",
        "--json", str(tmp_path / "r.json"), "--junit", str(tmp_path / "r.xml"),
    )  # fmt: skip
    assert ran.exit_code == 0, ran.stdout
    names = ["load", "special-tokens", "kv-cache"]
    document = json.loads((tmp_path / "r.json").read_text())
    assert [check["name"] for check in document["checks"]] == names
    (suite,) = JUnitXml.fromfile(str(tmp_path / "r.xml"))
    assert [case.name for case in suite] == names


def test_the_model_may_be_loaded_and_no_more(cli):
    ran = cli("validate", "MODEL", "--backend", "numpy", "--only", "load")
    assert ran.exit_code == 0, ran.stderr
    first, last = ran.stdout.splitlines()
    assert first.split()[:2] == ["ok", "load"]
    assert last.startswith("all 1 checks hold: tiny on numpy")


def test_the_code_of_an_error_is_told_once(cli, tmp_path):
    broken = dataclasses.replace(TINY, chat_template="{% nonsense %}")
    path = write_tiny_model(tmp_path / "broken.gguf", broken)
    ran = cli(
        "validate", str(path), "--backend", "numpy", "--only", "chat-template",
        "--junit", str(tmp_path / "r.xml"),
    )  # fmt: skip
    assert ran.exit_code == 1
    line = ran.stdout.splitlines()[1]
    assert line.endswith(" [CHAT_TEMPLATE_INVALID]")
    assert line.count("CHAT_TEMPLATE_INVALID") == 1
    (suite,) = JUnitXml.fromfile(str(tmp_path / "r.xml"))
    _, case = suite
    assert case.result[0].text.count("CHAT_TEMPLATE_INVALID") == 1


def test_junit_on_standard_output_is_all_there_is(cli):
    ran = cli("validate", "MODEL", "--backend", "numpy", "--only", "kv-cache", "--junit", "-")
    (suite,) = JUnitXml.fromstring(ran.stdout.encode())
    assert (suite.tests, suite.failures) == (2, 0)


def test_what_is_wrong_stands_out_on_a_terminal():
    assert result_line(GOOD).style == "green"
    assert "red" in result_line(BAD).style
    assert "red" in verdict(report(GOOD, BAD)).style
