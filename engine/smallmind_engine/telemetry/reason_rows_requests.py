"""Why requests end and why a service is degraded: rows of the table of reasons."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry.reason_rows import Reason
from smallmind_engine.telemetry.reasons import ReasonCode

REQUEST_REASONS: Final[tuple[Reason, ...]] = (
    Reason(
        ReasonCode.COMPLETED,
        "The model produced its end-of-sequence token, or its `response_format` lets nothing"
        " follow.",
        "Nothing to do.",
    ),
    Reason(
        ReasonCode.MAX_TOKENS,
        "The request produced as many tokens as `max_tokens` allows.",
        "Raise `max_tokens` when the text is cut short.",
    ),
    Reason(
        ReasonCode.STOP_SEQUENCE,
        "The text reached one of the request's `stop` strings.",
        "Nothing to do; the stop string itself is left out of the text.",
    ),
    Reason(
        ReasonCode.CONTEXT_FULL,
        "Prompt and completion together filled the context window.",
        "Shorten the prompt, or load the model with a larger `context_length`.",
    ),
    Reason(
        ReasonCode.CANCELLED_BY_CALLER,
        "The caller cancelled: a cancellation token, a closed generator, or Ctrl-C.",
        "Nothing to do; the result holds what was produced until then.",
    ),
    Reason(
        ReasonCode.CANCELLED_BY_TIMEOUT,
        "The request ran into its `request_timeout`.",
        "Raise `request_timeout`, or ask for fewer tokens.",
    ),
    Reason(
        ReasonCode.BACKPRESSURE_BUFFER_FULL,
        "The reader of a stream fell `max_buffered_tokens` behind and the policy says to stop.",
        "Read faster, raise `max_buffered_tokens`, or use the policy `block`.",
    ),
    Reason(
        ReasonCode.BACKPRESSURE_QUEUE_FULL,
        "`max_queue_depth` requests were waiting already, so this one was turned away.",
        "Retry later, or raise `max_queue_depth`.",
    ),
    Reason(
        ReasonCode.MEMORY_BUDGET_EXCEEDED,
        "The memory that was asked for does not fit the budget, and the mode is strict.",
        "Raise `max_memory_bytes`, or take one of the settings that the error suggests.",
    ),
    Reason(
        ReasonCode.MEMORY_BUDGET_SOFT_LIMIT,
        "The budget was met by giving less than was asked for (best-effort mode), or a plan is over"
        " a limit that nobody enforces (a warning).",
        "Raise `max_memory_bytes` to get all of it.",
    ),
    Reason(
        ReasonCode.ERROR,
        "The request failed; the error on the result or the log event tells how.",
        "Read the error that goes with it.",
    ),
    Reason(
        ReasonCode.TOKENIZER_GGUF_METADATA_MISSING,
        "The file carries no tokenizer metadata.",
        "Convert the model again with its tokenizer; text is handled as raw bytes until then.",
    ),
    Reason(
        ReasonCode.TOKENIZER_VOCAB_PARTIAL,
        "The vocabulary is missing, empty, or does not match the model's embedding rows.",
        "Convert the model again; ids without a token are shown as nothing.",
    ),
    Reason(
        ReasonCode.TOKENIZER_MERGES_MISSING,
        "A BPE vocabulary came without its merge rules.",
        "Convert the model again with `tokenizer.ggml.merges`.",
    ),
    Reason(
        ReasonCode.TOKENIZER_FALLBACK_BYTEBPE,
        "No usable vocabulary: every byte is a token of its own.",
        "Convert the model again with its tokenizer.",
    ),
    Reason(
        ReasonCode.TOKENIZER_FALLBACK_TOKENTABLE_ONLY,
        "Text is split by the token table alone, by scores or by longest match.",
        "Convert the model again with its merges or scores when outputs look wrong.",
    ),
    Reason(
        ReasonCode.TOKENIZER_PRETOKENIZER_UNKNOWN,
        "`tokenizer.ggml.pre` names a pattern that is not known; the default one is used.",
        "Report the name; ids may differ from the reference in rare texts.",
    ),
    Reason(
        ReasonCode.TOKENIZER_UNSUPPORTED,
        "The tokenizer is of a kind that is not supported, or strict mode refused a fallback.",
        "Choose another `tokenizer_mode`, or convert the model again.",
    ),
    Reason(
        ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
        "A token id lies outside the vocabulary.",
        "Pass ids from 0 to the vocabulary size less one.",
    ),
    Reason(
        ReasonCode.KV_CACHE_EVICTION,
        "An idle session's KV cache was dropped to make room; its next turn prefills again.",
        "Raise `max_memory_bytes`, or keep fewer sessions.",
    ),
    Reason(
        ReasonCode.CONTEXT_TRUNCATION,
        "The prompt was longer than the context: its middle or its oldest turns were left out, or"
        " an end of a text to be embedded.",
        "Shorten it; `context_overflow` and `truncation` can be 'error', a chat's history full.",
    ),
    Reason(
        ReasonCode.CHAT_TEMPLATE_FALLBACK,
        "The model file has no chat template; the format was guessed from its vocabulary.",
        "Use an instruction-tuned model, pass `template=`, or refuse with `strict_template=True`.",
    ),
    Reason(
        ReasonCode.WEIGHTS_PER_LAYER,
        "Weights are dequantised layer by layer in every step, because they do not fit whole.",
        "Raise `max_memory_bytes`, or accept the slower decode.",
    ),
    Reason(
        ReasonCode.WEIGHT_TYPE_CONVERTED,
        "Weights of a type without kernels of its own were converted to another one at load.",
        "Quantise the model to a type that the backend runs as it is, such as `Q4_K` or `Q8_0`.",
    ),
    Reason(
        ReasonCode.BACKEND_FALLBACK,
        "The fast backend cannot be used, here or for this model; the NumPy one took its place.",
        'Run `pip install "smallmind[fast]"`; the message tells when something else is the reason.',
    ),
    Reason(
        ReasonCode.KERNEL_CACHE_UNAVAILABLE,
        "Compiled kernels could not be kept on disk; every new process compiles them again.",
        "Make the folder that the message names writable, or set `SMALLMIND_CACHE_DIR`.",
    ),
    Reason(
        ReasonCode.PACKED_WEIGHTS_NOT_KEPT,
        "Weights in the kernels' form could not be kept on disk; the next load packs them again.",
        "Make room on the disk, or make the folder writable that the message names.",
    ),
    Reason(
        ReasonCode.EXPORTER_FAILED,
        "An exporter raised an error; the request went on.",
        "Read the error in the log event.",
    ),
    Reason(
        ReasonCode.EXPORTER_DETACHED,
        "An exporter failed too many times in a row and was detached.",
        "Mend the exporter and attach it again.",
    ),
    Reason(
        ReasonCode.EVENTS_DROPPED,
        "An exporter's queue was full and its oldest events were dropped.",
        "Give the exporter a faster sink or a larger queue.",
    ),
    Reason(
        ReasonCode.TELEMETRY_SHED,
        "Publishing took more than `telemetry_budget`, so less detail is told for a while.",
        "`exporter_health` tells which exporter is slow: put it behind a queue, or raise the "
        "budget.",
    ),
    Reason(
        ReasonCode.RESPONSE_INCOMPLETE,
        "An answer ended before it was what its `response_format` asks for.",
        "Raise `max_tokens`; limit lengths in the schema (`maxLength`, `maxItems`). The result's"
        " `structured.complete` is false: do not parse it.",
    ),
)
