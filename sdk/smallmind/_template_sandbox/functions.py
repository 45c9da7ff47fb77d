"""The functions that chat templates find: Jinja's harmless ones, and those of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from jinja2 import TemplateRuntimeError, pass_context
from jinja2.runtime import Context
from jinja2.utils import Namespace

from smallmind._template_sandbox.budget import exceeded
from smallmind._template_sandbox.names import check_name
from smallmind._template_sandbox.state import budget_of


class PlainNamespace(Namespace):
    """``namespace()`` that prints as a word: a chain of them would print without end."""

    def __setitem__(self, name: str, value: object) -> None:
        check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


class RefusedConversationError(TemplateRuntimeError):
    """The template called ``raise_exception``."""


def _raise_exception(message: object) -> NoReturn:
    raise RefusedConversationError(str(message))


@pass_context
def _strftime_now(context: Context, pattern: str) -> str:
    return budget_of(context).now().strftime(pattern)


@pass_context
def _range(context: Context, *bounds: int) -> range:
    numbers = range(*bounds)
    limit = budget_of(context).limits.range_items
    if len(numbers) > limit:
        raise exceeded("made a longer range", limit, "items")
    return numbers


def _dict(*pairs: Mapping[str, object], **items: object) -> dict[str, object]:
    return dict(*pairs, **items)


GLOBALS: Final[dict[str, Any]] = {
    "dict": _dict,
    "namespace": PlainNamespace,
    "raise_exception": _raise_exception,
    "range": _range,
    "strftime_now": _strftime_now,
}
