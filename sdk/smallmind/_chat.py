"""Chat: a conversation in the model's own format."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, Unpack

from smallmind._chat_template import render_chat
from smallmind._guard import SingleUseGuard
from smallmind._guarded_stream import guarded
from smallmind._request_options import RequestKwargs, merged
from smallmind._session import Session
from smallmind_engine.runtime import (
    CHAT,
    EngineCore,
    GenerationOptions,
    GenerationResult,
    GenerationRun,
    TokenStream,
    status_of,
)
from smallmind_engine.runtime.collect import collected, open_stream
from smallmind_engine.telemetry import RequestStatus
from smallmind_engine.telemetry.errors import ChatTemplateError
from smallmind_engine.telemetry.reasons import ReasonCode

Message = dict[str, object]

_KEPT: Final = frozenset({RequestStatus.COMPLETED, RequestStatus.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How a conversation works.

    Attributes:
        session_id: appears on all its events; made up when None.
        system: instructions before the first turn.
        template: Jinja source instead of the model's own.
    """

    session_id: str | None = None
    system: str | None = None
    template: str | None = None


class ChatClient:
    """Belongs to one thread at a time, like the session inside it.

    Args:
        core: the engine's parts.
        system: instructions before the first turn; wins over the one in ``options``.
        options: see ``ChatOptions``.

    Raises:
        ChatTemplateError: the model has no chat template, and none was given.
    """

    def __init__(self, core: EngineCore, system: str | None, options: ChatOptions) -> None:
        template = options.template or core.model.chat_template
        if template is None:
            raise ChatTemplateError(
                ReasonCode.CHAT_TEMPLATE_MISSING,
                f"the model {core.model.name!r} has no chat template",
                hint="use an instruction-tuned model, or pass ChatOptions(template=...)",
            )
        self._core = core
        self._template = template
        self._session = Session(core, options.session_id)
        self._guard = SingleUseGuard(f"chat {self._session.session_id!r}")
        self._messages: list[Message] = []
        instructions = system if system is not None else options.system
        if instructions is not None:
            self._messages.append({"role": "system", "content": instructions})

    @property
    def session_id(self) -> str:
        """The id on its events."""
        return self._session.session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, as copies."""
        return tuple(dict(message) for message in self._messages)

    def send(
        self,
        text: str,
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> GenerationResult:
        """Say something and get the answer; options and errors as in ``Engine.generate``.

        An answer that was cut short (cancelled, timed out) stays in the conversation; a turn
        that failed leaves no trace in it.

        Raises:
            ChatTemplateError: the template cannot render the conversation.
        """
        with self._guard():
            asked = self._asked(text)
            run = self._run(asked, merged(options, kwargs), streaming=False)
            result = collected(run)
            self._remember(asked, result)
            return result

    def stream(
        self,
        text: str,
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> TokenStream:
        """As ``send``, chunk by chunk."""
        chosen = merged(options, kwargs)
        self._guard.enter()
        try:
            asked = self._asked(text)
            run = self._run(asked, chosen, streaming=True)
            return guarded(run, open_stream(run), lambda: self._end_stream(asked, run))
        except BaseException:
            self._guard.leave()
            raise

    def _end_stream(self, asked: list[Message], run: GenerationRun) -> None:
        if run.result is not None and status_of(run.result.stop_reason) in _KEPT:
            self._remember(asked, run.result)
        self._guard.leave()

    def _asked(self, text: str) -> list[Message]:
        return [*self._messages, {"role": "user", "content": text}]

    def _remember(self, asked: list[Message], result: GenerationResult) -> None:
        self._messages = [*asked, {"role": "assistant", "content": result.text}]

    def render(self, messages: list[Message] | None = None) -> str:
        """The prompt that a conversation becomes: this one, or ``messages``."""
        tokenizer = self._core.model.tokenizer
        bos, eos = tokenizer.bos_id, tokenizer.eos_id
        return render_chat(
            self._template,
            self._messages if messages is None else messages,
            bos_token="" if bos is None else tokenizer.token_text(bos),
            eos_token="" if eos is None else tokenizer.token_text(eos),
            add_generation_prompt=True,
        )

    def _run(
        self, messages: list[Message], options: GenerationOptions, *, streaming: bool
    ) -> GenerationRun:
        prompt = self.render(messages)
        tokenizer = self._core.model.tokenizer
        bos = None if tokenizer.bos_id is None else tokenizer.token_text(tokenizer.bos_id)
        return self._session.new_run(
            prompt,
            dataclasses.replace(options, parse_special=True),
            streaming=streaming,
            prefix_ids=(),
            add_special=bos is None or not prompt.startswith(bos),
            operation=CHAT,
        )

    def close(self) -> None:
        """Let go of the cache. May be called again."""
        with self._guard():
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
