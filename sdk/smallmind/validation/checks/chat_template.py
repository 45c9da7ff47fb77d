"""Does the file's chat template render, and is what was said in the prompt?"""

from __future__ import annotations

from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject

_SAID = ("Is 7 a prime number?", "Yes.", "And 8?")


def check_chat_template(subject: Subject) -> Outcome:
    """The template renders three messages, in their order, and the prompt has tokens."""
    if subject.model.chat_template is None:
        return skipped("the file has no chat template")
    roles = ("user", "assistant", "user")
    messages: list[dict[str, object]] = [
        {"role": role, "content": said} for role, said in zip(roles, _SAID, strict=True)
    ]
    with subject.engine.chat() as chat:
        prompt = chat.render(messages)
    places = [prompt.find(said) for said in _SAID]
    ids = subject.tokenizer.encode(prompt, parse_special=True, limit=subject.limit)
    wrong: list[str] = []
    if -1 in places or places != sorted(places):
        wrong.append(f"the messages are not in the prompt in their order: {prompt!r:.200}")
    return judged(
        f"three messages become a prompt of {len(ids)} tokens",
        (
            Figure(name="tokens", value=len(ids), at_least=len(_SAID)),
            Figure(name="wrong", value=len(wrong), at_most=0),
        ),
        wrong,
    )
