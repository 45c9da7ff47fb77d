"""The models of the comparison: where their files are, and what a step reads and computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import synthetic_models

from smallmind._registry import resolve
from smallmind_engine.gguf import GgufFile

NAMES = ("smollm2", "gemma3-270m", *synthetic_models.NAMES)
READ_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """What the file says.

    Attributes:
        bytes_per_step: of all weights that a decode step reads, however many sequences it has:
            the layers, and the output matrix (the embedding's, when that serves as one).
        layer_parameters: numbers in the matrices of the layers; each is multiplied with every
            token of a prompt.
    """

    file_bytes: int
    bytes_per_step: int
    layer_parameters: int


def model_file(name: str, cache: Path) -> Path:
    """The file of a model by its name, or of a path to one; it is fetched or made when needed."""
    if name in synthetic_models.NAMES:
        return synthetic_models.synthetic_model(name, cache)
    if name.endswith(".gguf"):
        return Path(name)
    return resolve(name)


def model_figures(path: Path) -> ModelFigures:
    """Read the table of tensors."""
    with GgufFile.open(path) as file:
        tensors = file.tensors
        output = "output.weight" if "output.weight" in tensors else "token_embd.weight"
        layers = [tensor for name, tensor in tensors.items() if name.startswith("blk.")]
        return ModelFigures(
            file_bytes=file.file_bytes,
            bytes_per_step=sum(each.n_bytes for each in (*layers, tensors[output])),
            layer_parameters=sum(each.n_elements for each in layers if len(each.shape) > 1),
        )


def read_ahead(path: Path) -> None:
    """Bring the file into the system's cache, so that no engine is the one to wait for the disk."""
    with path.open("rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass
