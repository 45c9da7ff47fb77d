"""How fast is it, and is that fast enough for who asks?"""

from __future__ import annotations

import time
from typing import Final

from smallmind.validation.outcomes import judged
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.kernels.ceilings import MEASURED, numpy_ceilings, usable_cores

_PATIENT_S: Final = 60.0
"""No further round after so long: a slow model is slow enough to be measured once."""

_ROUNDS: Final = 3
"""The best of so many counts: other work on the machine makes a round slower, never faster."""


def check_speed(subject: Subject) -> Outcome:
    """Tokens a second of prompts and of answers, against the floors of the options."""
    prompt_tokens = subject.amount(96, 256)
    tokens = subject.amount(12, 48)
    prefill, decode = 0.0, 0.0
    first_s = float("inf")
    begun_s = time.perf_counter()
    for turn in range(_ROUNDS):
        if turn and time.perf_counter() - begun_s > _PATIENT_S:
            break
        result = subject.generate(
            subject.prompt_ids(prompt_tokens, first=5_000 + turn),
            max_tokens=tokens,
            temperature=0.0,
            ignore_eos=True,
        )
        prefill = max(prefill, result.timings.prefill_tokens_per_second or 0.0)
        decode = max(decode, result.timings.tokens_per_second or 0.0)
        first_s = min(first_s, result.timings.time_to_first_token_s or first_s)
    subject.limit.check("validation")
    memory = MEASURED.get("numpy", usable_cores(), numpy_ceilings)
    weight_bytes = subject.model.runner.weight_bytes
    bound = memory.read_bytes_per_second / max(1, weight_bytes)
    options = subject.options
    return judged(
        f"{decode:.1f} tokens/s of answers, {prefill:.1f} of prompts, first token after"
        f" {first_s * 1e3:.1f} ms; memory that was just read at"
        f" {memory.read_bytes_per_second / 1e9:.1f} GB/s would give all {weight_bytes} bytes of"
        f" weights {bound:.0f} times a second",
        (
            Figure(name="decode", value=decode, unit="tokens/s", at_least=options.min_decode_speed),
            Figure(
                name="prefill", value=prefill, unit="tokens/s", at_least=options.min_prefill_speed
            ),
            Figure(name="first token", value=first_s, unit="s"),
            Figure(name="memory speed", value=memory.read_bytes_per_second, unit="bytes/s"),
            Figure(name="reads of all weights", value=bound, unit="1/s"),
        ),
    )
