"""The runner: loads a model, runs the checks one after the other, and keeps what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from smallmind._engine import Engine
from smallmind._load import load as load_engine
from smallmind._registry import resolve
from smallmind.validation.checks import CHECKS, Applies, Check
from smallmind.validation.golden import Golden, find_goldens
from smallmind.validation.options import ValidationOptions
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import (
    CheckResult,
    CheckStatus,
    Figure,
    Outcome,
    ValidationReport,
)
from smallmind.validation.selection import LOAD, chosen
from smallmind.validation.subject import Loader, Subject
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.runtime import EngineOptions
from smallmind_engine.telemetry import ReasonCode, SmallMindError

_STOPPED: Final = "stopped before its end"
_NOT_REACHED: Final = "stopped before it was reached"
_NOT_LOADED: Final = "the model did not load"
_ENCODER: Final = "the model is an encoder: it predicts no next token"


class ValidationRunner:
    """Validates one model once. ``cancel`` and ``cancel_check`` may be called by any thread.

    Args:
        model: a GGUF file, or a name of the registry.
        golden: what references say of it: files, or folders of which those files are taken that
            were made for this model. None for what must hold for any model.
        options: how thoroughly.
        engine_options: how the model is loaded, the backend among them.
        cancellation: stops the validation; what was found until then is reported.
        on_begin: told of each check when it begins.
        on_result: told of each result.
        load: makes the engines; ``smallmind.load`` or the like.
        checks: to choose from.

    Raises:
        ConfigError: ``options`` name a check that there is not.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        golden: Path | Sequence[Path] | None = None,
        options: ValidationOptions | None = None,
        engine_options: EngineOptions | None = None,
        cancellation: CancellationToken | None = None,
        on_begin: Callable[[Check], None] | None = None,
        on_result: Callable[[CheckResult], None] | None = None,
        load: Loader = load_engine,
        checks: Sequence[Check] = CHECKS,
    ) -> None:
        self._named = model
        self._places = [golden] if isinstance(golden, Path) else list(golden or ())
        self._options = options or ValidationOptions()
        self._engine_options = engine_options or EngineOptions()
        self._on_begin = on_begin
        self._on_result = on_result
        self._load = load
        self._chosen = chosen(checks, self._options)
        self._token = CancellationToken(*(() if cancellation is None else (cancellation,)))
        self._check_token: CancellationToken | None = None
        self._begun_s = 0.0
        self._started = 0.0
        self._path = Path(model)
        self._engine: Engine | None = None
        self._goldens: tuple[Golden, ...] = ()
        self._results: list[CheckResult] = []

    def cancel(self) -> None:
        """Stop. The report tells what was found until then."""
        self._token.cancel()

    def cancel_check(self) -> None:
        """Stop the check that runs now, and go on with the next."""
        token = self._check_token
        if token is not None:
            token.cancel()

    def run(self) -> ValidationReport:
        """Run the checks.

        Returns:
            What they found. A check that raises has failed; a model that does not load is a
            failed check as well.

        Raises:
            RegistryError: the model's name is unknown, or the download failed.
            ValidationDataError: a golden file is unreadable, or made for another model file.
        """
        self._started, self._begun_s = time.time(), time.perf_counter()
        try:
            self._path = resolve(self._named, limit=WorkLimit(self._token))
            self._note(LOAD, self._loaded)
            if self._engine is not None:
                self._goldens = find_goldens(self._places, self._sha256)
            for check, left_out in self._chosen:
                self._one(check, left_out)
            return self.report()
        finally:
            if self._engine is not None:
                self._engine.close()
            self._token.close()

    def report(self) -> ValidationReport:
        """What was found so far."""
        model = None if self._engine is None else self._engine.model
        return ValidationReport(
            model=self._path.stem if model is None else model.name,
            path=str(self._path),
            fingerprint="" if model is None else model.fingerprint,
            backend=self._engine_options.backend if model is None else model.runner.backend,
            references=tuple(golden.path.stem for golden in self._goldens),
            started=self._started,
            duration_s=time.perf_counter() - self._begun_s,
            results=tuple(self._results),
            interrupted=self._token.is_cancelled,
        )

    # -- one check ----------------------------------------------------------------------------

    def _loaded(self, token: CancellationToken, limit: WorkLimit) -> Outcome:
        self._engine = self._load(
            self._path,
            options=self._engine_options,
            exporters=(),
            cancellation=token,
            timeout=limit.remaining_s,
        )
        model = self._engine.model
        plan = model.memory_plan
        return judged(
            f"{model.spec.architecture}, {model.parameters} parameters, {model.quantization},"
            f" {model.tokenizer.kind} tokenizer, on {model.runner.backend}",
            (
                Figure(name="seconds", value=model.load_s, unit="s"),
                Figure(name="parameters", value=model.parameters),
                Figure(name="context", value=model.context_length, unit="tokens"),
                Figure(name="memory", value=plan.total_bytes, unit="bytes"),
            ),
        )

    def _sha256(self) -> str:
        file = None if self._engine is None else self._engine.model.file
        return "" if file is None else file.sha256(limit=WorkLimit(self._token))

    def _one(self, check: Check, left_out: str) -> None:
        engine = self._engine
        if self._token.is_cancelled:
            self._keep(check.name, skipped(_NOT_REACHED, ReasonCode.CANCELLED_BY_CALLER))
        elif engine is None:
            self._keep(check.name, skipped(_NOT_LOADED))
        elif left_out:
            self._keep(check.name, skipped(left_out))
        elif check.applies is Applies.DECODERS and not engine.model.spec.causal:
            self._keep(check.name, skipped(_ENCODER))
        else:
            if self._on_begin is not None:
                self._on_begin(check)
            self._note(check.name, lambda token, limit: check.run(self._subject(token, limit)))

    def _subject(self, token: CancellationToken, limit: WorkLimit) -> Subject:
        if self._engine is None:  # pragma: no cover - no check runs without one
            raise AssertionError
        return Subject(
            engine=self._engine,
            path=self._path,
            engine_options=self._engine_options,
            goldens=self._goldens,
            options=self._options,
            load=self._load,
            token=token,
            limit=limit,
        )

    def _note(self, name: str, run: Callable[[CancellationToken, WorkLimit], Outcome]) -> None:
        """Run a check and keep its result; whatever it raises is a result too."""
        begun_s = time.perf_counter()
        error_type = ""
        with CancellationToken(self._token) as token:
            self._check_token = token
            try:
                outcome = run(token, WorkLimit.within(self._options.check_timeout, token))
            except Exception as error:  # noqa: BLE001 - a failed check, not the end of the others
                outcome, error_type = _failed(error), type(error).__name__
            finally:
                self._check_token = None
            if token.is_cancelled and outcome.status is not CheckStatus.PASSED:
                outcome, error_type = skipped(_STOPPED, ReasonCode.CANCELLED_BY_CALLER), ""
        self._keep(name, outcome, time.perf_counter() - begun_s, error_type)

    def _keep(
        self, name: str, outcome: Outcome, duration_s: float = 0.0, error_type: str = ""
    ) -> None:
        result = CheckResult(
            name=name, outcome=outcome, duration_s=duration_s, error_type=error_type
        )
        self._results.append(result)
        if self._on_result is not None:
            self._on_result(result)


def _failed(error: Exception) -> Outcome:
    """A check that raised, in words and by the error's own code."""
    if isinstance(error, SmallMindError):
        message, reason = error.advice, error.reason
    else:
        message, reason = f"{type(error).__name__}: {error}", ReasonCode.ERROR
    return Outcome(status=CheckStatus.FAILED, message=message, reason=reason)
