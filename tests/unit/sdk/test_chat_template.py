"""Chat templates render as the models' makers meant them to."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_templates import SMOLLM2, WITH_TOOLS, oracle
from smallmind._chat_template import render_chat
from smallmind_engine.telemetry import ChatTemplateError, ReasonCode

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "name": "weather",
        "description": "Wetter für «Ort»",
        "parameters": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    }
]


def render(template: str, messages: Any = HELLO, **variables: Any) -> str:
    options: dict[str, Any] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_generation_prompt": True,
    }
    for name in (*options, "tools", "limits", "now"):
        if name in variables:
            options[name] = variables.pop(name)
    return render_chat(template, messages, variables=variables, **options)


def test_every_golden_conversation_renders_exactly(golden_dir: Path) -> None:
    golden = json.loads((golden_dir / "smollm2.json").read_text(encoding="utf-8"))
    for case in golden["chat"]:
        prompt = render(SMOLLM2, case["messages"], bos_token="")
        assert prompt == case["prompt"]


@pytest.mark.model
def test_the_template_tested_here_is_the_one_in_the_model_file(smollm2_path: Path) -> None:
    assert SMOLLM2.encode() in smollm2_path.read_bytes()[: 4 << 20]


messages_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "tool"]),
            "content": st.one_of(st.text(max_size=40), st.just("<think>a</think>\n\nb"), st.none()),
        },
        optional={
            "calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.text(max_size=8),
                        "arguments": st.one_of(
                            st.text(max_size=8),
                            st.dictionaries(st.text(max_size=4), st.integers(), max_size=3),
                        ),
                    }
                ),
                max_size=2,
            )
        },
    ),
    min_size=1,
    max_size=6,
)


@given(messages=messages_strategy, tools=st.sampled_from([None, [], TOOLS]), thinking=st.booleans())
def test_a_template_of_all_common_constructs_renders_as_in_transformers(
    messages: list[dict[str, Any]],
    tools: Any,
    thinking: bool,  # noqa: FBT001 - hypothesis passes it by name
) -> None:
    messages = [
        m if m["role"] != "system" else {**m, "content": m["content"] or ""} for m in messages
    ]
    variables = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_generation_prompt": True,
        "tools": tools,
        "thinking": thinking,
    }
    expected = oracle(WITH_TOOLS, messages=messages, **variables)
    assert render(WITH_TOOLS, messages, **variables) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ [1, 2] + [3] }}{{ 2 * 3 }}{{ 2 ** 8 }}{{ 'ab' * 2 }}{{ 7 % 4 }}{{ 1.5 + 2 }}",
        "{{ '%s is %03d' % ('x', 7) }}{{ '%(a)s' % {'a': 1} }}{{ '100%%' % () }}",
        "{{ '{}-{:>5}-{name!r}'.format(1, 'b', name='c') }}",
        "{{ ','.join(['a', 'b']) }}{{ 'a-b'.replace('-', '+') }}{{ 'a'.replace('a', 'b', 1) }}",
        "{{ [{'n': 2}, {'n': 1}] | sort(attribute='n') | map(attribute='n') | list }}",
        "{{ [{'n': 2}, {'n': 1}] | join('+', attribute='n') }}{{ 'x' | indent }}",
        "{{ 'a\nb\n\nc' | indent(2) }}{{ 'a\n\nb' | indent('> ', first=true, blank=true) }}",
        "{{ 'k: %(k)s' | format(k=1) }}{{ '%s' | format('z') }}{{ '<b>' | safe }}",
        "{{ {'b': 1, 'a': 'ü'} | tojson(sort_keys=true, separators=(',', ':')) }}",
        "{% for k, v in {'x': (1, 2)} | dictsort %}{{ k }}{{ v[0] }}{{ loop.index }}{% endfor %}",
        "{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{{ loop.changed(i) }}{% endfor %}",
        "{% for i in [[1], [2, [3]]] recursive %}{{ i if i is number else loop(i) }}{% endfor %}",
        "{% macro m(a, b=2) %}{{ a ~ b }}{{ caller() }}{% endmacro %}{% call m(1) %}c{% endcall %}",
        "{% set x %}block{% endset %}{{ x }}{% filter upper %}up{% endfilter %}",
        "{{ dict(a=1) }}{{ 3.7 | round | int }}{{ [3, 1] | max }}{{ [1, 2] | sum }}",
        "{{ nothing }}{{ none }}{{ true }}{{ messages[-1].missing | default('d') }}",
        "{% for m in messages %}{% if loop.first %}{% break %}{% endif %}{% endfor %}done",
        "{% block head %}in a block{% endblock %}{{ self.head() }}",
        "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    ],
)
def test_constructs_of_jinja_mean_here_what_they_mean_there(template: str) -> None:
    assert render(template) == oracle(template, messages=HELLO)


def test_the_generation_prompt_is_left_out_when_not_asked_for() -> None:
    assert render(SMOLLM2, add_generation_prompt=False).endswith("Hello<|im_end|>\n")


def test_the_date_comes_from_the_clock_that_was_passed() -> None:
    day = datetime(2031, 5, 4, tzinfo=UTC)
    assert render("{{ strftime_now('%d %b %Y') }}", now=lambda: day) == "04 May 2031"


def test_messages_may_be_any_mapping_and_any_kind_of_text() -> None:
    class Role(StrEnum):
        USER = "user"

    message = MappingProxyType({"role": Role.USER, "content": ("part", 1, 2.5, None, True)})
    assert render("{{ messages[0] }}", (message,)) == (
        "{'role': 'user', 'content': ['part', 1, 2.5, None, True]}"
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (object(), "messages[0]['content'] is a object"),
        (b"bytes", "messages[0]['content'] is a bytes"),
        ([{1: "x"}], "messages[0]['content'][0] has the key 1, a int"),
    ],
)
def test_messages_that_are_no_plain_data_are_refused(content: object, complaint: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        render("{{ messages }}", [{"role": "user", "content": content}])
    assert complaint in str(caught.value)


def test_messages_that_contain_themselves_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ChatTemplateError, match="contains itself"):
        render("x", [{"content": endless}])


def test_what_a_template_says_against_a_conversation_is_the_error() -> None:
    with pytest.raises(ChatTemplateError, match="refuses the conversation: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% for x in y %}", "at line 1: TemplateSyntaxError"),
        ("one\ntwo\n{{ 1 / 0 }}", "at line 3: ZeroDivisionError"),
        ("{{ nobody.home }}", "'nobody' is undefined"),
        ("{{ nobody() }}", "'nobody' is undefined"),
        ("{{ messages | shout }}", "No filter named 'shout'"),
        ("{{ messages | tojson(indent=99) }}", "an indent of at most 8, not 99"),
    ],
)
def test_a_broken_template_is_an_error_that_says_where(template: str, complaint: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        render(template)
    assert caught.value.reason is ReasonCode.CHAT_TEMPLATE_INVALID
    assert complaint in str(caught.value)


def test_an_error_survives_pickling() -> None:
    with pytest.raises(ChatTemplateError) as caught:
        render("{{ 1 / 0 }}")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own


def test_threads_that_render_at_once_do_not_mix() -> None:
    template = "{% for i in range(50) %}{{ messages[0].content }}{% endfor %}"
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda i: render(template, [{"content": str(i)}]), range(40)))
    assert texts == [str(i) * 50 for i in range(40)]
