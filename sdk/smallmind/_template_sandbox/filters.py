"""The filters of chat templates, each one counted, and bounded where its result could explode."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from jinja2 import pass_context
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import do_indent, make_attrgetter
from jinja2.runtime import Context
from jinja2.utils import _PassArg

from smallmind._template_sandbox.budget import RenderBudget
from smallmind._template_sandbox.formatting import checked_printf
from smallmind._template_sandbox.state import budget_of

_DEEPEST_INDENT: Final = 8

# Those of Jinja's filters whose result is never much larger than what they are given.
_TAKEN: Final = (
    *("abs", "float", "int", "max", "min", "round", "sum"),
    *("count", "d", "default", "first", "last", "length", "list", "reverse", "wordcount"),
    *("dictsort", "groupby", "items", "map", "sort", "unique"),
    *("reject", "rejectattr", "select", "selectattr"),
    *("capitalize", "lower", "string", "title", "trim", "upper"),
)


def _join(
    context: Context, value: Iterable[object], d: str = "", attribute: str | int | None = None
) -> str:
    items: Iterable[object] = value
    if attribute is not None:
        items = map(make_attrgetter(context.environment, attribute), value)
    texts = [str(item) for item in items]
    budget_of(context).foresee(sum(len(text) + len(d) for text in texts))
    return str(d).join(texts)


def _replace(context: Context, s: object, old: str, new: str, count: int = -1) -> str:
    text = str(s)
    budget_of(context).foresee(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


def _indent(context: Context, s: object, width: int | str = 4, *flags: Any, **named: Any) -> str:
    text, step = str(s), len(width) if isinstance(width, str) else width
    budget_of(context).foresee(len(text) + (text.count("\n") + 1) * step)
    return do_indent(text, width, *flags, **named)


def _format(context: Context, value: object, *args: object, **kwargs: object) -> str:
    text, arguments = str(value), kwargs or args
    for argument in (arguments, *args):
        checked_printf(budget_of(context), text, argument)
    return text % arguments


def _tojson(
    context: Context,
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the signature that templates know
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - the same
) -> str:
    budget_of(context).measure(value)
    if indent is not None and indent > _DEEPEST_INDENT:
        raise ValueError(f"tojson takes an indent of at most {_DEEPEST_INDENT}, not {indent}")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _safe(_context: Context, value: object) -> str:
    return str(value)  # nothing is escaped here, so nothing needs to be marked as safe


_OWN: Final[dict[str, Callable[..., object]]] = {
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "safe": _safe,
    "tojson": _tojson,
}


def _counted(function: Callable[..., object], first: Callable[[Context], tuple[Any, ...]]) -> Any:
    @pass_context
    def filtered(context: Context, value: object, *args: object, **kwargs: object) -> object:
        budget = budget_of(context)
        budget.step()
        budget.check_arguments((*args, *kwargs.values()))
        result = function(*first(context), value, *args, **kwargs)
        return budget.accept(_listed(result, budget) if isinstance(result, Iterator) else result)

    return filtered


def _listed(results: Iterator[object], budget: RenderBudget) -> list[object]:
    """Run a lazy filter now, so that a chain of them cannot put off its work past the checks."""
    items = []
    for item in results:
        budget.step()
        items.append(item)
    return items


def _what_comes_first(function: Callable[..., object]) -> Callable[[Context], tuple[Any, ...]]:
    match _PassArg.from_obj(function):
        case _PassArg.context:
            return lambda context: (context,)
        case _PassArg.eval_context:
            return lambda context: (context.eval_ctx,)
        case _PassArg.environment:
            return lambda context: (context.environment,)
        case _:
            return lambda _context: ()


FILTERS: Final[dict[str, Any]] = {
    **{
        name: _counted(JINJA_FILTERS[name], _what_comes_first(JINJA_FILTERS[name]))
        for name in _TAKEN
    },
    **{name: _counted(function, lambda context: (context,)) for name, function in _OWN.items()},
}
