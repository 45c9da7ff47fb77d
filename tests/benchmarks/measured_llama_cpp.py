"""llama.cpp as a measured engine, through its C interface: the costs of a wrapper do not count."""

from __future__ import annotations

import ctypes
import time

import llama_cpp
import llama_cpp.llama_cpp as C  # noqa: N812 - it stands for the C interface
import numpy as np
from compare_cases import Case, prompt_ids
from measured_engine import LoadRequest, Measured

BATCH_TOKENS = 2048
"""Tokens given at once; llama.cpp's own default."""

UBATCH_TOKENS = 512
"""Tokens computed at once; llama.cpp's own default."""

KV_UNIFIED = True
"""One KV cache for all sequences; one for each was 4 % faster or slower, by model and run."""


@C.llama_log_callback
def _no_log(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    """Keeps the terminal free."""


class Context:
    """A context for a fixed number of sequences, and the batch that feeds it."""

    def __init__(self, model: object, sequences: int, capacity: int, threads: int) -> None:
        params = C.llama_context_default_params()
        params.n_ctx = -(-sequences * capacity // 256) * 256
        params.n_batch, params.n_ubatch = BATCH_TOKENS, UBATCH_TOKENS
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = KV_UNIFIED
        # What its own tools choose: a sliding window keeps its window only.
        params.swa_full = False
        self._context = C.llama_init_from_model(model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp made no context of {params.n_ctx} tokens")
        self._memory = C.llama_get_memory(self._context)
        self._vocab_size = C.llama_vocab_n_tokens(C.llama_model_get_vocab(model))
        self._batch = C.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._tokens = np.ctypeslib.as_array(self._batch.token, (BATCH_TOKENS,))
        self._positions = np.ctypeslib.as_array(self._batch.pos, (BATCH_TOKENS,))
        self._wanted = np.ctypeslib.as_array(self._batch.logits, (BATCH_TOKENS,))
        np.ctypeslib.as_array(self._batch.n_seq_id, (BATCH_TOKENS,))[:] = 1
        self._logits = ctypes.c_float * self._vocab_size

    def clear(self) -> None:
        """Forget all sequences."""
        C.llama_memory_clear(self._memory, False)  # noqa: FBT003 - positional in C

    def read(self, prompt: np.ndarray, sequence: int) -> int:
        """Read a prompt; answers the token behind it."""
        for at in range(0, len(prompt), BATCH_TOKENS):
            part = prompt[at : at + BATCH_TOKENS]
            size = len(part)
            self._tokens[:size] = part
            self._positions[:size] = np.arange(at, at + size)
            self._wanted[:size] = 0
            for index in range(size):
                self._batch.seq_id[index][0] = sequence
            self._wanted[size - 1] = at + size == len(prompt)
            self._decode(size)
        return self._likeliest(size - 1)

    def begin_steps(self, sequences: int) -> None:
        """Lay the batch out for one token of each sequence."""
        for number in range(sequences):
            self._batch.seq_id[number][0] = number
        self._wanted[:sequences] = 1

    def step(self, tokens: list[int], position: int) -> list[int]:
        """Decode one token of each sequence; answers the next ones."""
        size = len(tokens)
        self._tokens[:size] = tokens
        self._positions[:size] = position
        self._decode(size)
        return [self._likeliest(row) for row in range(size)]

    def _decode(self, size: int) -> None:
        self._batch.n_tokens = size
        if status := C.llama_decode(self._context, self._batch):
            raise RuntimeError(f"llama_decode of {size} tokens answered {status}")

    def _likeliest(self, row: int) -> int:
        start = ctypes.addressof(C.llama_get_logits_ith(self._context, row).contents)
        return int(np.frombuffer(self._logits.from_address(start), np.float32).argmax())

    def close(self) -> None:
        """Free the batch and the context."""
        C.llama_batch_free(self._batch)
        C.llama_free(self._context)


class MeasuredLlamaCpp:
    """Has one context at a time: for single sequences, or for those of a case."""

    def __init__(self, request: LoadRequest) -> None:
        C.llama_log_set(_no_log, ctypes.c_void_p(0))
        C.llama_backend_init()
        self._model = C.llama_model_load_from_file(
            str(request.path).encode(), C.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {request.path.name}")
        self._threads = request.threads
        self._vocab_size = C.llama_vocab_n_tokens(C.llama_model_get_vocab(self._model))
        self._capacity = request.capacity
        self._single: Context | None = None

    def about(self) -> dict[str, object]:
        return {
            "version": llama_cpp.__version__,
            "interface": "C functions: llama_decode, llama_get_logits_ith",
            "n_batch": BATCH_TOKENS,
            "n_ubatch": UBATCH_TOKENS,
            "flash_attention": "auto (the default)",
            "kv_cache": "f16 (the default)" + ", unified" * KV_UNIFIED,
            "system": C.llama_print_system_info().decode().strip(),
            "vocab_size": self._vocab_size,
        }

    def first_token(self) -> None:
        self._for_one().read(np.zeros(1, np.int64), 0)

    def measure(self, case: Case) -> Measured:
        prefill_s = None
        if case.prefill_is_measured:
            context = self._for_one()
            prompt = prompt_ids(0, case.context, self._vocab_size)
            begin = time.perf_counter()
            tokens = [context.read(prompt, 0)]
            prefill_s = time.perf_counter() - begin
        else:
            self._close_single()
            context = Context(self._model, case.sequences, case.capacity, self._threads)
            tokens = [
                context.read(prompt_ids(number, case.context, self._vocab_size), number)
                for number in range(case.sequences)
            ]
        context.begin_steps(case.sequences)
        decoded = [tokens[0]]
        begin = time.perf_counter()
        for step in range(case.steps):
            tokens = context.step(tokens, case.context + step)
            decoded.append(tokens[0])
        decode_s = time.perf_counter() - begin if case.steps else None
        if context is not self._single:
            context.close()
        return Measured(prefill_s=prefill_s, decode_s=decode_s, tokens=decoded)

    def _for_one(self) -> Context:
        """The context of single sequences, empty."""
        if self._single is None:
            self._single = Context(self._model, 1, self._capacity, self._threads)
        self._single.clear()
        return self._single

    def _close_single(self) -> None:
        if self._single is not None:
            self._single.close()
        self._single = None

    def close(self) -> None:
        self._close_single()
        C.llama_model_free(self._model)
