"""The model registry: names, the cache they live in, and how they get there."""

from smallmind._registry.cache import cache_dir, cached_path, remove, verify
from smallmind._registry.entry import ModelEntry, PullProgress, PullStage, WheelPart
from smallmind._registry.hub import HubFile
from smallmind._registry.lookup import entries, find
from smallmind._registry.pull import pull, resolve

__all__ = [
    "HubFile",
    "ModelEntry",
    "PullProgress",
    "PullStage",
    "WheelPart",
    "cache_dir",
    "cached_path",
    "entries",
    "find",
    "pull",
    "remove",
    "resolve",
    "verify",
]
