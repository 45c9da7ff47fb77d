"""What can be wrong with a use of the library: rows of the table of reasons."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry.reason_rows import Reason
from smallmind_engine.telemetry.reasons import ReasonCode

USE_REASONS: Final[tuple[Reason, ...]] = (
    Reason(
        ReasonCode.OPTION_INVALID,
        "An option has a value that cannot be used.",
        "The error names the option, its value and the allowed range.",
    ),
    Reason(
        ReasonCode.RESPONSE_FORMAT_INVALID,
        "A `response_format` is no schema, expression or grammar, or says what cannot be followed.",
        "The error names the place and what is wrong there; nothing was computed.",
    ),
    Reason(
        ReasonCode.GRAMMAR_FAILED,
        "A grammar became too much while the answer was made: too many possibilities at once.",
        "Make it simpler: fewer options that begin alike, shorter repetitions.",
    ),
    Reason(
        ReasonCode.PROMPT_EMPTY,
        "The prompt holds no token, so there is nothing to continue.",
        "Pass at least one character.",
    ),
    Reason(
        ReasonCode.CONTEXT_OVERFLOW,
        "The prompt is longer than the context window.",
        "Shorten it, raise `context_length`, or choose a `context_overflow` policy.",
    ),
    Reason(
        ReasonCode.CHAT_TEMPLATE_MISSING,
        "The model file carries no chat template.",
        "Use an instruction-tuned model, pass `template=`, or allow a guess.",
    ),
    Reason(
        ReasonCode.CHAT_TEMPLATE_INVALID,
        "The chat template failed to compile, to render, or overstepped its sandbox.",
        "Read the error; pass a `template=` of your own.",
    ),
    Reason(
        ReasonCode.CHAT_STORE_FAILED,
        "A store of conversations cannot be read or written, or is of a newer version.",
        "The error names the file and what is wrong with it.",
    ),
    Reason(
        ReasonCode.CHAT_STORE_CONFLICT,
        "Somebody else has changed the stored conversation since this client read it.",
        "Open it again; give each writer a conversation of its own.",
    ),
    Reason(
        ReasonCode.TOOL_DEFINITION_INVALID,
        "A tool cannot be described to the model: its name, signature or schema is unusable.",
        "The error names the tool and what would be right.",
    ),
    Reason(
        ReasonCode.TOOLS_UNSUPPORTED,
        "The chat template says nothing of tools, or nothing that is understood here.",
        "Use a model trained for tools, or pass `template=` and `tool_format=`.",
    ),
    Reason(
        ReasonCode.TOOL_CALL_INVALID,
        "The model called a tool that does not exist, or with arguments that its schema refuses.",
        "Nothing to do: `run_tools` tells the model what is wrong.",
    ),
    Reason(
        ReasonCode.TOOL_FAILED,
        "A tool raised an error, was not approved, or answered with what JSON cannot hold.",
        "Nothing to do: `run_tools` tells the model; the log line has the error.",
    ),
    Reason(
        ReasonCode.TOOL_ROUNDS_EXHAUSTED,
        "The model still called tools when `max_rounds` was reached.",
        "Raise `max_rounds`, or ask for less.",
    ),
    Reason(
        ReasonCode.SESSION_CONCURRENT_USE,
        "Two threads used one session at the same time.",
        "Give each thread a session of its own; the engine may be shared.",
    ),
    Reason(
        ReasonCode.CLOSED,
        "The engine, session or exporter was used after it was closed.",
        "Use it inside its `with` block.",
    ),
    Reason(
        ReasonCode.EXTRA_MISSING,
        "An optional package is not installed.",
        "Run the `pip install` line in the error.",
    ),
    Reason(
        ReasonCode.EXPORTER_UNKNOWN,
        "No installed package provides an exporter of that name.",
        "The error lists the exporters that were found.",
    ),
    Reason(
        ReasonCode.EXPORTER_UNAVAILABLE,
        "An exporter cannot work in this process: its address, names or mode are taken.",
        "The error tells what stands in its way.",
    ),
    Reason(
        ReasonCode.EXPORTER_SUBSCRIBED_TWICE,
        "The same exporter object was subscribed to one bus twice; it would count all twice.",
        "Close its first subscription, or subscribe another instance.",
    ),
    Reason(
        ReasonCode.BACKEND_UNKNOWN,
        "The backend is not one of those available.",
        "The error lists the backends that work here.",
    ),
    Reason(
        ReasonCode.GOLDEN_INVALID,
        "A golden file cannot be compared: unreadable, or made for another model file.",
        "Pass the golden file whose `model_sha256` is that of the model.",
    ),
    Reason(
        ReasonCode.VALIDATION_FAILED,
        "A check of a validation was made, and what it looked at does not hold.",
        "Its message and figures say what is wrong, and by how much.",
    ),
    Reason(
        ReasonCode.NON_FINITE_LOGITS,
        "The model produced NaN or infinity where a score was expected.",
        "The weights are damaged or of an unsupported kind.",
    ),
    Reason(
        ReasonCode.EVENT_LOG_UNREADABLE,
        "A file cannot be read as a log of events.",
        "Pass a file that the exporter `jsonl` wrote; the message says what is wrong here.",
    ),
    Reason(
        ReasonCode.EVENT_LOG_SCHEMA_UNSUPPORTED,
        "A log of events is in a format that this version does not read.",
        "Read it with the version that wrote it; the message names it.",
    ),
    Reason(
        ReasonCode.REQUEST_NOT_RECORDED,
        "A log holds no request that could be run again.",
        "Record with `capture_content=True` and the flight recorder switched on.",
    ),
    Reason(
        ReasonCode.RAG_EVIDENCE_INSUFFICIENT,
        "No source that the user may see is good enough to answer the question from.",
        "Ask otherwise, index what is missing, or loosen the `GroundingRules`.",
    ),
    Reason(
        ReasonCode.RAG_SOURCE_UNREADABLE,
        "A document cannot be read: damaged, encrypted, too large, or of an unknown type.",
        "The error names the document; the rest of the run is not affected.",
    ),
    Reason(
        ReasonCode.RAG_SOURCE_CHANGED,
        "The document of a citation was changed or deleted since the answer.",
        "Ask again; the citation itself still carries the text that was used.",
    ),
    Reason(
        ReasonCode.RAG_INDEX_UNUSABLE,
        "The index cannot be opened: it is damaged, locked, no index, or not writable.",
        "Read the error; delete the file and index again when it is damaged.",
    ),
    Reason(
        ReasonCode.RAG_INDEX_TOO_NEW,
        "The index was made by a newer version of smallmind.",
        "Upgrade smallmind, or index again into another file.",
    ),
    Reason(
        ReasonCode.RAG_EMBEDDER_MISMATCH,
        "The vectors of the index are those of another embedder, or have another width.",
        "Open the index with the embedder that the error names, or index again.",
    ),
    Reason(
        ReasonCode.RAG_BUDGET_EXCEEDED,
        "A limit on chunks, bytes or prompt tokens leaves no room for what was asked for.",
        "Raise the limit that the error names.",
    ),
    Reason(
        ReasonCode.RAG_ACCESS_DENIED,
        "A chunk that the user may not see was about to be used; it was not.",
        "Use a re-ranker that gives back only chunks that it was given.",
    ),
)
