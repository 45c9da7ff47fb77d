"""The error family. Each error tells what was wrong, where, and what would be right.

SmallMindError
├── ModelFileError (ValueError)         a model file is damaged, incomplete or unreadable
│   └── GgufFormatError                 its bytes break the GGUF format; knows the offset
├── UnsupportedModelError (ValueError)  the file is sound, but this engine does not run it
├── TokenizerError (ValueError)         text or ids that the tokenizer cannot handle
├── ConfigError (ValueError)            an option has an impossible value
├── ContextOverflowError (ValueError)   the prompt does not fit the context window
├── ChatTemplateError (ValueError)      a chat template is missing, broken or hostile
├── ChatStoreError (RuntimeError)       a store of conversations failed, or was changed elsewhere
├── ToolError (ValueError)              a tool cannot be described, or the model knows no tools
├── RegistryError (OSError)             a model could not be found, fetched or verified
├── ValidationDataError (ValueError)    a golden file cannot be compared
├── EventLogError (ValueError)          a log of events cannot be read
├── MissingExtraError (ImportError)     an optional package is not installed
├── ExporterError (RuntimeError)        an exporter is unknown or cannot be attached
├── BackpressureError (RuntimeError)    the engine is full
├── MemoryBudgetError (MemoryError)     the memory budget refuses
├── OperationCancelledError (RuntimeError)   work without a partial result was cancelled
├── ConcurrentSessionUseError (RuntimeError) two threads in one session
├── ClosedError (RuntimeError)          used after close
└── InferenceError (RuntimeError)       generation failed; carries the partial result
"""

from __future__ import annotations

from smallmind_engine.telemetry.reasons import ReasonCode


class SmallMindError(Exception):
    """Root of all errors that smallmind raises on purpose.

    Args:
        reason: the code under which the table of reasons explains it.
        message: what was found, where, and what was expected.
        hint: what to do about it; shown after the message.
        details: the values of the message as attributes, for programs.

    Attributes:
        reason: see above.
        hint: see above; empty when there is none.
        details: see above.
    """

    def __init__(
        self, reason: ReasonCode, message: str, *, hint: str = "", **details: object
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy with everything, not with the ``args`` alone as exceptions do."""
        parts = (type(self), self.reason, super().__str__(), self.hint, self.details)
        return _rebuilt, parts, vars(self)

    @property
    def advice(self) -> str:
        """Message and hint, for those who show the code beside them."""
        message = super().__str__()
        return f"{message}; {self.hint}" if self.hint else message

    def __str__(self) -> str:
        """Message, hint and code in one line."""
        return f"{self.advice} [{self.reason.value}]"


def _rebuilt(
    cls: type[SmallMindError],
    reason: ReasonCode,
    message: str,
    hint: str,
    details: dict[str, object],
) -> SmallMindError:
    return cls(reason, message, hint=hint, **details)


class ModelFileError(SmallMindError, ValueError):
    """A model file is damaged, incomplete or unreadable."""


class GgufFormatError(ModelFileError):
    """The bytes of a file break the GGUF format; ``details['offset']`` tells where."""


class UnsupportedModelError(SmallMindError, ValueError):
    """The file is sound, but of an architecture or type that this engine does not run."""


class TokenizerError(SmallMindError, ValueError):
    """The tokenizer cannot be built, or cannot handle the text or ids it was given."""


class ConfigError(SmallMindError, ValueError):
    """An option has a value that cannot be used."""


def invalid_option(option: str, value: object, allowed: str) -> ConfigError:
    """The error for an option or argument with a value that cannot be used."""
    return ConfigError(
        ReasonCode.OPTION_INVALID,
        f"{option} is {value!r}; it must be {allowed}",
        option=option,
        value=value,
        allowed=allowed,
    )


class ContextOverflowError(SmallMindError, ValueError):
    """The prompt does not fit the context window."""


class ChatTemplateError(SmallMindError, ValueError):
    """A chat template is missing, broken, or tried to leave its sandbox."""


class ChatStoreError(SmallMindError, RuntimeError):
    """A store of conversations failed, or somebody else changed the conversation."""


class ToolError(SmallMindError, ValueError):
    """A tool cannot be described to a model, or the model's format knows no tools."""


class RegistryError(SmallMindError, OSError):
    """A model could not be found, fetched or verified."""


class ValidationDataError(SmallMindError, ValueError):
    """A golden file cannot be read, or belongs to another model."""


class EventLogError(SmallMindError, ValueError):
    """A log of events is no such log, or of a format that this version does not read."""


class MissingExtraError(SmallMindError, ImportError):
    """An optional package is not installed.

    Args:
        extra: the extra of the ``smallmind`` distribution that brings the package.
        needed_for: what was asked for.
    """

    def __init__(self, extra: str, needed_for: str) -> None:
        install = f'pip install "smallmind[{extra}]"'
        super().__init__(
            ReasonCode.EXTRA_MISSING,
            f"{needed_for} needs the extra {extra!r}",
            hint=f"run: {install}",
            extra=extra,
            needed_for=needed_for,
            install=install,
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy by the arguments of this class."""
        return type(self), (self.details["extra"], self.details["needed_for"]), vars(self)


class ExporterError(SmallMindError, RuntimeError):
    """An exporter is unknown or cannot be attached."""


class BackpressureError(SmallMindError, RuntimeError):
    """The engine has as much to do as it may have; the request was turned away."""


class MemoryBudgetError(SmallMindError, MemoryError):
    """The memory budget refuses what was asked for, before it is taken."""


class OperationCancelledError(SmallMindError, RuntimeError):
    """Work that has no partial result (such as loading) was cancelled or ran out of time."""


class ConcurrentSessionUseError(SmallMindError, RuntimeError):
    """A session was entered by a second thread while a first one was in it."""


class ClosedError(SmallMindError, RuntimeError):
    """An engine, session or exporter was used after it was closed."""


class InferenceError(SmallMindError, RuntimeError):
    """Generation failed; ``details['result']`` holds what was produced until then."""
