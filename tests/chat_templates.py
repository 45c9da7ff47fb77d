"""Chat templates to test with, and the environment of `transformers` as their oracle."""

from __future__ import annotations

import json
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Written for these tests with the constructs that templates of current models are made of.
WITH_TOOLS = """{{- bos_token }}
{%- macro arguments(call) %}
    {%- if call.arguments is string %}
        {{- call.arguments }}
    {%- else %}
        {{- call.arguments | tojson }}
    {%- endif %}
{%- endmacro %}
{%- set ns = namespace(system='', last_user=-1) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set ns.system = ns.system ~ message.content | trim %}
        {%- continue %}
    {%- endif %}
    {%- if message.role == 'user' %}
        {%- set ns.last_user = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- if ns.system or tools %}
    {{- '<|system|>\n' + ns.system }}
    {%- if tools is not none and tools %}
        {{- '\n# Tools\n' }}
        {%- for tool in tools %}
            {{- tool | tojson(indent=2) + '\n' }}
            {%- for name, about in tool.get('parameters', {}).items() | sort %}
                {{- '%s: %s' | format(name, about) | indent(4, true) + '\n' }}
            {%- endfor %}
        {%- endfor %}
    {%- endif %}
{%- endif %}
{%- for message in messages | selectattr('role', 'in', ['user', 'assistant', 'tool']) | list %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|' ~ message['role'] ~ '|>\n' ~ content ~ eos_token }}
    {%- for call in message.calls or [] %}
        {{- '\n<call>{}:{}</call>'.format(loop.index, call.name) }}{{ arguments(call) }}
    {%- endfor %}
    {%- if not loop.last %}{{ '\n' }}{% endif %}
    {%- generation %}{{ '' }}{% endgeneration %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '\n<|assistant|>\n' }}
    {%- if thinking is defined and not thinking %}{{ '<think></think>' }}{% endif %}
{%- endif %}
{{- messages[::-1] | map(attribute='role') | join(',') | upper | replace('USER', 'U') }}
"""


class _Transparent(jinja2.ext.Extension):
    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def oracle(template: str, **variables: Any) -> str:
    """Render as `transformers` does: Jinja's own sandbox with the settings it documents."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Transparent]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, **options
    )
    return environment.from_string(template).render(**variables)
