"""A hostile chat template gets nothing, and does not get to use the machine up."""

from __future__ import annotations

from typing import Any

import pytest

from smallmind._chat_template import render_chat
from smallmind._template_sandbox import BUDGET_VARIABLE, TemplateLimits
from smallmind._template_sandbox.state import budget_of
from smallmind_engine.telemetry import ChatTemplateError

QUICK = TemplateLimits(seconds=0.3)


def render(template: str, **options: Any) -> str:
    settings = {"bos_token": "", "eos_token": "", "add_generation_prompt": True, "limits": QUICK}
    return render_chat(template, [{"role": "user", "content": "x"}], **{**settings, **options})


@pytest.mark.parametrize(
    "template",
    [
        "{{ self._TemplateReference__context }}",
        "{{ config }}{{ request }}{{ get_flashed_messages }}",
        "{% for x in [1] %}{{ loop._iterable }}{% endfor %}",
    ],
)
def test_what_cannot_be_seen_prints_as_nothing(template: str) -> None:
    assert render(template) == ""


def test_a_namespace_tells_nothing_of_its_insides() -> None:
    assert render("{% set n = namespace(a=1) %}{{ [n] }}") == "[<namespace>]"


ENDLESS = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"


def test_a_template_without_end_is_told_its_time() -> None:
    with pytest.raises(ChatTemplateError, match=r"longer than the 0\.3 seconds"):
        render(ENDLESS)


def test_a_template_of_too_many_words_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ChatTemplateError, match="longer than the 20,000 words and signs"):
        render("{{ " + "-" * 20_001 + "1 }}")


def test_a_prompt_longer_than_allowed_is_refused() -> None:
    with pytest.raises(ChatTemplateError, match="longer prompt than the 10 characters"):
        render("{{ 'eleven char' }}", limits=TemplateLimits(output_chars=10))


def test_messages_larger_than_allowed_are_refused() -> None:
    with pytest.raises(ChatTemplateError, match="larger value than the 20 items"):
        render("x", limits=TemplateLimits(value_items=20), variables={"n": list(range(30))})


@pytest.mark.parametrize("template", ["{{ [1] * 10**10 }}", "{{ 10**10 * (1,) }}"])
def test_a_list_that_would_be_too_long_is_told_by_its_items(template: str) -> None:
    with pytest.raises(ChatTemplateError, match="made a larger value than the 200,000 items"):
        render(template)


def test_a_text_that_would_be_too_long_is_told_by_its_characters() -> None:
    with pytest.raises(ChatTemplateError, match="a longer text than the 8,000,000 characters"):
        render("{{ 10**10 * 'a' }}")


def test_work_is_counted_even_where_nothing_is_printed() -> None:
    limits = TemplateLimits(work_chars=1_000)
    with pytest.raises(ChatTemplateError, match="made more text than the 1,000 characters"):
        render("{% for i in range(20) %}{% set x = 'a' * 100 %}{% endfor %}", limits=limits)


def test_a_variable_cannot_take_the_place_of_the_budget() -> None:
    with pytest.raises(ChatTemplateError, match="seconds it is allowed"):
        render(ENDLESS, variables={BUDGET_VARIABLE: "mine"})


def test_a_context_without_a_budget_is_a_mistake_of_ours() -> None:
    class Context:
        parent = {BUDGET_VARIABLE: None}  # noqa: RUF012 - stands for Jinja's

    with pytest.raises(TypeError, match="expected a RenderBudget"):
        budget_of(Context())  # type: ignore[arg-type]
