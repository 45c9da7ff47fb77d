"""The distribution as users get it: built, installed elsewhere, imported from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("smallmind", "smallmind_engine", "smallmind_exporters")
SOURCES = ("sdk/smallmind", "engine/smallmind_engine", "exporters/smallmind_exporters")
OPTIONAL = ("prometheus_client", "structlog", "opentelemetry", "typer", "rich", "huggingface_hub")
INSTALL_TIMEOUT_S = 300


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program outside the repository's reach; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_TIMEOUT_S,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built in isolation as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY, cwd=folder)
    (path,) = folder.glob("smallmind-*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    scripts = sysconfig.get_path("scripts", "venv", {"base": str(folder / "venv")})
    python = Path(scripts) / Path(sys.executable).name
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[cli,prometheus]", cwd=folder)
    return python


def test_the_wheel_holds_every_module_and_the_typing_markers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set()
    for source in SOURCES:
        package = REPOSITORY / source
        files = [*package.rglob("*.py"), package / "py.typed"]
        expected |= {str(path.relative_to(package.parent)) for path in files}
    assert expected <= names
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)


def test_the_wheel_carries_licence_and_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert any(name.endswith("/LICENSE") for name in names)
    assert "License-Expression: MIT" in text
    assert "Requires-Python: >=3.11" in text


def test_the_installed_packages_import_from_where_they_were_installed(python: Path) -> None:
    code = (
        "import importlib, json\n"
        f"print(json.dumps([importlib.import_module(n).__file__ for n in {PACKAGES!r}]))"
    )
    files = json.loads(run(python, "-c", code, cwd=python.parent))
    assert all("site-packages" in file for file in files)
    assert not any(Path(file).is_relative_to(REPOSITORY) for file in files)


def test_the_console_script_is_there_and_answers(python: Path) -> None:
    assert "Usage" in run(python.with_name("smallmind"), "--help", cwd=python.parent)


def test_every_entry_point_of_the_exporters_loads(python: Path) -> None:
    code = (
        "import json\n"
        "from importlib.metadata import entry_points\n"
        "found = entry_points(group='smallmind.exporters')\n"
        "print(json.dumps({e.name: callable(e.load()) for e in found}))"
    )
    loaded = json.loads(run(python, "-c", code, cwd=python.parent))
    assert loaded.keys() >= {"memory", "prometheus"}
    assert all(loaded.values())


def modules_after(python: Path, statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    names = json.loads(run(python, "-c", code, cwd=python.parent))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "statement",
    [
        "import smallmind",
        "import smallmind_engine",
        "import smallmind_exporters",
        "import smallmind_engine.telemetry",
        "import smallmind._registry",
    ],
)
def test_an_import_brings_no_optional_package(python: Path, statement: str) -> None:
    assert modules_after(python, statement).isdisjoint(OPTIONAL)


def test_telemetry_stands_on_the_standard_library(python: Path) -> None:
    foreign = modules_after(python, "import smallmind_engine.telemetry") - sys.stdlib_module_names
    # What the interpreter of a virtual environment loads by itself at its start.
    own = {"__main__", "smallmind_engine", "_distutils_hack", "sitecustomize", "usercustomize"}
    assert foreign - own == set()


def test_an_import_changes_no_global_settings(python: Path) -> None:
    """No handler, no signal, no thread, no warning filter: the host's process stays as it was."""
    code = (
        "import json, logging, signal, threading, warnings\n"
        "def state():\n"
        "    return [len(logging.root.handlers), logging.root.level, threading.active_count(),\n"
        "            str(signal.getsignal(signal.SIGINT)), str(signal.getsignal(signal.SIGTERM))]\n"
        "before = state()\n"
        "import smallmind, smallmind_exporters\n"
        "print(json.dumps(before == state()))"
    )
    assert json.loads(run(python, "-c", code, cwd=python.parent)) is True


def test_the_sdk_works_without_any_extra(wheel: Path, tmp_path: Path) -> None:
    """Only the required dependencies: the import works, and the CLI names the extra it lacks."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(tmp_path / "venv")}))
    python = scripts / Path(sys.executable).name
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    run(python, "-c", "import smallmind, smallmind_engine, smallmind_exporters", cwd=tmp_path)
    answer = subprocess.run(
        [scripts / "smallmind", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode != 0
    assert 'pip install "smallmind[cli]"' in answer.stderr
    assert "Traceback" not in answer.stderr
