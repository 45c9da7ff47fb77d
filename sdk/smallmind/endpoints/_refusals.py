"""What went wrong, as status and body of an HTTP answer: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smallmind_engine.telemetry import ReasonCode, SmallMindError
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ClosedError,
    ConfigError,
    ContextOverflowError,
    MemoryBudgetError,
    OperationCancelledError,
)

_RETRY_AFTER_S: Final = 1

_STATUSES: Final[tuple[tuple[type[SmallMindError], int], ...]] = (
    (BackpressureError, 429),
    (ContextOverflowError, 400),
    (ConfigError, 400),
    (ClosedError, 503),
    (MemoryBudgetError, 503),
    (OperationCancelledError, 503),
)
_TYPES: Final[Mapping[int, str]] = {
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}
"""Words of OpenAI's for each status; all others are errors of the request."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """An answer other than the one that was hoped for.

    Args:
        status: of HTTP.
        message: for people.
        code: for programs, a reason code where there is one.
        param: the field of the request that is wrong.
    """

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    @property
    def document(self) -> dict[str, object]:
        """The body."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """What the client is told beside it."""
        return {"retry-after": str(_RETRY_AFTER_S)} if self.status in {429, 503} else {}


def refusal_of(error: Exception) -> Refusal:
    """The answer to an error; of those that are nobody's request's fault no detail is told."""
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, SmallMindError):
        return Refusal(500, "the server failed", ReasonCode.ERROR.value)
    status = 500
    if error.reason is ReasonCode.CANCELLED_BY_TIMEOUT:
        status = 504
    else:
        status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    return Refusal(status, str(error), error.reason.value)
