"""``smallmind validate``."""

from __future__ import annotations

import json

import pytest

from smallmind import validation
from smallmind._cli.validation_views import check_line, verdict
from smallmind.validation import ValidationCheck, ValidationReport
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ValidationDataError

GOOD = ValidationCheck("logprobs", 0.001, 0.002, "nats", "10 compared")
BAD = ValidationCheck("greedy", 0.5, 0.02, "logits", "step 3 of case 0")
LOST = ValidationCheck("perplexity", float("nan"), 0.03, "", "no number")


def report(*checks: ValidationCheck) -> ValidationReport:
    return ValidationReport("tiny", "numpy", "paper", checks)


@pytest.fixture
def finding(monkeypatch):
    """Makes the validation find these checks."""

    def find(*checks):
        def validate(path, golden, *, backend, on_check):
            for check in checks if on_check else ():
                on_check(check)
            return report(*checks)

        monkeypatch.setattr(validation, "validate", validate)

    return find


def test_a_line_a_section_and_code_0_when_all_hold(cli, finding):
    finding(GOOD)
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 0
    line, last = ran.stdout.splitlines()
    assert line.split() == ["ok", "logprobs", "0.001", "<=", "0.002", "nats", "10", "compared"]
    assert last == "all 1 checks hold: tiny on numpy, reference: paper"


def test_code_1_when_one_does_not(cli, finding):
    finding(GOOD, BAD)
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 1
    assert ran.stdout.splitlines()[1].startswith("FAIL  greedy")
    assert "1 of 2 checks fail (greedy)" in ran.stdout


def test_code_2_when_there_is_nothing_to_compare(cli, finding):
    finding()
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 2
    assert "nothing was checked" in ran.stdout


def test_code_2_when_it_could_not_compare(cli, monkeypatch):
    def refuse(*_, **__):
        raise ValidationDataError(ReasonCode.GOLDEN_INVALID, "made for another model")

    monkeypatch.setattr(validation, "validate", refuse)
    ran = cli("validate", "MODEL", "--golden", "x.json", "--json")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == "error: made for another model [GOLDEN_INVALID]\n"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"model_sha256": 3}', b"\xff\xfe", b'{"model_sha256": "00"}']
)
def test_a_golden_file_that_is_none_is_code_2(cli, tmp_path, content):
    golden = tmp_path / "golden.json"
    golden.write_bytes(content)
    ran = cli("validate", "MODEL", "--golden", str(golden))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "[GOLDEN_INVALID]" in ran.stderr


def test_json_has_figures_and_limits(cli, finding):
    finding(BAD, LOST)
    ran = cli("validate", "MODEL", "--json")
    assert ran.exit_code == 1
    document = json.loads(ran.stdout)
    assert document["passed"] is False
    assert document["checks"][0] == {
        "name": "greedy",
        "figure": 0.5,
        "limit": 0.02,
        "unit": "logits",
        "detail": "step 3 of case 0",
        "passed": False,
    }
    assert document["checks"][1]["figure"] is None


def test_a_real_run_without_a_golden_file_holds(cli):
    ran = cli("validate", "MODEL")
    assert ran.exit_code == 0, ran.stdout
    assert "ok" in ran.stdout


def test_what_is_wrong_stands_out_on_a_terminal():
    assert check_line(GOOD).style == "green"
    assert "red" in check_line(BAD).style
    assert "red" in verdict(report(GOOD, BAD)).style
