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


# Templates with tools, each in the manner of a family; written for these tests.
HERMES = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- 'You may call functions:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools>\\nAnswer with <tool_call>{"name": …, "arguments": …}</tool_call>.' }}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

LLAMA3 = """{{- bos_token }}
{%- macro turn(role, content) %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + content + '<|eot_id|>' }}
{%- endmacro %}
{%- if tools %}
    {%- set ns = namespace(text='Environment: ipython\\nFunctions:') %}
    {%- for tool in tools %}{%- set ns.text = ns.text ~ '\\n' ~ (tool | tojson(indent=4)) %}
    {%- endfor %}
    {{- turn('system', ns.text + '\\nAnswer {"name": name, "parameters": arguments}.') }}
{%- endif %}
{%- for message in messages %}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('This model only supports single tool-calls at once!') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {%- set text = '<|python_tag|>{"name": "' + call.name + '", "parameters": ' %}
        {{- turn('assistant', text ~ (call.arguments | tojson) ~ '}') }}
    {%- elif message.role == 'tool' %}
        {{- turn('ipython', message.content | tojson) }}
    {%- else %}
        {{- turn(message.role, message.content | trim) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools and loop.index0 == 0 %}
            {{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}
                {{- raise_exception('Tool call IDs should be alphanumeric with length 9!') }}
            {%- endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
            {{- ', ' if not loop.last }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + (message.content | tojson) + ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}
"""
