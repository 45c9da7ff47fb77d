"""A hostile chat template gets nothing, and does not get to use the machine up."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from smallmind._chat_template import render_chat
from smallmind._template_sandbox import BUDGET_VARIABLE, TemplateLimits
from smallmind._template_sandbox.state import budget_of
from smallmind_engine.telemetry import ChatTemplateError, ReasonCode

QUICK = TemplateLimits(seconds=0.3)
ALLOWED_S = 5.0  # far above QUICK, for machines under load; an unbounded template takes hours
DOUBLING = "{% set n = namespace(x=START) %}{% for i in range(60) %}STEP{% endfor %}{{ n.x }}"


def render(template: str, **options: Any) -> str:
    settings = {"bos_token": "", "eos_token": "", "add_generation_prompt": True, "limits": QUICK}
    return render_chat(template, [{"role": "user", "content": "x"}], **{**settings, **options})


def doubling(start: str, step: str) -> str:
    return DOUBLING.replace("START", start).replace("STEP", step)


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].system('id') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{0[__class__]}'.format('') }}",
    "{{ 'x'.format_map({}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f('') }}",
    "{{ ''.__class__() }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ 'x'.encode().decode() }}",
    "{{ raise_exception.__globals__.sys }}",
    "{{ strftime_now.__wrapped__.x }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends '/etc/passwd' %}",
    "{{ range }}",
    "{{ [].__class__.__base__ }}{{ namespace }}",
    "{% for x in [1] %}{{ loop.__init__.__globals__.x }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__.x }}",
    "{{ (1).__class__.__base__ }}",
    "{{ messages|map(attribute='__class__.__base__')|list|first|upper|attr('x') }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_way_out_of_the_sandbox_ends_in_a_clear_error(template: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        render(template)
    assert caught.value.reason is ReasonCode.CHAT_TEMPLATE_INVALID


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''['__class__'] }}",
        "{{ range.__globals__ }}",
        "{{ raise_exception.__code__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ config }}{{ request }}{{ get_flashed_messages }}",
        "{% for x in [1] %}{{ loop._iterable }}{% endfor %}",
    ],
)
def test_what_cannot_be_seen_prints_as_nothing(template: str) -> None:
    assert render(template) == ""


def test_a_namespace_tells_nothing_of_its_insides() -> None:
    assert render("{% set n = namespace(a=1) %}{{ [n] }}") == "[<namespace>]"


ENDLESS = [
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% for i in range(9999) %}{{ range(9999)|map('string')|list|length }}{% endfor %}",
    "{% for i in range(9999) %}{% set x = range(9999)|sum %}{% endfor %}",
]


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_end_is_ended(template: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ChatTemplateError, match=r"longer than the 0\.3 seconds"):
        render(template)
    assert time.perf_counter() - begun < ALLOWED_S


EXPLOSIONS = [
    "{{ 'a' * 10**10 }}",
    "{{ 10**10 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ (1,) * 10**9 }}",
    "{{ 10 ** 10 ** 10 ** 10 }}",
    "{{ 9 ** 999999 }}",
    "{{ 'a'.center(10**9) }}{{ 'a'.zfill(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a' | indent(10**9) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '%(a)999999999d' % {'a': 1} }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}",
    "{{ 1 | round(10**9) }}",
    "{{ messages | tojson(indent=10**9) }}",
    "{{ '\\t'.expandtabs(10**9) }}",
    "{{ range(10**9) | list }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set a = 'aaaaaaaaaa' * 9999 %}{{ a.join(range(9999) | map('string')) }}",
    "{% set a = 'aaaaaaaaaa' * 9999 %}{{ range(9999) | join(a) }}",
    "{% set a = 'aaaaaaaaaa' * 9999 %}{{ a.replace('', a) }}",
    "{% set a = 'aaaaaaaaaa' * 9999 %}{{ a | replace('a', a) }}",
    "{% set a = '\\n' * 9999 %}{{ a | indent(9999, blank=true) }}",
    "{% set a = 'a' * 99999 %}{{ ('%(x)s' * 9999) % {'x': a} }}",
    "{% set a = 'a' * 99999 %}{{ ('{0}' * 9999).format(a) }}",
    "{% set x %}{% for i in range(9999) %}{% for j in range(9999) %}"
    + "y" * 999
    + "{% endfor %}{% endfor %}{% endset %}",
    "{% for i in range(9999) %}{% for j in range(9999) %}" + "y" * 999 + "{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}{% set x = 'y' * 99999 %}{% endfor %}",
    doubling("'aa'", "{% set n.x = n.x + n.x %}"),
    doubling("'aa'", "{% set n.x = n.x ~ n.x %}"),
    doubling("'aa'", "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"),
    doubling("'aa'", "{% set n.x = [n.x, n.x] | join %}"),
    doubling("3", "{% set n.x = n.x * n.x %}"),
    doubling("[1]", "{% set n.x = [n.x, n.x] %}"),
    doubling("[1]", "{% set n.x = (n.x, n.x) %}"),
    doubling("[1]", "{% set n.x = {'a': n.x, 'b': n.x} %}"),
    doubling("[1]", "{% set n.x = dict(a=n.x, b=n.x) %}"),
    doubling("[1]", "{% set n.x = n.x + n.x %}"),
    doubling("[1]", "{% set n.x = [n.x] %}") + doubling("[1]", "{% set n.x = [n.x] %}" * 9),
    "{{ " + "-" * 90_000 + "1 }}",
    "{{ " + "(" * 40_000 + "1" + ")" * 40_000 + " }}",
    "{% if 1 %}" * 3_000 + "{% endif %}" * 3_000,
    "x" * 100_001,
]


@pytest.mark.parametrize("template", EXPLOSIONS, ids=range(len(EXPLOSIONS)))
def test_a_template_that_explodes_is_refused_in_time_and_memory(template: str) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with pytest.raises(ChatTemplateError):
            render(template, limits=TemplateLimits(seconds=1.0))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begun < ALLOWED_S
    assert peak_bytes < 200 << 20


def test_a_prompt_longer_than_allowed_is_refused() -> None:
    with pytest.raises(ChatTemplateError, match="longer prompt than the 10 characters"):
        render("{{ 'eleven char' }}", limits=TemplateLimits(output_chars=10))


def test_messages_larger_than_allowed_are_refused() -> None:
    with pytest.raises(ChatTemplateError, match="larger value than the 20 items"):
        render("x", limits=TemplateLimits(value_items=20), numbers=list(range(30)))


def test_work_is_counted_even_where_nothing_is_printed() -> None:
    limits = TemplateLimits(work_chars=1_000)
    with pytest.raises(ChatTemplateError, match="made more text than the 1,000 characters"):
        render("{% for i in range(20) %}{% set x = 'a' * 100 %}{% endfor %}", limits=limits)


def test_a_variable_cannot_take_the_place_of_the_budget() -> None:
    with pytest.raises(ChatTemplateError, match="seconds it is allowed"):
        render(ENDLESS[0], **{BUDGET_VARIABLE: "mine"})


def test_a_context_without_a_budget_is_a_mistake_of_ours() -> None:
    class Context:
        parent = {BUDGET_VARIABLE: None}  # noqa: RUF012 - stands for Jinja's

    with pytest.raises(TypeError, match="expected a RenderBudget"):
        budget_of(Context())  # type: ignore[arg-type]
