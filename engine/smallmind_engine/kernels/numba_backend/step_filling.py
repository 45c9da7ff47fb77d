"""What a step is told in numbers: which tokens of which sequences it computes, and how."""

# T tokens, C width

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from smallmind_engine.kernels.numba_backend.buffers import StepBuffers
from smallmind_engine.kernels.numba_backend.cutting import StepPart
from smallmind_engine.kernels.numba_backend.packed_model import PackedModel, qkv_columns, round_up
from smallmind_engine.kernels.numba_backend.pages import PageLayout
from smallmind_engine.kernels.numba_backend.records import (
    ITEM_BYTES,
    MAX_QUERY_ROWS,
    BestOnly,
    Sequence,
    Size,
)
from smallmind_engine.kernels.spec import (
    Activation,
    IntArray,
    NormKind,
    TransformerSpec,
    WeightSource,
)
from smallmind_engine.kernels.tensors import EMBEDDING, POSITIONS

# Reading a member of an enum takes as long as calling a function; these are read for each token.
_FIELDS: Final = len(Sequence)
_LENGTH: Final = int(Sequence.LENGTH)
_PAGES: Final = int(Sequence.PAGES)


class StepFiller:
    """Fills in the tables of steps. Belongs to one caller at a time.

    What is the same as in the step before, such as all but a few numbers while sequences decode,
    is left as it is. Single numbers are written through views of the memory: through NumPy each
    takes several times as long.

    Args:
        spec: the model.
        source: has the embeddings.
        model: its packed weights.
        pages: where things are in a page of the KV cache.
        threads: of the team.

    Attributes:
        sizes: see ``records.Size``.
        words: a view of them.
    """

    def __init__(
        self,
        spec: TransformerSpec,
        source: WeightSource,
        model: PackedModel,
        pages: PageLayout,
        threads: int,
    ) -> None:
        self._spec = spec
        self._source = source
        self._threads = threads
        self._positions = source.floats(POSITIONS) if spec.learned_positions else None
        self._output = len(model.plans) - 1
        self._embeds = model.plans[-1].tensor == EMBEDDING and self._positions is None
        self._shape: tuple[object, ...] = ()
        self.sizes: Final[IntArray] = self._make_sizes(model, pages)
        self.words: Final = self.sizes.data

    def _make_sizes(self, model: PackedModel, pages: PageLayout) -> IntArray:
        spec = self._spec
        sizes = np.zeros(len(Size), np.int64)
        keys_at, values_at, _ = qkv_columns(spec)
        for field, value in (
            (Size.LAYERS, spec.n_layers),
            (Size.WIDTH, spec.width),
            (Size.HEADS, spec.n_heads),
            (Size.KV_HEADS, spec.n_kv_heads),
            (Size.KEY, spec.head_dim),
            (Size.VALUE, spec.value_dim),
            (Size.VALUE_STORED, round_up(spec.value_dim)),
            (Size.LAYER_NORM, spec.norm is NormKind.LAYER),
            (Size.GELU, spec.activation is Activation.GELU_TANH),
            (Size.THREADS, self._threads),
            (Size.KEYS_AT, keys_at),
            (Size.VALUES_AT, values_at),
            (Size.KEY_HEAD_BYTES, pages.key_head),
            (Size.VALUE_HEAD_BYTES, pages.value_head),
            (Size.ITEM_BYTES, ITEM_BYTES[pages.kind]),
            (Size.OUTPUT_NORM, model.output_norm),
            (Size.OUTPUT_NORM_BIAS, model.output_norm_bias),
            (Size.EMBED, self._embeds),
        ):
            sizes[field] = value
        return sizes

    def fill(
        self, parts: list[StepPart], buffers: StepBuffers, best: BestOnly, *, hidden: bool
    ) -> None:
        """Describe a step to compiled code.

        Args:
            parts: of the sequences.
            buffers: large enough.
            best: how the best logits are found.
            hidden: whether hidden states are wanted, not logits.
        """
        shape = (buffers, best, hidden, *[(len(part.ids), part.wanted) for part in parts])
        if shape != self._shape:
            self._shape = ()
            self._set_shape(parts, buffers, best, hidden=hidden)
            self._shape = shape
        sequences, ids = buffers.sequence_words, buffers.id_words
        at = begin = 0
        for part in parts:
            sequences[at + _LENGTH] = part.length
            sequences[at + _PAGES] = part.cache.table_address
            at += _FIELDS
            count = len(part.ids)
            if count == 1:
                ids[begin] = part.ids[0]
            else:
                buffers.ids[begin : begin + count] = part.ids
            begin += count
        if not self._embeds:
            self._embed(parts, buffers)

    def forget(self) -> None:
        """Let go of the buffers of the last step."""
        self._shape = ()

    def _set_shape(
        self, parts: list[StepPart], buffers: StepBuffers, best: BestOnly, *, hidden: bool
    ) -> None:
        """Write down what depends on the numbers of tokens only."""
        begin = wanted = 0
        for index, part in enumerate(parts):
            end = begin + len(part.ids)
            buffers.tokens[begin:end] = index
            row = buffers.sequences[index]
            row[Sequence.TOKEN_BEGIN] = begin
            row[Sequence.TOKEN_END] = end
            buffers.wanted[wanted : wanted + part.wanted] = range(end - part.wanted, end)
            wanted += part.wanted
            begin = end
        spec, sizes = self._spec, self.sizes
        group = spec.n_heads // spec.n_kv_heads
        rows = tuple(len(part.ids) * group for part in parts)
        sizes[Size.TOKENS] = begin
        sizes[Size.STRIDE] = buffers.stride
        sizes[Size.PRIVATE] = buffers.private
        sizes[Size.SEQUENCES] = len(parts)
        sizes[Size.WANTED] = wanted
        sizes[Size.QUERY_ROWS] = _query_rows(rows, spec.n_kv_heads, self._threads)
        sizes[Size.BEST_ONLY] = best
        # Without an output matrix a step ends behind the last norm. As an index, -1 is the same.
        sizes[Size.OUTPUT] = -1 if hidden else self._output

    def _embed(self, parts: list[StepPart], buffers: StepBuffers) -> None:
        """Look embeddings up where a step cannot do it itself."""
        spec = self._spec
        count = sum(len(part.ids) for part in parts)
        rows = buffers.stream[0, :count, : spec.width]
        for index, token in enumerate(buffers.ids[:count].tolist()):
            one = slice(token, token + 1)
            rows[index] = self._source.floats(EMBEDDING, rows=one)[0]
        if spec.embedding_scale != 1.0:
            np.multiply(rows, np.float32(spec.embedding_scale), out=rows)
        if self._positions is not None:
            begin = 0
            for part in parts:
                end = begin + len(part.ids)
                rows[begin:end] += self._positions[part.length : part.length + end - begin]
                begin = end
        for copy in buffers.stream[1:]:
            copy[:count] = buffers.stream[0, :count]


@lru_cache(maxsize=64)
def _query_rows(rows: tuple[int, ...], kv_heads: int, threads: int) -> int:
    """Query rows in a piece of attention: few when there would be too few pieces otherwise.

    Args:
        rows: of each sequence.
        kv_heads: heads of keys and values, for each of which there are so many.
        threads: of the team.
    """
    most = min(max(rows), MAX_QUERY_ROWS)
    while most > 1:
        pieces = sum(-(-count // most) for count in rows) * kv_heads
        if pieces >= threads:
            break
        most = -(-most // 2)
    return most
