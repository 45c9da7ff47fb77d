"""The rules of the house that a tool can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = (
    REPOSITORY / "sdk" / "smallmind",
    REPOSITORY / "engine" / "smallmind_engine",
    REPOSITORY / "exporters" / "smallmind_exporters",
)
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
FRONT_DOORS = [path for path in MODULES if path.name == "__init__.py"]

# Who may speak to the outside: the command line prints, the bridge talks to `logging`.
PRINTS = (REPOSITORY / "sdk/smallmind/_cli", REPOSITORY / "sdk/smallmind/__main__.py")
LOGS = (REPOSITORY / "engine/smallmind_engine/telemetry/stdlib_logging.py",)

LONGEST_MODULE_LINES = 400
LONGEST_FRONT_DOOR_LINES = 75
# The vocabulary of the whole project: one line for each event, error and protocol.
LONG_FRONT_DOORS = tuple(
    REPOSITORY / path
    for path in ("engine/smallmind_engine/telemetry/__init__.py", "sdk/smallmind/__init__.py")
)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def is_below(path: Path, places: tuple[Path, ...]) -> bool:
    return any(path == place or place in path.parents for place in places)


def imported_packages(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


def test_imports_run_one_way_only() -> None:
    """The contracts of pyproject.toml, with the linter's own report when one is broken."""
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed beside this interpreter")
    run = subprocess.run(
        [str(lint), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_packages_are_found() -> None:
    assert all((package / "__init__.py").is_file() for package in PACKAGES)
    assert all((package / "py.typed").is_file() for package in PACKAGES)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(tree_of(path))
    assert docstring
    assert docstring.splitlines()[0].strip()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_one_subject_and_fits_it(path: Path) -> None:
    assert lines_of(path) <= LONGEST_MODULE_LINES


@pytest.mark.parametrize("path", FRONT_DOORS, ids=name_of)
def test_a_front_door_defines_nothing(path: Path) -> None:
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [node for node in tree_of(path).body if isinstance(node, defined)]
    assert path in LONG_FRONT_DOORS or lines_of(path) <= LONGEST_FRONT_DOOR_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    if is_below(path, PRINTS):
        return
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    printing = [
        f"{name_of(path)}:{call.lineno}"
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert printing == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_bridge_speaks_to_logging(path: Path) -> None:
    assert is_below(path, LOGS) or "logging" not in imported_packages(tree_of(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_package_names_a_package_registrys_host(path: Path) -> None:
    """Downloads follow the user's own pip configuration; a host in the code would go past it."""
    text = path.read_text(encoding="utf-8").casefold()
    assert "pypi." not in text
    assert "pythonhosted" not in text
