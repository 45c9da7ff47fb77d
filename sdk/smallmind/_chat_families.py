"""Chat formats of well-known families, for model files that came without a template.

They are written here after the formats' published descriptions; none of them knows tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFamily:
    """How a family of models writes a conversation.

    Attributes:
        name: by which ``ChatOptions.template`` may ask for it.
        source: Jinja source.
        markers: tokens that speak for the family when a vocabulary has them all.
        architectures: those it is for when no marker decides.
        stops: texts that end an answer, for vocabularies in which they are no single token.
    """

    name: str
    source: str
    markers: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()


# Folds the system prompt into the first user message, for formats without a place for it.
_FOLD_SYSTEM: Final = (
    "{% set ns = namespace(system='') %}"
    "{% if messages and messages[0].role == 'system' %}"
    "{% set ns.system = OPEN + messages[0].content + CLOSE %}{% endif %}"
)

_CHATML: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LLAMA3: Final = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}"
    "{{ message.content + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_LLAMA2: Final = (
    _FOLD_SYSTEM.replace("OPEN", "'<<SYS>>\n'").replace("CLOSE", "'\n<</SYS>>\n\n'")
    + "{% for message in messages %}"
    "{% if message.role == 'user' %}"
    "{{ bos_token + '[INST] ' + ns.system + message.content + ' [/INST]' }}"
    "{% set ns.system = '' %}"
    "{% elif message.role == 'assistant' %}"
    "{{ (message.content if message.content[:1] == ' ' else ' ' + message.content) }}"
    "{{ ' ' + eos_token }}{% endif %}{% endfor %}"
)
_MISTRAL: Final = (
    "{{ bos_token }}"
    + _FOLD_SYSTEM.replace("OPEN", "''").replace("CLOSE", "'\n\n'")
    + "{% for message in messages %}"
    "{% if message.role == 'user' %}"
    "{{ '[INST] ' + ns.system + message.content + '[/INST]' }}{% set ns.system = '' %}"
    "{% elif message.role == 'assistant' %}"
    "{{ (message.content if message.content[:1] == ' ' else ' ' + message.content) }}"
    "{{ eos_token }}{% endif %}{% endfor %}"
)
_GEMMA: Final = (
    "{{ bos_token }}"
    + _FOLD_SYSTEM.replace("OPEN", "''").replace("CLOSE", "'\n\n'")
    + "{% for message in messages %}{% if message.role != 'system' %}"
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}"
    "{{ ns.system + message.content + '<end_of_turn>\n' }}{% set ns.system = '' %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_PHI3: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_ZEPHYR: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>\n' + message.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_PLAIN: Final = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
    "{% elif message.role == 'user' %}{{ '### Instruction:\n' + message.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + message.content + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)

PLAIN: Final = ChatFamily(
    name="plain", source=_PLAIN, architectures=("gpt2",), stops=("\n### Instruction:",)
)
"""What is left when nothing speaks for another family: headings as in the Alpaca data."""

# Vocabularies are asked in this order: the most telling markers first.
_FAMILIES: Final = (
    ChatFamily(
        name="chatml",
        source=_CHATML,
        markers=("<|im_start|>", "<|im_end|>"),
        architectures=("qwen2", "qwen3"),
        stops=("<|im_end|>",),
    ),
    ChatFamily(
        name="llama3",
        source=_LLAMA3,
        markers=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        stops=("<|eot_id|>",),
    ),
    ChatFamily(
        name="gemma",
        source=_GEMMA,
        markers=("<start_of_turn>", "<end_of_turn>"),
        architectures=("gemma", "gemma2", "gemma3"),
        stops=("<end_of_turn>",),
    ),
    ChatFamily(
        name="phi3",
        source=_PHI3,
        markers=("<|user|>", "<|assistant|>", "<|end|>"),
        architectures=("phi3",),
        stops=("<|end|>",),
    ),
    ChatFamily(
        name="zephyr",
        source=_ZEPHYR,
        markers=("<|user|>", "<|assistant|>"),
        stops=("\n<|user|>",),
    ),
    ChatFamily(name="mistral", source=_MISTRAL, markers=("[INST]", "[/INST]"), stops=("[INST]",)),
    ChatFamily(name="llama2", source=_LLAMA2, stops=("[INST]",)),
    PLAIN,
)

FAMILIES: Final[Mapping[str, ChatFamily]] = {family.name: family for family in _FAMILIES}
"""By name, in the order in which vocabularies are asked for them."""
