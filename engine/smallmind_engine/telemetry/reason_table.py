"""What each reason code means and what to do about it; ``docs/`` has it as a page."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry.reason_rows import Reason
from smallmind_engine.telemetry.reason_rows_models import MODEL_REASONS
from smallmind_engine.telemetry.reason_rows_requests import REQUEST_REASONS
from smallmind_engine.telemetry.reason_rows_uses import USE_REASONS

REASONS: Final[tuple[Reason, ...]] = (*REQUEST_REASONS, *MODEL_REASONS, *USE_REASONS)
"""All rows, in the order of the reference page."""
