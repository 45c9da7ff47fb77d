"""Writes the reference page of the command line from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from smallmind._cli.app import app
from smallmind._cli.exit_codes import MEANINGS

_INTRODUCTION = """\
# The command line

<!-- Made by docs/generate.py: change the code, then run it again. -->

`pip install "smallmind[cli]"` brings the command `smallmind`; `python -m smallmind` is the same.
`smallmind --install-completion` sets up completion of commands, options and model names in the
shell that runs it.

* Text goes to the standard output; progress, notes and errors go to the standard error.
* On a terminal there are colours, tables and bars. Through a pipe there is plain text: no control
  sequences, no bars, nothing cut.
* With `--json` the standard output is one JSON document and nothing else. Sizes are bytes, times
  are seconds, shares are from 0 to 1, and numbers that JSON does not have are null.
* An error is one line that ends with its [reason code](reason-codes.md). `smallmind --debug ...`
  shows the traceback too.
* The first Ctrl-C stops the work within a token and prints what there is; the second one does not
  wait.
"""


def render_cli_page() -> str:
    """The page, as Markdown."""
    root: Any = typer.main.get_command(app)
    parts = [_INTRODUCTION, _exit_codes(), "## Options of all commands\n", _options(root)]
    parts.extend(_command(name, command) for name, command in _leaves(root))
    return "\n".join(parts)


def _leaves(group: Any, before: str = "") -> Iterable[tuple[str, Any]]:
    """The commands of a group and of the groups in it, by their whole names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _exit_codes() -> str:
    rows = ["## Exit codes", "", "| code | means |", "|---|---|"]
    rows += [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(rows) + "\n"


def _command(name: str, command: Any) -> str:
    arguments = "".join(f" {_argument_name(a)}" for a in _of_kind(command, "argument"))
    text = "\n".join(line.strip() for line in (command.help or "").splitlines())
    return f"## smallmind {name}{arguments}\n\n{text}\n\n{_options(command)}"


def _options(command: Any) -> str:
    rows = [
        f"| `{_argument_name(parameter)}` | {_sentence(parameter.help)} |  |"
        for parameter in _of_kind(command, "argument")
    ]
    for parameter in _of_kind(command, "option"):
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        rows.append(f"| {names} | {_sentence(parameter.help)} | {_default(parameter)} |")
    return "\n".join(["| argument or option | does | default |", "|---|---|---|", *rows]) + "\n"


def _of_kind(command: Any, kind: str) -> Iterable[Any]:
    return (each for each in command.params if each.param_type_name == kind)


def _argument_name(parameter: Any) -> str:
    return str(parameter.name).upper()


def _sentence(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default is None and parameter.envvar:
        return f"${parameter.envvar}"
    if parameter.default is None or parameter.default is False or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"
