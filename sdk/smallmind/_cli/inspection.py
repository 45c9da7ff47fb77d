"""What a model file holds and would need, found out without loading its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf import GgufFile, MetadataValue, QuantType, TensorInfo
from smallmind_engine.kernels import TransformerSpec, WeightsMode, get_backend
from smallmind_engine.kernels.backend import Backend
from smallmind_engine.model import GgufWeights, LoadOptions, plan_run, transformer_spec
from smallmind_engine.telemetry import SmallMindError
from smallmind_engine.tokenizers import TokenizerDiagnostics, TokenizerFactory


@dataclass(frozen=True, slots=True)
class QuantShare:
    """What one type makes up of a model.

    Attributes:
        qtype: name of the type.
        tensors: how many have it.
        elements: numbers in them.
        n_bytes: their size in the file.
        share: of all tensor bytes, 0 to 1.
    """

    qtype: str
    tensors: int
    elements: int
    n_bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What running the model would take.

    Attributes:
        backend: what would compute.
        resident_bytes: weights, when they are dequantised once.
        per_layer_bytes: weights, when they are dequantised a layer at a time.
        kv_bytes_per_token: KV cache of one position.
        context_length: positions that the model was trained for.
        kv_bytes_full_context: KV cache of all of them.
        tokenizer_bytes: metadata and the tokenizer's tables.
        scratch_bytes: activations, scores and logits of the largest step.
        kernels_bytes: compiled kernels and their compiler.
        total_bytes: everything, with one full context.
        limit_bytes: what the container or the machine has free, less a tenth; None when unknown.
        limit_source: who sets that limit.
        fits: whether the total is within it.
    """

    backend: str
    resident_bytes: int
    per_layer_bytes: int
    kv_bytes_per_token: int
    context_length: int
    kv_bytes_full_context: int
    tokenizer_bytes: int
    scratch_bytes: int
    kernels_bytes: int
    total_bytes: int
    limit_bytes: int | None
    limit_source: str | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that ``smallmind inspect`` knows of a file.

    Attributes:
        paths: of all its parts.
        file_bytes: of all its parts.
        version: of GGUF.
        byte_order: ``little`` or ``big``.
        fingerprint: cheap identity of the content.
        metadata: as in the file.
        tensors: in the file's order.
        quantisation: largest share first.
        parameters: numbers in all tensors.
        tokenizer: None when none can be built.
        memory: None when the model does not run here.
        problems: why it would not run, when it would not.
    """

    paths: tuple[Path, ...]
    file_bytes: int
    version: int
    byte_order: str
    fingerprint: str
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[TensorInfo, ...]
    quantisation: tuple[QuantShare, ...]
    parameters: int
    tokenizer: TokenizerDiagnostics | None
    memory: MemoryEstimate | None
    problems: tuple[SmallMindError, ...]


def inspect_file(path: Path, *, backend: str, limit: WorkLimit) -> Inspection:
    """Read everything but the weights.

    Args:
        path: of the model file.
        backend: for which the memory is estimated.
        limit: stops the work.

    Raises:
        ModelFileError: the file cannot be read.
        GgufFormatError: its bytes break the format.
        ConfigError: there is no such backend.
        OperationCancelledError: ``limit`` was exceeded.
    """
    problems: list[SmallMindError] = []
    estimator = get_backend(backend)
    with GgufFile.open(path, limit=limit) as file:
        weights = GgufWeights(file)
        spec: TransformerSpec | None = None
        memory = tokenizer = None
        try:
            spec = transformer_spec(file.metadata, weights)
            memory = _estimate(file, spec, estimator)
        except SmallMindError as error:
            problems.append(error)
        limit.check("inspecting the model")
        try:
            tokenizer = TokenizerFactory.create(
                file.metadata,
                expected_vocab_size=None if spec is None else spec.vocab_size,
                limit=limit,
            ).diagnostics
        except SmallMindError as error:
            limit.check("inspecting the model")
            problems.append(error)
        tensors = tuple(file.tensors.values())
        return Inspection(
            paths=file.paths,
            file_bytes=file.file_bytes,
            version=file.version,
            byte_order=file.byte_order,
            fingerprint=file.fingerprint(),
            metadata=file.metadata,
            tensors=tensors,
            quantisation=quantisation_mix(tensors),
            parameters=sum(tensor.n_elements for tensor in tensors),
            tokenizer=tokenizer,
            memory=memory,
            problems=tuple(problems),
        )


def _estimate(file: GgufFile, spec: TransformerSpec, backend: Backend) -> MemoryEstimate:
    """What the weights would take both ways, and a whole engine with them in memory."""
    how = LoadOptions(backend=backend.name, weights=WeightsMode.RESIDENT)
    plan = plan_run(file, spec, how, backend).plan
    demand, limit = plan.demand, plan.limit
    per_layer = get_backend("numpy").weight_bytes(spec, GgufWeights(file), WeightsMode.PER_LAYER)
    return MemoryEstimate(
        backend=backend.name,
        resident_bytes=demand.weight_bytes,
        per_layer_bytes=per_layer,
        kv_bytes_per_token=demand.kv_bytes_per_token,
        context_length=plan.context_length,
        kv_bytes_full_context=plan.kv_cache_bytes,
        tokenizer_bytes=demand.tokenizer_bytes,
        scratch_bytes=demand.scratch_bytes,
        kernels_bytes=demand.kernels_bytes,
        total_bytes=plan.total_bytes,
        limit_bytes=None if limit is None else limit.budget_bytes,
        limit_source=None if limit is None else limit.source.value,
        fits=plan.fits,
    )


def quantisation_mix(tensors: tuple[TensorInfo, ...]) -> tuple[QuantShare, ...]:
    """The types by their share of the bytes, largest first."""
    by_type: dict[QuantType, list[TensorInfo]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.qtype, []).append(tensor)
    whole = sum(tensor.n_bytes for tensor in tensors) or 1
    shares = (
        QuantShare(
            qtype=qtype.name,
            tensors=len(group),
            elements=sum(tensor.n_elements for tensor in group),
            n_bytes=sum(tensor.n_bytes for tensor in group),
            share=sum(tensor.n_bytes for tensor in group) / whole,
        )
        for qtype, group in by_type.items()
    )
    return tuple(sorted(shares, key=lambda share: -share.n_bytes))
