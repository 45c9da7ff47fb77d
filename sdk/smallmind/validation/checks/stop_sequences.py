"""Does a stop string end the completion, and stay out of the text?"""

from __future__ import annotations

from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.telemetry import StopReason

_PROMPT_TOKENS = 16


def check_stop_sequences(subject: Subject) -> Outcome:
    """Stopped at a string of its own text, a greedy completion is that text up to the string."""
    prompt = subject.prompt_ids(_PROMPT_TOKENS)
    count = subject.amount(12, 32)

    whole = subject.generate(prompt, max_tokens=count, temperature=0.0, ignore_eos=True)
    middle = len(whole.text) // 2
    # A stop string that spans tokens is the hard case.
    stop = whole.text[middle : middle + 4]
    if not stop.strip():
        return skipped(f"the model's answer {whole.text!r:.60} has no text to stop at")
    expected = whole.text[: whole.text.index(stop)]
    stopped = subject.generate(
        prompt, max_tokens=count, temperature=0.0, ignore_eos=True, stop=(stop,)
    )
    wrong: list[str] = []
    if stopped.text != expected:
        wrong.append(f"stopped at {stop!r} the text is {stopped.text!r}, expected {expected!r}")
    elif stopped.stop_reason is not StopReason.STOP_SEQUENCE or stopped.stop_sequence != stop:
        wrong.append(f"it ended by {stopped.stop_reason}, not at the stop string {stop!r}")
    return judged(
        f"stopped at {stop!r} after {len(stopped.token_ids)} of {len(whole.token_ids)} tokens",
        (
            Figure(name="tokens", value=len(stopped.token_ids)),
            Figure(name="wrong", value=len(wrong), at_most=0),
        ),
        wrong,
    )
