"""What a step of the model asks between its layers."""

from __future__ import annotations

from collections.abc import Callable

from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import OperationCancelledError


class StepLimit(WorkLimit):
    """Lets the scheduler attend to its notes during a long step.

    Args:
        is_useless: attends to them, and answers whether the step is to be given up.
    """

    __slots__ = ("_is_useless",)

    def __init__(self, is_useless: Callable[[], bool]) -> None:
        super().__init__()
        self._is_useless = is_useless

    def check(self, work: str) -> None:
        """Raise when the step is of no use any more.

        Raises:
            OperationCancelledError: those were cancelled for whom most of it was.
        """
        if self._is_useless():
            raise OperationCancelledError(
                ReasonCode.CANCELLED_BY_CALLER, f"{work} was stopped", work=work
            )
