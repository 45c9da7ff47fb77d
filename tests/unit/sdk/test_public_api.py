"""The public face is exactly what is promised."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import smallmind

SUBMODULES = {
    "chat", "endpoints", "rag", "reading", "replay", "structured", "testing", "validation",
}  # fmt: skip
FACE = [
    "BackpressurePolicy", "CancellationToken", "ChatClient", "ChatOptions", "ChatResult",
    "ContextOverflow", "Correlation", "DegradeReason", "Detail", "Engine", "EngineOptions",
    "EngineStats", "GenerationOptions", "GenerationResult", "MemoryBudgetMode", "MemoryCategory",
    "MemoryPlan", "Phase", "ReasonCode", "Session", "SmallMindError", "StopReason", "StreamChunk",
    "Timings", "TokenStream", "TokenizerMode", "Usage", "WeightsMode", "estimate_memory", "load",
]  # fmt: skip


def test_public_face_is_exactly_all() -> None:
    """Nothing leaks from the package's face, and nothing promised is missing."""
    seen = {name for name in vars(smallmind) if not name.startswith("_")}
    assert set(smallmind.__all__) - {"__version__"} == seen - SUBMODULES


def test_a_name_is_added_or_removed_on_purpose_only() -> None:
    assert sorted([*FACE, "__version__"]) == sorted(smallmind.__all__)


def packages() -> list[str]:
    found = []
    for root in ("smallmind", "smallmind_engine", "smallmind_exporters"):
        package = importlib.import_module(root)
        found.append(root)
        found += [
            info.name for info in pkgutil.walk_packages(package.__path__, f"{root}.") if info.ispkg
        ]
    return found


@pytest.mark.parametrize("name", packages())
def test_every_package_exports_what_it_says(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__
    for exported in getattr(package, "__all__", ()):
        assert hasattr(package, exported), exported


@pytest.mark.parametrize("name", smallmind.__all__)
def test_every_public_thing_tells_what_it_is(name: str) -> None:
    thing = getattr(smallmind, name)
    if isinstance(thing, str | ModuleType):
        return
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (
                inspect.isfunction(value) or isinstance(value, property)
            ):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_errors_are_one_family_with_reason_codes() -> None:
    from smallmind_engine.telemetry import errors

    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, Exception)]
    assert all(issubclass(c, smallmind.SmallMindError) for c in classes)
    assert len(classes) > 15
