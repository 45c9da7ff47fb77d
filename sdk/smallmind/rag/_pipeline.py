"""The pipeline: a question, its sources, a prompt, and an answer that cites them."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Unpack

from smallmind._chat import ChatClient
from smallmind._chat_options import ChatOptions
from smallmind._engine import Engine
from smallmind._request_options import RequestKwargs, merged
from smallmind.rag._access import UserContext
from smallmind.rag._answers import RagAnswer, RagStream, answer_of
from smallmind.rag._asking import in_thread
from smallmind.rag._errors import InsufficientEvidenceError
from smallmind.rag._escaping import harmless
from smallmind.rag._grounding import GroundingRules
from smallmind.rag._index import RagIndex
from smallmind.rag._prompt import ComposedPrompt, PromptOptions, compose
from smallmind.rag._results import RetrievalResult
from smallmind.rag._retrieval_options import Reranker, RetrievalOptions
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.runtime import GenerationOptions
from smallmind_engine.telemetry import (
    ChatTemplateError,
    Correlation,
    ReasonCode,
    RuntimeLoggerAdapter,
    new_correlation,
)
from smallmind_engine.telemetry.errors import ConfigError

_LEAST_TIMEOUT_S = 1e-3


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that is ready to be put to the model."""

    client: ChatClient
    prompt: ComposedPrompt
    message: str
    retrieval: RetrievalResult
    options: GenerationOptions


class RagPipeline:
    """Thread-safe, as its engine and its index are: each question has a conversation of its own.

    Args:
        engine: answers, in its model's chat format.
        index: holds the documents.
        retrieval: how they are searched.
        rules: when what was found can bear an answer.
        prompt: how prompts are put together.
        reranker: judges the best chunks anew.
        chat: options of the conversations, such as another template.
    """

    def __init__(
        self,
        engine: Engine,
        index: RagIndex,
        *,
        retrieval: RetrievalOptions | None = None,
        rules: GroundingRules | None = None,
        prompt: PromptOptions | None = None,
        reranker: Reranker | None = None,
        chat: ChatOptions | None = None,
    ) -> None:
        self._engine = engine
        self._index = index
        self._retrieval = retrieval or RetrievalOptions()
        self._rules = rules or GroundingRules()
        self._prompt = prompt or PromptOptions()
        self._reranker = reranker
        self._chat = chat or ChatOptions()
        self._harmless = harmless(engine)

    def retrieve(
        self,
        question: str,
        *,
        user: UserContext | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> RetrievalResult:
        """Only search.

        Args:
            question: any text.
            user: for whom; None sees only what is public.
            options: of these, ``cancellation``, ``request_timeout``, ``traceparent``,
                ``tracestate`` and ``request_id`` count.
            kwargs: the same, one by one.

        Raises:
            OperationCancelledError: cancelled, or out of time.
            RagIndexError: the index cannot be searched.
        """
        chosen = merged(options, kwargs)
        limit = WorkLimit.within(chosen.request_timeout, chosen.cancellation)
        ids = new_correlation(
            traceparent=chosen.traceparent,
            tracestate=chosen.tracestate,
            request_id=chosen.request_id,
        )
        return self._retrieved(question, user, limit, ids)

    def ask(
        self,
        question: str,
        *,
        user: UserContext | None = None,
        session_id: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> RagAnswer:
        """Answer a question from what ``user`` may see.

        ``request_timeout`` and ``cancellation`` hold for the search and the generation together.
        A generation that is stopped gives back what there is; a search has nothing to give back.

        Args:
            question: any text but white space alone.
            user: for whom; None sees only what is public.
            session_id: on all events; made up when None.
            options: see ``GenerationOptions``.
            kwargs: the same, one by one; they win over ``options``.

        Raises:
            ConfigError: the question is empty.
            InsufficientEvidenceError: nothing that was found is good enough.
            OperationCancelledError: stopped before the generation began.
            RagBudgetError: no source fits into the prompt.
            RagIndexError: the index cannot be searched.
            SmallMindError: as ``ChatClient.send`` does.
        """
        with ExitStack() as held:
            asked = self._asked(held, question, user, session_id, merged(options, kwargs))
            result = asked.client.send(asked.message, options=asked.options)
            return answer_of(result, asked.prompt.sources, asked.retrieval)

    async def aask(
        self,
        question: str,
        *,
        user: UserContext | None = None,
        session_id: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> RagAnswer:
        """As ``ask``, for asyncio: cancelling the task stops the search or the generation."""
        chosen = merged(options, kwargs)

        def work(token: CancellationToken) -> RagAnswer:
            mine = dataclasses.replace(chosen, cancellation=token)
            return self.ask(question, user=user, session_id=session_id, options=mine)

        return await in_thread(work, chosen.cancellation)

    def stream(
        self,
        question: str,
        *,
        user: UserContext | None = None,
        session_id: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> RagStream:
        """As ``ask``, chunk by chunk; the search happens before this returns."""
        with ExitStack() as held:
            asked = self._asked(held, question, user, session_id, merged(options, kwargs))
            inner = asked.client.stream(asked.message, options=asked.options)
            return RagStream(inner, asked.prompt.sources, asked.retrieval, held.pop_all().close)

    def _asked(
        self,
        held: ExitStack,
        question: str,
        user: UserContext | None,
        session_id: str | None,
        options: GenerationOptions,
    ) -> _Asked:
        if not question.strip():
            raise ConfigError(
                ReasonCode.PROMPT_EMPTY,
                f"the question is {question!r}, which asks nothing",
                hint="ask with at least one word",
            )
        limit = WorkLimit.within(options.request_timeout, options.cancellation)
        client, has_system = self._client(session_id)
        held.callback(client.close)
        ids = new_correlation(
            session_id=client.session_id,
            traceparent=options.traceparent,
            tracestate=options.tracestate,
            request_id=options.request_id,
        )
        log = RuntimeLoggerAdapter("rag", self._engine.bus.emitter(ids))
        retrieval = self._retrieved(question, user, limit, ids)
        if not retrieval.sufficient:
            log.warning(
                "the sources cannot bear an answer",
                reason=ReasonCode.RAG_EVIDENCE_INSUFFICIENT,
                returned=len(retrieval.chunks),
            )
            raise InsufficientEvidenceError(
                ReasonCode.RAG_EVIDENCE_INSUFFICIENT,
                f"none of the {len(retrieval.chunks)} chunks that were found is good enough"
                " to answer from",
                hint="ask otherwise, index what is missing, or loosen the GroundingRules",
                retrieval=retrieval,
                request_id=ids.request_id,
            )
        prompt = self._composed(
            question, retrieval, user, client, options, limit, has_system=has_system
        )
        log.debug("the prompt is composed", sources=len(prompt.sources), tokens=prompt.tokens)
        remaining = limit.remaining_s
        return _Asked(
            client,
            prompt,
            _message(prompt.system, prompt.message, has_system=has_system),
            retrieval,
            dataclasses.replace(
                options,
                request_id=ids.request_id,
                traceparent=ids.traceparent,
                tracestate=ids.trace_state or None,
                request_timeout=None if remaining is None else max(remaining, _LEAST_TIMEOUT_S),
            ),
        )

    def _client(self, session_id: str | None) -> tuple[ChatClient, bool]:
        """A conversation, and whether its format has a place for the rules."""
        chat = self._chat
        if session_id is not None:
            chat = dataclasses.replace(chat, session_id=session_id)
        client = self._engine.chat(self._prompt.instructions, options=chat)
        try:
            client.render([*client.messages, {"role": "user", "content": "?"}])
        except ChatTemplateError:
            client.close()
            return self._engine.chat(options=dataclasses.replace(chat, system=None)), False
        return client, True

    def _retrieved(
        self, question: str, user: UserContext | None, limit: WorkLimit, ids: Correlation
    ) -> RetrievalResult:
        return self._index.retrieve(
            question,
            user=user,
            options=self._retrieval,
            rules=self._rules,
            reranker=self._reranker,
            limit=limit,
            bus=self._engine.bus,
            correlation=ids,
        )

    def _composed(
        self,
        question: str,
        retrieval: RetrievalResult,
        user: UserContext | None,
        client: ChatClient,
        options: GenerationOptions,
        limit: WorkLimit,
        *,
        has_system: bool,
    ) -> ComposedPrompt:
        def count(system: str, message: str) -> int:
            limit.check("composing a prompt")
            content = _message(system, message, has_system=has_system)
            rendered = client.render([*client.messages, {"role": "user", "content": content}])
            return len(self._engine.tokenize(rendered, add_special=True, parse_special=True))

        room = self._engine.model.context_length - options.max_tokens - 1
        wanted = self._prompt.max_tokens
        return compose(
            question,
            [chunk for chunk in retrieval.chunks if chunk.sufficient],
            user=user,
            authorizer=self._index.authorizer,
            options=self._prompt,
            max_tokens=room if wanted is None else min(room, wanted),
            count=count,
            harmless=self._harmless,
        )


def _message(system: str, message: str, *, has_system: bool) -> str:
    """The user's turn; it begins with the rules where the format has no other place for them."""
    return message if has_system else f"{system}\n\n{message}"
