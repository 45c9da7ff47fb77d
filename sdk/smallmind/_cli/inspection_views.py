"""An inspection as tables, and as a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from smallmind._cli.blocks import Bar, Cell, Column, Grid, Styled, facts
from smallmind._cli.formatting import (
    bytes_text,
    count_text,
    one_line,
    share_text,
    shortened,
)
from smallmind._cli.inspection import Inspection, MemoryEstimate, QuantShare
from smallmind._cli.json_documents import Json, plain
from smallmind_engine.gguf import MetadataValue, TensorInfo
from smallmind_engine.tokenizers import TokenizerDiagnostics

_FIRST_ITEMS: Final = 6
_LONG_ARRAY: Final = 12
_LONG_TEXT: Final = 160


def file_grid(found: Inspection) -> Grid:
    """What kind of file it is, and whether it runs here."""
    name = found.metadata.get("general.name", "-")
    architecture = found.metadata.get("general.architecture", "-")
    runs: tuple[tuple[str, Cell], ...] = (("runs here", Styled("yes", "green")),)
    if found.problems:
        runs = tuple(("does not run here", Styled(str(each), "red")) for each in found.problems)
    parts = f" in {len(found.paths)} files" if len(found.paths) > 1 else ""
    order = "" if found.byte_order == "little" else f", {found.byte_order}-endian"
    return facts(
        "Model",
        (
            ("name", shortened(one_line(str(name)), _LONG_TEXT)),
            ("architecture", shortened(one_line(str(architecture)), _LONG_TEXT)),
            ("parameters", f"{count_text(found.parameters)} ({found.parameters:,})"),
            ("file", str(found.paths[0])),
            ("size", f"{bytes_text(found.file_bytes)}{parts}"),
            ("format", f"GGUF {found.version}{order}"),
            ("fingerprint", found.fingerprint),
            *runs,
        ),
    )


def metadata_grid(found: Inspection, *, full: bool) -> Grid:
    """Keys and values; long ones abbreviated unless ``full``."""
    rows = tuple((key, value_text(value, full=full)) for key, value in found.metadata.items())
    return Grid(
        title=f"Metadata ({len(rows)} keys)",
        columns=(Column("key", style="dim"), Column("value", fold=True)),
        sections=(rows,),
    )


def value_text(value: MetadataValue, *, full: bool) -> str:
    """A metadata value in one line."""
    if isinstance(value, (list, np.ndarray)):
        items = _items(value)
        shown = items if full or len(items) <= _LONG_ARRAY else items[:_FIRST_ITEMS]
        inner = ", ".join(repr(item) for item in shown)
        left = f", … {len(items):,} in all" if len(shown) < len(items) else ""
        return f"[{inner}{left}]"
    text = repr(value)[1:-1] if isinstance(value, str) else str(value)
    return text if full else shortened(text, _LONG_TEXT)


def _items(
    value: Sequence[object] | np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> list[object]:
    return list(value.tolist()) if isinstance(value, np.ndarray) else list(value)


def tensor_grid(tensors: Sequence[TensorInfo]) -> Grid:
    """Every tensor with its shape, type and size."""
    rows = tuple(
        (
            tensor.name,
            " x ".join(map(str, tensor.shape)),
            tensor.qtype.name,
            bytes_text(tensor.n_bytes),
        )
        for tensor in tensors
    )
    return Grid(
        title=f"Tensors ({len(rows)})",
        columns=(
            Column("name"),
            Column("shape", right=True),
            Column("type"),
            Column("size", right=True),
        ),
        sections=(rows,),
    )


def quantisation_grid(shares: Sequence[QuantShare]) -> Grid:
    """The mix of types."""
    rows = tuple(
        (
            share.qtype,
            f"{share.tensors}",
            count_text(share.elements),
            bytes_text(share.n_bytes),
            share_text(share.share),
            Bar(share.share),
        )
        for share in shares
    )
    return Grid(
        title="Quantisation",
        columns=(
            Column("type"),
            Column("tensors", right=True),
            Column("elements", right=True),
            Column("size", right=True),
            Column("share", right=True),
            Column(""),
        ),
        sections=(rows,),
    )


def tokenizer_grid(tokenizer: TokenizerDiagnostics) -> Grid:
    """What the tokenizer was built from, and what was missing."""
    special = {
        "BOS": tokenizer.bos_id,
        "EOS": tokenizer.eos_id,
        "UNK": tokenizer.unk_id,
        "PAD": tokenizer.pad_id,
    }
    ends = ", ".join(map(str, sorted(tokenizer.eog_ids))) or "-"
    adds = [name for name, on in (("BOS", tokenizer.add_bos), ("EOS", tokenizer.add_eos)) if on]
    issues: tuple[tuple[str, Cell], ...] = tuple(
        ("issue", Styled(f"{issue.reason.value}: {issue.message}", "yellow"))
        for issue in tokenizer.issues
    )
    lossy: tuple[tuple[str, Cell], ...] = ()
    if tokenizer.missing_bytes:
        lossy = (("bytes without a token", f"{tokenizer.missing_bytes} of 256"),)
    return facts(
        "Tokenizer",
        (
            ("kind", tokenizer.kind),
            ("asked for", f"{tokenizer.tokenizer_type or '-'}, pre {tokenizer.pre or '-'}"),
            ("vocabulary", f"{tokenizer.vocab_size:,} tokens"),
            ("merges", f"{tokenizer.merge_count:,}" if tokenizer.has_merges else "none"),
            ("scores", "yes" if tokenizer.has_scores else "none"),
            ("special ids", ", ".join(f"{k} {v}" for k, v in special.items() if v is not None)),
            ("ends a text", ends),
            ("added to a prompt", " and ".join(adds) or "nothing"),
            *lossy,
            *issues,
        ),
    )


def memory_grid(memory: MemoryEstimate) -> Grid:
    """What it would take to run, and what there is."""
    there: tuple[tuple[str, Cell], ...] = ()
    if memory.limit_bytes is not None:
        source = (memory.limit_source or "").replace("_", " ")
        free = f"{bytes_text(memory.limit_bytes)} ({source})"
        there = (("free here", Styled(free, "green" if memory.fits else "red")),)
    return facts(
        f"Memory on the backend {memory.backend} (estimate)",
        (
            ("weights, resident", bytes_text(memory.resident_bytes)),
            ("weights, per layer", bytes_text(memory.per_layer_bytes)),
            ("KV cache, one token", bytes_text(memory.kv_bytes_per_token)),
            (
                f"KV cache, {memory.context_length:,} tokens",
                bytes_text(memory.kv_bytes_full_context),
            ),
            ("scratch", bytes_text(memory.scratch_bytes)),
            ("tokenizer and metadata", bytes_text(memory.tokenizer_bytes)),
            ("compiled kernels", bytes_text(memory.kernels_bytes)),
            ("in all, weights resident", bytes_text(memory.total_bytes)),
            *there,
        ),
    )


def inspection_document(found: Inspection, *, full: bool) -> Json:
    """The inspection as JSON; long arrays abbreviated unless ``full``."""
    return {
        "paths": plain(found.paths),
        "file_bytes": found.file_bytes,
        "version": found.version,
        "byte_order": found.byte_order,
        "fingerprint": found.fingerprint,
        "architecture": plain(found.metadata.get("general.architecture")),
        "parameters": found.parameters,
        "runs_here": not found.problems,
        "problems": [
            {"reason": each.reason.value, "message": str(each)} for each in found.problems
        ],
        "metadata": {
            key: _value_document(value, full=full) for key, value in found.metadata.items()
        },
        "quantisation": plain(found.quantisation),
        "tokenizer": plain(found.tokenizer),
        "memory": plain(found.memory),
        "tensors": [
            {
                "name": tensor.name,
                "shape": plain(tensor.shape),
                "type": tensor.qtype.name,
                "elements": tensor.n_elements,
                "bytes": tensor.n_bytes,
            }
            for tensor in found.tensors
        ],
    }


def _value_document(value: MetadataValue, *, full: bool) -> object:
    if isinstance(value, (list, np.ndarray)) and len(value) > _LONG_ARRAY and not full:
        return {"length": len(value), "first": plain(_items(value[:_FIRST_ITEMS]))}
    return plain(value)
