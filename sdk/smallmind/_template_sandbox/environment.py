"""The Jinja environment of chat templates: what is there, and nothing else.

On top of Jinja's immutable sandbox, which keeps templates away from Python's internals, methods,
filters and globals are lists of what may be used, and each operation counts against a budget.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any, Final

from jinja2 import Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from smallmind._template_sandbox.budget import LIMITS, RenderBudget, TemplateLimits, exceeded
from smallmind._template_sandbox.filters import FILTERS
from smallmind._template_sandbox.formatting import checked_printf, formatted
from smallmind._template_sandbox.functions import GLOBALS
from smallmind._template_sandbox.instrumenting import GenerationExtension, instrumented
from smallmind._template_sandbox.names import check_name
from smallmind._template_sandbox.state import budget_of

_TEXT_METHODS: Final = frozenset(
    {
        *("capitalize", "casefold", "lower", "swapcase", "title", "upper"),
        *("count", "endswith", "find", "index", "rfind", "rindex", "startswith"),
        *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isnumeric"),
        *("islower", "isspace", "istitle", "isupper"),
        *("lstrip", "removeprefix", "removesuffix", "rstrip", "strip"),
        *("join", "partition", "replace", "rpartition", "rsplit", "split", "splitlines"),
    }
)
_METHODS: Final[dict[type, frozenset[str]]] = {
    str: _TEXT_METHODS,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
}
_PRINTABLE: Final = (str, int, float, list, tuple, dict, type(None), Undefined)


@pass_context
def _step(context: Context) -> None:
    budget_of(context).step()


@pass_context
def _spend(context: Context, chars: int) -> None:
    budget_of(context).spend(chars)


@pass_context
def _concatenated(context: Context, *parts: object) -> str:
    texts = [str(_printable(part)) for part in parts]
    budget_of(context).foresee(sum(map(len, texts)))
    return "".join(texts)


def _value(value: object) -> object:
    return value  # ``call`` looks at what it gets


@pass_context
def _finalize(context: Context, value: object) -> str:
    text = str(_printable(value))
    budget_of(context).accept(text)
    return text


def _printable(value: object) -> object:
    if not isinstance(value, _PRINTABLE):
        raise SecurityError(f"a {type(value).__name__} cannot be printed")
    return value


_OWN: Final = (_step, _spend, _concatenated, _value)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Compiles chat templates; holds no state of a rendering, so that threads may share it."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationExtension],
            finalize=_finalize,
            optimized=False,  # constant folding would run operations that are not counted
            cache_size=0,
        )
        self.filters = dict(FILTERS)
        self.globals = dict(GLOBALS)
        self.step, self.spend, self.concatenated, self.value = _OWN

    def compiled(self, source: str) -> Any:
        """The template of ``source``, with the counting woven in.

        Raises:
            jinja2.TemplateSyntaxError: it is not a template.
            ChatTemplateError: it is longer than allowed.
        """
        return self.from_string(instrumented(self.parsed(source), self))

    def parsed(self, source: str, limits: TemplateLimits = LIMITS) -> nodes.Template:
        """The syntax tree of ``source``.

        Raises:
            jinja2.TemplateSyntaxError: it is not a template.
            ChatTemplateError: it is longer than allowed.
        """
        if len(source) > limits.source_chars:
            raise exceeded("is longer", limits.source_chars, "characters")
        if any(True for _ in islice(self.lex(source), limits.source_tokens, None)):
            raise exceeded("is longer", limits.source_tokens, "words and signs")
        return self.parse(source)

    def getattr(self, obj: object, attribute: str) -> Any:
        """An attribute or item of a value; names of Python's own are refused."""
        check_name(attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: object, argument: Any) -> Any:
        """An item or attribute of a value; names of Python's own are refused."""
        check_name(argument)
        return super().getitem(obj, argument)

    def is_safe_callable(self, obj: object) -> bool:
        """Whether a template may call this: its own macros, loops, and what the lists name."""
        if isinstance(obj, BuiltinMethodType):
            return obj.__name__ in _METHODS.get(type(obj.__self__), ())
        if isinstance(obj, MethodType):
            return isinstance(obj.__self__, LoopContext)
        if isinstance(obj, partial):
            return obj.func is formatted
        if isinstance(obj, (Macro, LoopContext, BlockReference, Undefined)):  # the last says why
            return True
        return any(obj is known for known in (*_OWN, *GLOBALS.values()))

    def wrap_str_format(self, value: object) -> Any:
        """Replace ``str.format`` by one that reads no attributes and is bounded."""
        if isinstance(value, BuiltinMethodType) and isinstance(value.__self__, str):
            if value.__name__ == "format":
                return partial(formatted, value.__self__)
            if value.__name__ == "format_map":
                raise SecurityError("str.format_map is not available")
        return None

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - the base class's names; templates may pass any other
        """Call something a template asked for, as one counted step."""
        if not __self.is_safe_callable(__obj):
            name = getattr(__obj, "__name__", "")
            raise SecurityError(f"{name or 'a ' + type(__obj).__name__}() is not available")
        budget = budget_of(__context)
        budget.step()
        if isinstance(__obj, BuiltinMethodType) and isinstance(__obj.__self__, str):
            args = _foreseen(budget, __obj.__name__, __obj.__self__, args)
        if isinstance(__obj, partial):
            args = (budget, *args)
        return budget.accept(__context.call(__obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Do arithmetic whose result is known to be small enough."""
        budget = budget_of(context)
        budget.step()
        _foresee_operation(budget, operator, left, right)
        return budget.accept(super().call_binop(context, operator, left, right))


def _foreseen(
    budget: RenderBudget, method: str, text: str, args: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Refuse a call of a text's method whose result would be too long; return its arguments."""
    if method == "replace" and len(args) > 1:
        budget.foresee(len(text) + text.count(args[0]) * len(args[1]))
    if method == "join" and args:
        texts = list(args[0])
        budget.foresee(sum(len(item) + len(text) for item in texts))
        return (texts,)
    return args


def _foresee_operation(budget: RenderBudget, operator: str, left: Any, right: Any) -> None:
    whole = isinstance(left, int) and isinstance(right, int)
    if operator == "**" and whole:
        budget.accept(1 << min(left.bit_length() * max(right, 0), budget.limits.integer_bits + 1))
    elif operator == "*" and not whole:
        for value, times in ((left, right), (right, left)):
            if not isinstance(times, int):
                continue
            if isinstance(value, str):
                budget.foresee(len(value) * times)
            elif isinstance(value, (list, tuple)):
                budget.foresee_items(len(value) * times)
    elif operator == "%" and isinstance(left, str):
        checked_printf(budget, left, right)
