"""From messages to the tokens of a prompt, in a model's chat format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from smallmind._chat_choice import ChatTemplate
from smallmind._chat_conversation import Known, Message
from smallmind._chat_template import render_chat
from smallmind._template_sandbox import plain_data
from smallmind_engine.tokenizers import Tokenizer

_MARKS: Final = range(0xE000, 0xF900)  # for private use: no template has a meaning for them
_EXTRA_TOKENS: Final = 2  # what a tokenizer may add to the bytes of a text: BOS, a blank before it

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation, ready to be sent.

    Attributes:
        text: as rendered.
        prefix_ids: tokens of its beginning, where they are known.
        rest: what follows: text, or token ids where text would be read wrongly.
        add_special: whether the tokenizer is to add the token that begins a text.
    """

    text: str
    prefix_ids: tuple[int, ...]
    rest: str | tuple[int, ...]
    add_special: bool

    @property
    def most_tokens(self) -> int:
        """A bound of its tokens that needs no tokenizer: no token is shorter than a byte."""
        rest = self.rest
        more = len(rest.encode("utf-8", "replace")) if isinstance(rest, str) else len(rest)
        return len(self.prefix_ids) + more + _EXTRA_TOKENS


class ChatFormat:
    """Renders and tokenises conversations. Immutable.

    Args:
        tokenizer: of the model.
        template: see ``ChatTemplate``.
        variables: more names for the template, such as ``enable_thinking``.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate, variables: Mapping[str, object]
    ) -> None:
        self.template = template
        self._tokenizer = tokenizer
        self._variables = dict(variables)
        self._bos = _text_of(tokenizer, tokenizer.bos_id)
        self._eos = _text_of(tokenizer, tokenizer.eos_id)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Json] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text that a conversation becomes.

        Raises:
            ChatTemplateError: the template cannot render it.
        """
        return render_chat(
            self.template.source_for(tools=bool(tools)),
            messages,
            bos_token=self._bos,
            eos_token=self._eos,
            add_generation_prompt=add_generation_prompt,
            tools=tools or None,
            variables=self._variables,
        )

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Json] = (), known: Known | None = None
    ) -> Prompt:
        """A prompt for the model's next answer.

        The names of control tokens count where the template writes them. Where a message has
        them they are letters like any other: nobody forges a turn by writing ``<|im_end|>``.

        Args:
            messages: of the conversation.
            tools: descriptions of functions.
            known: tokens of a beginning, used when the prompt begins with their text.

        Raises:
            ChatTemplateError: the template cannot render it.
        """
        text = self.render(messages, tools)
        add_special = not (self._bos and text.startswith(self._bos))
        if known is not None and known.begins(text):
            prompt = self._continued(text, messages, tools, known)
            if prompt is not None:
                return prompt
        if not self._holds_control([messages, tools]):
            return Prompt(text, (), text, add_special)
        breaker = _Breaker(self._tokenizer, [messages, tools])
        guarded = self.render(breaker.messages(messages), breaker.messages(tools))
        begin = self._tokenizer.bos_id if add_special and self._tokenizer.add_bos else None
        ids = (*(() if begin is None else (begin,)), *breaker.ids(guarded))
        return Prompt(text, (), ids, add_special=False)

    def _continued(
        self, text: str, messages: Sequence[Message], tools: Sequence[Json], known: Known
    ) -> Prompt | None:
        """A prompt whose beginning is known; None when the rest cannot stand alone."""
        rest = text[known.text_chars :]
        if not self._may_follow(rest):
            return None
        answered = _answered(messages)
        fresh = messages[answered:]
        if not self._holds_control(fresh):
            return Prompt(text, known.token_ids, rest, add_special=False)
        breaker = _Breaker(self._tokenizer, fresh)
        guarded = self.render([*messages[:answered], *breaker.messages(fresh)], tools)
        if not known.begins(guarded):
            return None
        ids = tuple(breaker.ids(guarded[known.text_chars :]))
        return Prompt(text, known.token_ids, ids, add_special=False)

    def count(self, prompt: Prompt) -> int:
        """How many tokens a prompt has."""
        if not isinstance(prompt.rest, str):
            return len(prompt.prefix_ids) + len(prompt.rest)
        ids = self._tokenizer.encode(
            prompt.rest, add_special=prompt.add_special, parse_special=True
        )
        return len(prompt.prefix_ids) + len(ids)

    def raw_text(self, token_ids: Sequence[int]) -> str:
        """What was produced, with the control tokens that a result's text leaves out."""
        return self._tokenizer.decode(token_ids, skip_special=False)

    def _may_follow(self, rest: str) -> bool:
        """Whether ``rest`` may be tokenised on its own: no blank would be put before it."""
        if not self._tokenizer.adds_space_prefix:
            return True
        fragments = self._tokenizer.special_fragments(rest)
        return bool(fragments) and isinstance(fragments[0], int)

    def _holds_control(self, values: object) -> bool:
        return any(
            isinstance(fragment, int)
            for text in _texts(values)
            for fragment in self._tokenizer.special_fragments(text)
        )


class _Breaker:
    """Makes letters of the names of control tokens in messages.

    The names are broken up by a character that occurs nowhere else before the template runs. What
    the template writes itself stays whole, and is cut out as tokens; the character is taken out
    again of the text that lies between.

    Args:
        tokenizer: knows the names.
        values: in which the character must not occur.
    """

    def __init__(self, tokenizer: Tokenizer, values: object) -> None:
        self._tokenizer = tokenizer
        used = set().union(*_texts(values))
        self._mark = next(chr(code) for code in _MARKS if chr(code) not in used)

    def messages(self, messages: Sequence[Json]) -> list[dict[str, object]]:
        """Messages, or descriptions of tools, with all names broken up."""
        plain = plain_data(list(messages), "messages")
        return _mapped(plain, self._broken)  # type: ignore[return-value]  # a list of dicts as before

    def ids(self, text: str) -> list[int]:
        """Token ids of what became of them."""
        ids: list[int] = []
        for fragment in self._tokenizer.special_fragments(text):
            if isinstance(fragment, int):
                ids.append(fragment)
            else:
                whole = fragment.replace(self._mark, "")
                ids += self._tokenizer.encode(whole, add_special=False)
        return ids

    def _broken(self, text: str) -> str:
        return "".join(
            fragment if isinstance(fragment, str) else self._broken_name(fragment)
            for fragment in self._tokenizer.special_fragments(text)
        )

    def _broken_name(self, token_id: int) -> str:
        name = self._tokenizer.token_text(token_id)
        return name[:1] + self._mark + name[1:]


def _answered(messages: Sequence[Message]) -> int:
    """How many messages there are up to the model's last one."""
    roles = [message.get("role") for message in messages]
    return len(roles) - roles[::-1].index("assistant") if "assistant" in roles else 0


def _texts(value: object) -> list[str]:
    """All texts in messages or tools, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [text for item in value for text in _texts(item)]
    return []


def _mapped(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value


def _text_of(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.token_text(token_id)
