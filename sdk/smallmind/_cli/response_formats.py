"""The options that say what an answer must look like, and the format that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smallmind_engine.grammar import Choice, Grammar, JsonSchema, Regex, ResponseFormat
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

JsonSchemaFile = Annotated[
    Path | None,
    typer.Option("--json-schema", metavar="FILE", help="write JSON that this schema allows"),
]
RegexPattern = Annotated[
    str | None, typer.Option("--regex", help="write what this expression matches as a whole")
]
Choices = Annotated[
    list[str] | None, typer.Option("--choice", help="write one of these; to be given again")
]
GrammarFile = Annotated[
    Path | None,
    typer.Option("--grammar", metavar="FILE", help="write a text of this grammar, in GBNF"),
]


def response_format(
    json_schema: Path | None, regex: str | None, choice: list[str] | None, grammar: Path | None
) -> ResponseFormat | None:
    """The format that the options name; None when there is none.

    Raises:
        ConfigError: there are several, or a file cannot be read.
    """
    found: list[ResponseFormat] = []
    if json_schema is not None:
        found.append(JsonSchema(_text("--json-schema", json_schema)))
    if regex is not None:
        found.append(Regex(regex))
    if choice:
        found.append(Choice(choice))
    if grammar is not None:
        found.append(Grammar(_text("--grammar", grammar)))
    if len(found) > 1:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"an answer cannot be a {found[0].kind} and a {found[1].kind} at once",
            hint="give one of --json-schema, --regex, --choice and --grammar",
            option="response_format",
        )
    return found[0] if found else None


def _text(option: str, path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"the file of {option} cannot be read: {error}",
            hint="pass the path of a UTF-8 text file",
            option=option,
            value=str(path),
        ) from error
