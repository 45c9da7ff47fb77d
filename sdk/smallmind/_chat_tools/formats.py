"""How families of models write calls of tools, and how these are read.

A format reads text that a model produced, and nothing else: what users, documents or tools say is
never looked at. A call that cannot be read is kept with its complaint, so that the model may hear
of it. Where an answer is held to a call, ``ToolFormat.around_arguments`` is what stands around its
arguments.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smallmind_engine.telemetry import ReasonCode, ToolError

_NAMES: Final = ("name",)
_ARGUMENTS: Final = ("arguments", "parameters")
_XML_SIGN: Final = "<function="  # calls as XML within the same marks as those in JSON
_LONGEST_CALL: Final = 100_000
"""Characters of one call; longer ones are not read."""


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as the model wrote it.

    Attributes:
        name: of the tool; empty when it cannot be read.
        arguments: as written.
        text: the whole call.
        complaint: why it cannot be read; empty when it can.
    """

    name: str
    arguments: object
    text: str
    complaint: str = ""


Reading = tuple[str, list[WrittenCall]]
"""What is left of an answer without its calls, and the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """One way of writing calls.

    Attributes:
        name: for ``ChatOptions.tool_format``.
        opening: what begins a call; control tokens are written out.
        signs: texts in a chat template that tell of the format, any one of them.
        read: the calls in an answer.
        call: an answer that is one call; ``NAME`` and ``ARGUMENTS`` stand for these.
    """

    name: str
    opening: str
    signs: tuple[str, ...]
    read: Callable[[str], Reading]
    call: str

    def around_arguments(self, name: str) -> tuple[str, str]:
        """What stands before and after the arguments of a call of the tool ``name``."""
        before, _, after = self.call.partition("ARGUMENTS")
        return before.replace("NAME", name), after


def format_of(template: str, wanted: str | None = None) -> ToolFormat:
    """The format that a template's model writes its calls in.

    Raises:
        ToolError: ``wanted`` is unknown, or the template tells of none that is known.
    """
    if wanted is not None:
        if wanted not in FORMATS:
            raise _unsupported(f"tool_format is {wanted!r}", f"one of {', '.join(FORMATS)}")
        return FORMATS[wanted]
    if _XML_SIGN not in template:
        for known in FORMATS.values():
            if any(sign in template for sign in known.signs):
                return known
    raise _unsupported(
        "the chat template tells of no known way to write calls", "pass ChatOptions(tool_format=…)"
    )


def _unsupported(what: str, hint: str) -> ToolError:
    return ToolError(ReasonCode.TOOLS_UNSUPPORTED, what, hint=hint)


# -- <tool_call>{"name": …, "arguments": …}</tool_call> ------------------------------------------

_HERMES_OPEN: Final = "<tool_call>"
_HERMES_CLOSE: Final = "</tool_call>"


def _read_hermes(text: str) -> Reading:
    content, *rest = text.split(_HERMES_OPEN)
    calls = []
    for part in rest:
        body, closing, after = part.partition(_HERMES_CLOSE)
        calls.append(_json_call(body.strip(), complete=bool(closing)))
        content += after
    return content, calls


# -- <|python_tag|>{"name": …, "parameters": …}, or the JSON alone -------------------------------

_PYTHON_TAG: Final = "<|python_tag|>"
_BUILT_IN: Final = re.compile(r"\s*([A-Za-z_]\w*)\.call\((.*)\)\s*", re.DOTALL)


def _read_llama3(text: str) -> Reading:
    content, tag, body = text.partition(_PYTHON_TAG)
    for ending in ("<|eom_id|>", "<|eot_id|>"):
        body, content = body.removesuffix(ending), content.removesuffix(ending)
    if tag:
        built_in = _BUILT_IN.fullmatch(body)
        return content, [_keyword_call(built_in)] if built_in else _json_calls(body, ";")
    # Without the tag only an answer that is nothing but calls is one.
    stripped = content.strip()
    if stripped.startswith("{"):
        calls = _json_calls(stripped, ";")
        if all(not call.complaint for call in calls):
            return "", calls
    return content, []


def _keyword_call(written: re.Match[str]) -> WrittenCall:
    """``name.call(key="value")``, as Llama writes calls of its built-in tools."""
    text = written[0].strip()
    try:
        parsed = ast.parse(f"f({written[2]})", mode="eval").body
        if not isinstance(parsed, ast.Call) or parsed.args:
            return WrittenCall(written[1], None, text, "arguments must be passed by name")
        arguments = {str(each.arg): ast.literal_eval(each.value) for each in parsed.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return WrittenCall(written[1], None, text, f"its arguments cannot be read: {error}")
    return WrittenCall(written[1], arguments, text)


# -- [TOOL_CALLS][{"name": …, "arguments": …}], or [TOOL_CALLS]name[ARGS]{…} ---------------------

_MISTRAL_OPEN: Final = "[TOOL_CALLS]"
_MISTRAL_NAMED: Final = re.compile(
    r"\s*([A-Za-z_][\w.-]*)\s*(?:\[CALL_ID\]\w+)?\s*(?:\[ARGS\])?\s*(\{.*)", re.DOTALL
)


def _read_mistral(text: str) -> Reading:
    content, *rest = text.split(_MISTRAL_OPEN)
    calls: list[WrittenCall] = []
    for part in rest:
        body = part.removesuffix("</s>").strip()
        named = _MISTRAL_NAMED.fullmatch(body)
        if named:
            value, after, complaint = _json(named[2])
            excess = complaint or (f"text follows it: {after[:40]!r}" if after else "")
            calls.append(WrittenCall(named[1], value, body, excess))
        else:
            calls += _json_list(body)
    return content, calls


# -- JSON ----------------------------------------------------------------------------------------


def _json_list(body: str) -> list[WrittenCall]:
    value, after, complaint = _json(body)
    if complaint or after or not isinstance(value, list):
        return [WrittenCall("", None, body, complaint or "it must be a list of calls")]
    return [_named(each, json.dumps(each, ensure_ascii=False)) for each in value]


def _json_calls(body: str, separator: str) -> list[WrittenCall]:
    calls: list[WrittenCall] = []
    rest = body.strip()
    while rest:
        value, after, complaint = _json(rest)
        if complaint:
            return [*calls, WrittenCall("", None, rest, complaint)]
        calls.append(_named(value, rest[: len(rest) - len(after)].strip()))
        rest = after.lstrip().removeprefix(separator).lstrip()
    return calls or [WrittenCall("", None, body, "it is empty")]


def _json_call(body: str, *, complete: bool) -> WrittenCall:
    value, after, complaint = _json(body)
    if complaint:
        cut = "" if complete else "the answer ended within it; "
        return WrittenCall("", None, body, cut + complaint)
    if after:
        return WrittenCall("", None, body, f"text follows it: {after[:40]!r}")
    return _named(value, body)


def _named(value: object, text: str) -> WrittenCall:
    if not isinstance(value, Mapping):
        return WrittenCall("", None, text, "it must be an object with a name and arguments")
    name = next((value[key] for key in _NAMES if key in value), None)
    arguments: object = next((value[key] for key in _ARGUMENTS if key in value), {})
    if not isinstance(name, str):
        return WrittenCall("", None, text, "it has no name")
    if isinstance(arguments, str):  # some models write the arguments as JSON within JSON
        inner, after, complaint = _json(arguments)
        if not complaint and not after:
            arguments = inner
    return WrittenCall(name, arguments, text)


def _json(text: str) -> tuple[Any, str, str]:
    """The value that ``text`` begins with, what follows it, and why it cannot be read."""
    if len(text) > _LONGEST_CALL:
        return None, "", f"it is longer than {_LONGEST_CALL:,} characters"
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    try:
        value, end = decoder.raw_decode(text)
    except (ValueError, RecursionError) as error:
        return None, "", f"it is no JSON: {error}"
    return value, text[end:].strip(), ""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


_FORMATS: Final = (
    ToolFormat(
        name="mistral",
        opening=_MISTRAL_OPEN,
        signs=(_MISTRAL_OPEN,),
        read=_read_mistral,
        call=_MISTRAL_OPEN + '[{"name": "NAME", "arguments": ARGUMENTS}]',
    ),
    ToolFormat(
        name="hermes",
        opening=_HERMES_OPEN,
        signs=(_HERMES_OPEN,),
        read=_read_hermes,
        call=_HERMES_OPEN + '\n{"name": "NAME", "arguments": ARGUMENTS}\n' + _HERMES_CLOSE,
    ),
    ToolFormat(
        name="llama3",
        opening=_PYTHON_TAG,
        signs=(_PYTHON_TAG, "Environment: ipython"),
        read=_read_llama3,
        call=_PYTHON_TAG + '{"name": "NAME", "parameters": ARGUMENTS}',
    ),
)
FORMATS: Final[Mapping[str, ToolFormat]] = {known.name: known for known in _FORMATS}
"""By name; templates are searched for their signs in this order."""
