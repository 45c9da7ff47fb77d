"""The console script and the extra that it needs."""

from __future__ import annotations

import runpy
import sys

import pytest

from smallmind._cli import main


@pytest.fixture
def without_app(monkeypatch):
    """As if the modules that need the extra had never been imported."""
    for name in [name for name in sys.modules if name.startswith("smallmind._cli.")]:
        if name not in {"smallmind._cli.entry", "smallmind._cli.exit_codes"}:
            monkeypatch.delitem(sys.modules, name)
    return monkeypatch


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_extra_is_one_line_that_names_the_remedy(package, without_app, capsys):
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        without_app.delitem(sys.modules, name)
    without_app.setitem(sys.modules, package, None)
    assert main(["version"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert 'pip install "smallmind[cli]"' in err


def test_a_module_that_is_missing_for_another_reason_is_an_error(without_app):
    without_app.setitem(sys.modules, "smallmind._registry", None)
    with pytest.raises(ModuleNotFoundError):
        main(["version"])


def test_the_exit_code_is_returned(capsys):
    assert main(["version"]) == 0
    assert main(["no-such-command"]) == 2
    assert "smallmind" in capsys.readouterr().out


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["smallmind", "version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("smallmind", run_name="__main__")
    assert ended.value.code == 0
    assert "smallmind" in capsys.readouterr().out
