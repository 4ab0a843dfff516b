"""Chat templates in the manner of other families of models: they know tools, thoughts and variables."""

THINKING = """{%- if system_note is defined %}<|im_start|>system
{{ system_note }}<|im_end|>
{% endif %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content and not loop.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
"""It leaves the thoughts out of earlier replies."""

TOOLS = """{{ bos_token }}{% if tools %}<|system|>{{ tools | tojson }}
{% endif %}{% for message in messages %}<|{{ message.role }}|>
{%- if message.role == 'tool' %}{{ message.name }} {{ message.tool_call_id }}: {{ message.content }}
{% else %}{{ message.content | trim }}
{%- for call in message.tool_calls or [] %} call {{ call.id }} {{ call.function.name }}
{%- for key, value in call.function.arguments.items() %} {{ key }}={{ value | tojson }}{% endfor %}{% endfor %}
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
"""It writes tools, calls and their results, and trims contents."""

NO_RESULTS = "{% for m in messages if m.role != 'tool' %}{{ m.role }}: {{ m.content }} {{ m.tool_calls }}\n{% endfor %}"
NO_CALLS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
