"""What chat templates of transformers may use: expressions and statements, and what they are given."""

from typing import Any

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": " Be <b>brief</b> & kind. "},
    {"role": "user", "content": "Hello\n  wörld"},
    {"role": "assistant", "content": "Hi!", "tool_calls": [{"name": "f", "arguments": {"b": 1, "a": [True, None]}}]},
    {"role": "user", "content": [{"type": "text", "text": "parts"}, {"type": "image"}]},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'The weather "now" <é>',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
VARIABLES: dict[str, Any] = {"messages": MESSAGES, "tools": TOOLS, "bos_token": "<bos>", "add_generation_prompt": True}

USED = [  # by templates of published models
    "{{ tools | tojson }}",
    "{{ tools | tojson(indent=4) }}",
    "{{ tools | tojson(indent=2) | indent(3) }}",
    "{{ tools[0] | tojson(ensure_ascii=False) }}",
    "{{ tools | tojson(ensure_ascii=true) }}",
    "{{ tools | tojson(separators=(',', ':')) }}",
    "{{ tools | tojson(sort_keys=true) }}",
    "{{ messages[2].tool_calls[0].arguments | tojson(sort_keys=true, indent=1, separators=(', ', ' = ')) }}",
    "{{ '<é>&\"' | tojson }}",
    "{{ none | tojson }} {{ 1.5 | tojson }} {{ true | tojson }}",
    "{{ messages[0].content | trim }}",
    "{{ messages[1].content | indent }}",
    "{{ messages[1].content | indent(2, true) }}",
    "{{ messages[1].content | indent(width=3, first=true, blank=true) }}",
    "{{ '%s: %s' | format('a', 3) }}",
    "{{ '%05.2f|%-4s|%x' | format(3.14159, 'ab', 255) }}",
    "{{ '%(a)s' | format(a=1) }}",
    "{{ 'a {} {b}'.format(1, b=2) }}",
    "{{ '%s and %s' % ('a', 'b') }}",
    "{{ messages | map(attribute='role') | join(', ') }}",
    "{{ messages | join(', ', attribute='role') }}",
    "{{ [1, 2.5, none, 'x'] | join('-') }}",
    "{% set sep = joiner(', ') %}{% for m in messages %}{{ sep() }}{{ m.role }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}",
    "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %};{% endfor %}",
    "{%- generation -%} {% set a = 1 %}{{ a }} {%- endgeneration -%}|{{ a }}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{% endfor %}{{ ns.n }}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index0 }}"
    "{{ loop.last }}{{ loop.previtem is defined }}{% endfor %}",
    "{% for m in messages %}{{ loop.cycle('a', 'b') }}{{ loop.revindex }}"
    "{{ loop.nextitem.role if not loop.last }}{% endfor %}",
    "{% macro f(x, y=2) %}[{{ x }}{{ y }}{{ caller() if caller }}"
    "{{ varargs }}{{ kwargs }}]{% endmacro %}{{ f(1) }}{{ f(1, 3) }}",
    "{% macro f() %}({{ caller(3) }}){% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}",
    "{% for k, v in tools[0].function.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in tools[0].function | dictsort %}{{ k }};{% endfor %}"
    "{{ {'B': 1, 'a': 2} | dictsort(true, 'value') }}",
    "{% for k, v in tools[0].function | items %}{{ k }};{% endfor %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='content') | list }}",
    "{{ messages[1:] | length }} {{ messages[::-1][0].role }} {{ messages[-1]['role'] }}",
    "{{ messages[3].content | selectattr('type', '==', 'text') | map(attribute='text') | first }}",
    "{{ messages[2].get('tool_calls', [])[0].name }}{{ messages[0].get('none') }}{{ messages[0].none is defined }}",
    "{{ 'a' in 'abc' }} {{ 'role' in messages[0] }} {{ 'x' not in ['y'] }}",
    "{{ messages[0].content.split('<b>')[-1].strip().upper() }}",
    "{{ 'a,b,c'.split(',', 1) }} {{ 'abc'.startswith('a') }} {{ 'abc'.endswith(('b', 'c')) }} {{ 'a-b'.rsplit('-') }}",
    "{{ 'abc'.replace('b', 'x') }} {{ 'abc' | replace('b', 'x') }} {{ '  x '.lstrip() }}|{{ 'xx-'.rstrip('-') }}",
    "{{ 'content' is string }} {{ messages is sequence }} {{ messages[0] is mapping }} {{ tools is iterable }}",
    "{{ none is none }} {{ true is boolean }} {{ 1 is number }}",
    "{{ 1.0 is float }} {{ 1 is integer }} {{ x is undefined }}",
    "{{ x | default('d') }} {{ '' | default('d', true) }} {{ none | d('e') }} {{ x or 'f' }}",
    "{{ 'yes' if add_generation_prompt else 'no' }}{{ 'only' if false }}|{{ (1 if x is defined) is undefined }}",
    "{{ bos_token ~ 1 ~ none }} {{ 'a' + 'b' }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 8 }} {{ 7 / 2 }} {{ -3 | abs }}",
    "{{ messages | tojson | length > 10 and not (1 > 2) }}",
    "{{ dict(a=1, **{'b': 2}) }} {{ dict.fromkeys(['a', 'b'], 0) }}",
    "{{ {'a': 1}.get('a') }} {{ {'a': 1}.items() | list }}",
    "{{ range(3) | list }} {{ range(5, 0, -2) | list }} {{ [3, 1, 2] | sort }} {{ ['b', 'A'] | sort(reverse=true) }}",
    "{{ [1, 2, 2] | unique | list }} {{ [1, 2] | sum }} {{ [1, 2] | max }} {{ [1, 2] | min }} {{ [1, 2] | last }}",
    "{{ [[1, 2], [3]] | sum(start=[]) }} {{ [1, 2, 3] | reverse | list }}",
    "{{ 'abc' | reverse }} {{ [1, 2, 3] | batch(2) | list }}",
    "{{ [1, 2, 3, 4] | slice(3) | list }} {{ 'abc' | list }}",
    "{{ 'aBC' | capitalize }} {{ 'a b' | title }} {{ 'A' | lower }}",
    "{{ 'abc def' | truncate(5) }} {{ 'abc def ghi' | wordwrap(4) }} {{ 'a b c' | wordcount }} {{ 'ab' | center(6) }}|",
    "{{ '3' | int + 1 }} {{ 'x' | int(7) }} {{ '1.5' | float }}",
    "{{ 3.14159 | round(2) }} {{ 5 | string }} {{ 2.5 | round }}",
    "{{ '<b>' | escape }} {{ '<b>' | e }} {{ '<b>' | safe }} {{ '<b>x</b>' | striptags }} {{ 'a&b' | urlencode }}",
    "{{ messages | groupby('role') | map('first') | list }} {{ {'a': 1} | xmlattr }} {{ 12345678 | filesizeformat }}",
    "{{ [1, 2, 3] | map('string') | list }} {{ ['a', 'b'] | map('upper') | join }} {{ [0, 1] | select | list }}",
    "{{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('even') | list }}",
    "{{ 4 is divisibleby 2 }} {{ 1 is in [1] }}",
    "{% filter upper %}abc {{ 'd' }}{% endfilter %}{% set t %}x{{ 1 }}"
    "{% endset %}{{ t }}{% with a = 1 %}{{ a }}{% endwith %}",
    "{% if messages %}a{% elif tools %}b{% else %}c{% endif %}"
    "{% for x in [] %}{% else %}empty{% endfor %}{# comment #}",
    "{% raw %}{{ raw }}{% endraw %}{{ '\\n' }}{{ \"a'b\" }}"
    "{{- ' trimmed ' -}}  x\n  {%- if true %}\n  y\n{%- endif %}\n\nend\n",
    "  {% if true %}\n  lstrip\n  {% endif %}\n {{ 1 }}"
    "\n{% set a, b = 1, 2 %}{{ a }}{{ b }}{{ (1, 'a') }}{{ [1] + [2] }}\n",
    "{% for a in [1, 2] recursive %}{{ a }}{{ loop.depth }}{{ loop([3]) if a == 1 }}{% endfor %}",
    "{{ strftime_now('%Y') | length }} {{ strftime_now('%d %B') is string }}",
    "{{ messages[1].content.encode('utf-8') }} {{ 'abc'.find('c') }}",
    "{{ 'aXb'.partition('X') }} {{ 'abc'.title() }} {{ 'a'.zfill(3) }}",
    "{{ 'a\\nb'.splitlines() }} {{ 'abc'[1] }} {{ 'abc'[-2:] }}",
    "{{ 'a1'.isalnum() }} {{ 'ab'.join(['1', '2']) }} {{ 'Ab'.swapcase() }}",
    "{{ documents is none }} {{ documents is defined }} {{ [documents] }}",
]
"""Templates that render."""

REFUSED = [
    "{{ raise_exception('roles must alternate') }}",
    "{{ undefined.attribute }}",
    "{{ x | tojson }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ dict.clear(tools[0]) }}",
    "{{ tools[0].pop('type') }}",
    "{{ messages.sort() }}",
    "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}",
    "{{ namespace(__class__=1) }}",
    "{{ dict.__class__.__init__.__globals__ }}",
    "{{ range(99999999) | list | length }}",
    "{{ 'abc' | nofilter }}",
    "{{ 1 is notest }}",
    "{{ nofunction() }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% for x in 1 %}{% endfor %}",
    "{{ 1 + 'a' }}",
    "{{ 1 / 0 }}",
    "{{ '%d' | format('a') }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ [1] | map('nofilter') | list }}",
    "{% unknown %}",
    "{% if %}",
    "{{ 'a' ",
    "{% generation %}",
]
"""Templates that are refused, by transformers too."""
