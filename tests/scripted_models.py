"""Models that say what a test wants them to: real files, run by the real engine.

A model of the gpt2 family whose layers add nothing: what it says next depends on the position
alone. So an answer is written into the table of positions, at the place where its prompt ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engines import Recorder
from smallmind import Engine, load
from smallmind_engine.telemetry import InferenceStarted
from tiny_models import WIDTH, TinyModel, vocabulary, write_tiny_model

CONTEXT = 4096
_T = TypeVar("_T")


def scripted(
    folder: Path,
    answers: Sequence[str],
    talk: Callable[[Engine], _T],
    *,
    chat_template: str,
    extra_tokens: tuple[str, ...] = (),
    exporters: Sequence[Any] = (),
) -> _T:
    """Let ``talk`` run with a model that gives ``answers``, one for each request.

    Where a prompt ends is known only when all answers before it were given: ``talk`` runs once
    more for each answer, and what it returns the last time is the result.
    """
    starts: list[int] = []
    for number in range(len(answers) + 1):
        path = write_tiny_model(
            folder / f"scripted-{number}.gguf",
            _scripted_model(list(zip(starts, answers, strict=False)), chat_template, extra_tokens),
        )
        recorder = Recorder()
        last = number == len(answers)
        with load(
            path, backend="numpy", exporters=[recorder, *(exporters if last else ())]
        ) as engine:
            try:
                result = talk(engine)
            except Exception:
                if last:
                    raise
        started = recorder.of(InferenceStarted)
        starts = [event.prompt_tokens for event in started][: number + 1]
    return result


def _scripted_model(
    script: Sequence[tuple[int, str]], chat_template: str, extra_tokens: tuple[str, ...]
) -> TinyModel:
    rng = np.random.default_rng(5)
    model = TinyModel(
        "gpt2",
        layers=1,
        tied=False,
        chat_template=chat_template,
        extra_tokens=extra_tokens,
        context=CONTEXT,
    )
    words = rng.standard_normal((len(vocabulary()) + len(extra_tokens), WIDTH)).astype(np.float32)
    words -= words.mean(axis=1, keepdims=True)
    positions = np.tile(words[0], (CONTEXT, 1))  # the token that ends a text
    for prompt_tokens, answer in script:
        for place, token in enumerate(_tokens(answer, extra_tokens)):
            positions[prompt_tokens - 1 + place] = words[token]
    silent = {"blk.0.attn_output", "blk.0.ffn_down"}
    rows = {"blk.0.attn_output": (WIDTH, WIDTH), "blk.0.ffn_down": (WIDTH, 96)}
    tensors = {
        "token_embd.weight": np.zeros_like(words),
        "output.weight": words,
        "position_embd.weight": positions,
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output_norm.bias": np.zeros(WIDTH, np.float32),
        **{f"{name}.weight": np.zeros(rows[name], np.float32) for name in silent},
        **{f"{name}.bias": np.zeros(WIDTH, np.float32) for name in silent},
    }
    return TinyModel(**{**_fields(model), "tensors": tensors})


def _fields(model: TinyModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in TinyModel.__slots__}


def _tokens(answer: str, extra_tokens: tuple[str, ...]) -> list[int]:
    """Bytes, and control tokens where their names stand."""
    names = vocabulary()
    alphabet = names[3 : 3 + 256]
    ids: list[int] = []
    while answer:
        control = next((name for name in extra_tokens if answer.startswith(name)), None)
        if control is not None:
            ids.append(len(names) + extra_tokens.index(control))
            answer = answer.removeprefix(control)
            continue
        ids += [3 + alphabet.index(alphabet[byte]) for byte in answer[0].encode()]
        answer = answer[1:]
    return ids
