"""What each reason code means and what to do about it; ``docs/`` has it as a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from smallmind_engine.telemetry.reasons import ReasonCode


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table of reasons: what the code means and what to do about it."""

    code: ReasonCode
    meaning: str
    remedy: str


def _reason(code: ReasonCode, meaning: str, remedy: str) -> Reason:
    return Reason(code, meaning, remedy)


REASONS: Final[tuple[Reason, ...]] = (
    _reason(
        ReasonCode.COMPLETED,
        "The model produced its end-of-sequence token.",
        "Nothing to do.",
    ),
    _reason(
        ReasonCode.MAX_TOKENS,
        "The request produced as many tokens as `max_tokens` allows.",
        "Raise `max_tokens` when the text is cut short.",
    ),
    _reason(
        ReasonCode.STOP_SEQUENCE,
        "The text reached one of the request's `stop` strings.",
        "Nothing to do; the stop string itself is left out of the text.",
    ),
    _reason(
        ReasonCode.CONTEXT_FULL,
        "Prompt and completion together filled the context window.",
        "Shorten the prompt, or load the model with a larger `context_length`.",
    ),
    _reason(
        ReasonCode.CANCELLED_BY_CALLER,
        "The caller cancelled: a cancellation token, a closed generator, or Ctrl-C.",
        "Nothing to do; the result holds what was produced until then.",
    ),
    _reason(
        ReasonCode.CANCELLED_BY_TIMEOUT,
        "The request ran into its `request_timeout`.",
        "Raise `request_timeout`, or ask for fewer tokens.",
    ),
    _reason(
        ReasonCode.BACKPRESSURE_BUFFER_FULL,
        "The reader of a stream fell `max_buffered_tokens` behind and the policy says to stop.",
        "Read faster, raise `max_buffered_tokens`, or use the policy `block`.",
    ),
    _reason(
        ReasonCode.BACKPRESSURE_QUEUE_FULL,
        "`max_queue_depth` requests were waiting already, so this one was turned away.",
        "Retry later, or raise `max_queue_depth`.",
    ),
    _reason(
        ReasonCode.MEMORY_BUDGET_EXCEEDED,
        "The memory that was asked for does not fit the budget, and the mode is strict.",
        "Raise `max_memory_bytes`, or take one of the settings that the error suggests.",
    ),
    _reason(
        ReasonCode.MEMORY_BUDGET_SOFT_LIMIT,
        "The budget was met by giving less than was asked for (best-effort mode), or a plan is over"
        " a limit that nobody enforces (a warning).",
        "Raise `max_memory_bytes` to get all of it.",
    ),
    _reason(
        ReasonCode.ERROR,
        "The request failed; the error on the result or the log event tells how.",
        "Read the error that goes with it.",
    ),
    _reason(
        ReasonCode.TOKENIZER_GGUF_METADATA_MISSING,
        "The file carries no tokenizer metadata.",
        "Convert the model again with its tokenizer; text is handled as raw bytes until then.",
    ),
    _reason(
        ReasonCode.TOKENIZER_VOCAB_PARTIAL,
        "The vocabulary is missing, empty, or does not match the model's embedding rows.",
        "Convert the model again; ids without a token are shown as nothing.",
    ),
    _reason(
        ReasonCode.TOKENIZER_MERGES_MISSING,
        "A BPE vocabulary came without its merge rules.",
        "Convert the model again with `tokenizer.ggml.merges`.",
    ),
    _reason(
        ReasonCode.TOKENIZER_FALLBACK_BYTEBPE,
        "No usable vocabulary: every byte is a token of its own.",
        "Convert the model again with its tokenizer.",
    ),
    _reason(
        ReasonCode.TOKENIZER_FALLBACK_TOKENTABLE_ONLY,
        "Text is split by the token table alone, by scores or by longest match.",
        "Convert the model again with its merges or scores when outputs look wrong.",
    ),
    _reason(
        ReasonCode.TOKENIZER_PRETOKENIZER_UNKNOWN,
        "`tokenizer.ggml.pre` names a pattern that is not known; the default one is used.",
        "Report the name; ids may differ from the reference in rare texts.",
    ),
    _reason(
        ReasonCode.TOKENIZER_UNSUPPORTED,
        "The tokenizer is of a kind that is not supported, or strict mode refused a fallback.",
        "Choose another `tokenizer_mode`, or convert the model again.",
    ),
    _reason(
        ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
        "A token id lies outside the vocabulary.",
        "Pass ids from 0 to the vocabulary size less one.",
    ),
    _reason(
        ReasonCode.KV_CACHE_EVICTION,
        "An idle session's KV cache was dropped to make room; its next turn prefills again.",
        "Raise `max_memory_bytes`, or keep fewer sessions.",
    ),
    _reason(
        ReasonCode.CONTEXT_TRUNCATION,
        "The prompt was longer than the context: its middle or its oldest turns were left out.",
        "Shorten the prompt, or use `context_overflow='error'` and a chat's `FullHistory`.",
    ),
    _reason(
        ReasonCode.CHAT_TEMPLATE_FALLBACK,
        "The model file has no chat template; the format was guessed from its vocabulary.",
        "Use an instruction-tuned model, pass `template=`, or refuse with `strict_template=True`.",
    ),
    _reason(
        ReasonCode.WEIGHTS_PER_LAYER,
        "Weights are dequantised layer by layer in every step, because they do not fit whole.",
        "Raise `max_memory_bytes`, or accept the slower decode.",
    ),
    _reason(
        ReasonCode.WEIGHT_TYPE_CONVERTED,
        "Weights of a type without kernels of its own were converted to another one at load.",
        "Quantise the model to a type that the backend runs as it is, such as `Q4_K` or `Q8_0`.",
    ),
    _reason(
        ReasonCode.BACKEND_FALLBACK,
        "The fast backend cannot be used here, so `backend='auto'` took the NumPy one.",
        'Run `pip install "smallmind[fast]"`; the message tells when something else is wrong.',
    ),
    _reason(
        ReasonCode.KERNEL_CACHE_UNAVAILABLE,
        "Compiled kernels could not be kept on disk; every new process compiles them again.",
        "Make the folder that the message names writable, or set `SMALLMIND_CACHE_DIR`.",
    ),
    _reason(
        ReasonCode.PACKED_WEIGHTS_NOT_KEPT,
        "Weights in the kernels' form could not be kept on disk; the next load packs them again.",
        "Make room on the disk, or make the folder writable that the message names.",
    ),
    _reason(
        ReasonCode.EXPORTER_FAILED,
        "An exporter raised an error; the request went on.",
        "Read the error in the log event.",
    ),
    _reason(
        ReasonCode.EXPORTER_DETACHED,
        "An exporter failed too many times in a row and was detached.",
        "Mend the exporter and attach it again.",
    ),
    _reason(
        ReasonCode.EVENTS_DROPPED,
        "An exporter's queue was full and its oldest events were dropped.",
        "Give the exporter a faster sink or a larger queue.",
    ),
    _reason(
        ReasonCode.TELEMETRY_SHED,
        "Publishing took more than `telemetry_budget`, so less detail is told for a while.",
        "`exporter_health` tells which exporter is slow: put it behind a queue, or raise the "
        "budget.",
    ),
    _reason(
        ReasonCode.GGUF_NOT_GGUF,
        "The file does not begin with the GGUF magic.",
        "Pass a `.gguf` file.",
    ),
    _reason(
        ReasonCode.GGUF_VERSION_UNSUPPORTED,
        "The file's GGUF version is neither 2 nor 3.",
        "Convert the model again with a current converter.",
    ),
    _reason(
        ReasonCode.GGUF_TRUNCATED,
        "The file ends before what its header announces.",
        "Download it again: compare its size and SHA-256.",
    ),
    _reason(
        ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
        "A count, length or offset in the header cannot be true for a file of this size.",
        "The file is damaged: download it again.",
    ),
    _reason(
        ReasonCode.GGUF_TYPE_UNKNOWN,
        "A metadata value or tensor has a type that is not known.",
        "Convert the model to one of the types that the error lists.",
    ),
    _reason(
        ReasonCode.GGUF_DUPLICATE_NAME,
        "Two metadata keys or two tensors have the same name.",
        "The file is damaged: convert the model again.",
    ),
    _reason(
        ReasonCode.GGUF_TENSOR_OUT_OF_FILE,
        "A tensor's bytes reach past the end of the file.",
        "The download is probably incomplete: compare its size and SHA-256.",
    ),
    _reason(
        ReasonCode.GGUF_TENSOR_OVERLAP,
        "Two tensors claim the same bytes.",
        "The file is damaged: convert the model again.",
    ),
    _reason(
        ReasonCode.GGUF_TENSOR_MISALIGNED,
        "A tensor does not begin at a multiple of the file's alignment.",
        "The file is damaged: convert the model again.",
    ),
    _reason(
        ReasonCode.GGUF_TENSOR_SHAPE,
        "A tensor's shape does not fit its type or its place in the model.",
        "The file is damaged or of another architecture than it says.",
    ),
    _reason(
        ReasonCode.GGUF_SPLIT_INCOMPLETE,
        "A part of a split model is missing or belongs to another model.",
        "Put all `-00001-of-0000N` parts of one model into one folder.",
    ),
    _reason(
        ReasonCode.GGUF_METADATA_MISSING,
        "A metadata key that the architecture needs is missing.",
        "Convert the model again.",
    ),
    _reason(
        ReasonCode.GGUF_METADATA_INVALID,
        "A metadata value has the wrong type or a value that cannot be.",
        "Convert the model again.",
    ),
    _reason(
        ReasonCode.MODEL_FILE_UNREADABLE,
        "The model file does not exist or cannot be opened.",
        "Check the path and its permissions.",
    ),
    _reason(
        ReasonCode.MODEL_TENSOR_MISSING,
        "A tensor that the architecture needs is not in the file.",
        "Convert the model again.",
    ),
    _reason(
        ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
        "The file's architecture is not one of those that smallmind runs.",
        "The error lists the architectures that work.",
    ),
    _reason(
        ReasonCode.MODEL_NAME_UNKNOWN,
        "The name is neither a file nor a model of the registry.",
        "`smallmind list` shows the names.",
    ),
    _reason(
        ReasonCode.DOWNLOAD_FAILED,
        "A model could not be fetched from its source.",
        "Check the network and the package registry's settings, then run it again.",
    ),
    _reason(
        ReasonCode.DOWNLOAD_CHECKSUM_MISMATCH,
        "What was fetched does not have the expected size or SHA-256; it was deleted.",
        "Run it again; report it when it happens twice.",
    ),
    _reason(
        ReasonCode.PATH_OUTSIDE_CACHE,
        "A name would have led to a file outside the model cache.",
        "Use a plain model name.",
    ),
    _reason(
        ReasonCode.OPTION_INVALID,
        "An option has a value that cannot be used.",
        "The error names the option, its value and the allowed range.",
    ),
    _reason(
        ReasonCode.PROMPT_EMPTY,
        "The prompt holds no token, so there is nothing to continue.",
        "Pass at least one character.",
    ),
    _reason(
        ReasonCode.CONTEXT_OVERFLOW,
        "The prompt is longer than the context window.",
        "Shorten it, raise `context_length`, or choose a `context_overflow` policy.",
    ),
    _reason(
        ReasonCode.CHAT_TEMPLATE_MISSING,
        "The model file carries no chat template.",
        "Use an instruction-tuned model, pass `template=`, or allow a guess.",
    ),
    _reason(
        ReasonCode.CHAT_TEMPLATE_INVALID,
        "The chat template failed to compile, to render, or overstepped its sandbox.",
        "Read the error; pass a `template=` of your own.",
    ),
    _reason(
        ReasonCode.CHAT_STORE_FAILED,
        "A store of conversations cannot be read or written, or is of a newer version.",
        "The error names the file and what is wrong with it.",
    ),
    _reason(
        ReasonCode.CHAT_STORE_CONFLICT,
        "Somebody else has changed the stored conversation since this client read it.",
        "Open it again; give each writer a conversation of its own.",
    ),
    _reason(
        ReasonCode.TOOL_DEFINITION_INVALID,
        "A tool cannot be described to the model: its name, signature or schema is unusable.",
        "The error names the tool and what would be right.",
    ),
    _reason(
        ReasonCode.TOOLS_UNSUPPORTED,
        "The chat template says nothing of tools, or nothing that is understood here.",
        "Use a model trained for tools, or pass `template=` and `tool_format=`.",
    ),
    _reason(
        ReasonCode.TOOL_CALL_INVALID,
        "The model called a tool that does not exist, or with arguments that its schema refuses.",
        "Nothing to do: `run_tools` tells the model what is wrong.",
    ),
    _reason(
        ReasonCode.TOOL_FAILED,
        "A tool raised an error, was not approved, or answered with what JSON cannot hold.",
        "Nothing to do: `run_tools` tells the model; the log line has the error.",
    ),
    _reason(
        ReasonCode.TOOL_ROUNDS_EXHAUSTED,
        "The model still called tools when `max_rounds` was reached.",
        "Raise `max_rounds`, or ask for less.",
    ),
    _reason(
        ReasonCode.SESSION_CONCURRENT_USE,
        "Two threads used one session at the same time.",
        "Give each thread a session of its own; the engine may be shared.",
    ),
    _reason(
        ReasonCode.CLOSED,
        "The engine, session or exporter was used after it was closed.",
        "Use it inside its `with` block.",
    ),
    _reason(
        ReasonCode.EXTRA_MISSING,
        "An optional package is not installed.",
        "Run the `pip install` line in the error.",
    ),
    _reason(
        ReasonCode.EXPORTER_UNKNOWN,
        "No installed package provides an exporter of that name.",
        "The error lists the exporters that were found.",
    ),
    _reason(
        ReasonCode.EXPORTER_UNAVAILABLE,
        "An exporter cannot work in this process: its address, names or mode are taken.",
        "The error tells what stands in its way.",
    ),
    _reason(
        ReasonCode.EXPORTER_SUBSCRIBED_TWICE,
        "The same exporter object was subscribed to one bus twice; it would count all twice.",
        "Close its first subscription, or subscribe another instance.",
    ),
    _reason(
        ReasonCode.BACKEND_UNKNOWN,
        "The backend is not one of those available.",
        "The error lists the backends that work here.",
    ),
    _reason(
        ReasonCode.GOLDEN_INVALID,
        "A golden file cannot be compared: unreadable, or made for another model file.",
        "Pass the golden file whose `model_sha256` is that of the model.",
    ),
    _reason(
        ReasonCode.NON_FINITE_LOGITS,
        "The model produced NaN or infinity where a score was expected.",
        "The weights are damaged or of an unsupported kind.",
    ),
)
