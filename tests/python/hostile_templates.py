"""Templates that try to hang, bloat or leave the process that renders them: seeds, and mutations of them."""

import random
import re
from collections.abc import Iterator

from mutations import mutated_text

_LOOP = "{% set n = namespace(s=1, t='a', l=[1]) %}{% for i in range(60) %}"
_FOR_EVER = "{{% for i in range(99999) %}}{{% for j in range(99999) %}}{}{{% endfor %}}{{% endfor %}}"
_LONG = "{% set a = 'a' * 1000000 %}"

ENDLESS = {
    "loops": _FOR_EVER.format(""),
    "rounding while it is parsed": "{{ 5 | round(100000000, 'ceil') }}",
    "rounding": "{{ messages | length | round(100000000, 'ceil') }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "sorting": _FOR_EVER.format("{% set x = range(99999) | sort(reverse=true) | first %}"),
    "searching": _LONG + "{{ a.rfind('a' * 300000 ~ 'b') }}" + _FOR_EVER.format("{% set x = a.rfind('b') %}"),
    "splitting": _LONG + _FOR_EVER.format("{% set x = a.rsplit('b') %}"),
    "trimming": "{% set a = ' ' * 1000000 ~ 'a' %}" + _FOR_EVER.format("{% set x = a | trim %}"),
    "titles": _LONG + _FOR_EVER.format("{% set x = a | title %}"),
}
"""Templates that compute for ever or longer than anybody waits."""

GREEDY = {
    "multiplication": "{{ 'a' * messages | length * 1000000000 }}",
    "doubling": _LOOP + "{% set n.t = n.t ~ n.t %}{% endfor %}",
    "adding": _LOOP + "{% set n.t = n.t + n.t %}{% endfor %}",
    "blocks": _LOOP + "{% set n.t %}{{ n.t }}{{ n.t }}{% endset %}{% endfor %}",
    "filter blocks": _LOOP + "{% set n.t %}{% filter upper %}{{ n.t }}{{ n.t }}{% endfilter %}{% endset %}{% endfor %}",
    "calls": "{% macro m() %}{{ caller() * 9999 }}{% endmacro %}"
    "{% call m() %}{% call m() %}aa{% endcall %}{% endcall %}",
    "dictionaries": _LOOP + "{% set n.s = dict(a=n.s, b=n.s) %}{% endfor %}{{ n.s }}",
    "lists": _LOOP + "{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
    "padding": "{{ 'a'.ljust(1000000000) }}",
    "padding by a filter": "{{ 'a' | center(1000000000) }}",
    "formatting": "{{ '{:3000000000d}'.format(1) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "replacing": _LONG + "{{ a | replace('a', a) }}",
    "replacing by keyword": _LONG + "{{ a | replace(old='a', new=a) }}",
    "joining": _LONG + "{{ range(90000) | join(d=a) }}",
    "bytes": "{{ (messages | length).to_bytes(1000000000, 'big') }}",
    "concatenation": _LONG + "{% set b = " + " ~ ".join(["a"] * 300) + " %}",
}
"""Templates that want more memory than there is."""

LONG = {
    "repetition": "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "one long text": "{{ messages | length * ('a' * 9) }}{{ 'b' * (messages | length * 9000000) }}",
}
"""Templates that write more than any prompt has."""

OTHER = {
    "power": "{{ 9 ** 9 ** 9 }}",
    "powers of powers": "{% set x = 9 ** 9 %}{{ x ** x }}",
    "squaring": _LOOP + "{% set n.s = (n.s + 2) * (n.s + 2) %}{% endfor %}",
    "namespaces": _LOOP + "{% set n.s = namespace(a=n.s, b=n.s) %}{% endfor %}{{ n.s.a.b.a }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "deep lists": _LOOP + "{% set n.l = [n.l] %}{% endfor %}{{ n.l | tojson }}",
    "digits": "{{ " + "9" * 5000 + " }}",
    "parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "constants": "{{ 'a' * 50000000 }}",
    "ipsum": "{{ lipsum(n=100, html=false, min=1, max=2) | length }}",
    "links": "{{ ('http://a.b/' ~ '(' * 20000) | urlize }}",
    "tags": "{{ ('<!--' * 20000) | striptags }}",
    "wrapping": "{{ ('a' * 100000) | wordwrap(1) | length }}",
    "indentation": "{{ ('\\n' * 100000) | indent(9999) | length }}",
    "dates": "{{ strftime_now('%999999999d' * 9) }}",
    "insides": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "frames": "{{ (messages | map('attr', '__class__') | list)[0].__init__.__globals__ }}",
    "globals": "{{ self.__init__.__globals__ }}{{ cycler.__init__.__globals__.os.environ }}",
    "files": "{% include '/etc/passwd' %}",
    "blocks of a parent": "{% extends '/etc/passwd' %}{% block a %}{{ super() }}{% endblock %}",
}

SEEDS = [*ENDLESS.values(), *GREEDY.values(), *LONG.values(), *OTHER.values()]

_OPERATIONS = """
abs attr('upper') batch(N) capitalize center(N) count default(V) dictsort escape filesizeformat first float forceescape
format(V, V) groupby(0) indent(N) int items join(V) last length list lower map('upper') max min pprint random reject
replace(V, V) reverse round(N) safe select slice(N) sort string striptags sum title tojson(indent=N) trim truncate(N)
unique upper urlencode urlize wordcount wordwrap(N) xmlattr
""".split(" ")
_METHODS = (
    "center(N) count(V) expandtabs(N) find(V) ljust(N) replace(V, V) rfind(V) rsplit(V) split(V) zfill(N)".split()
)
_VALUES = (
    "'a' * N",
    "range(N)",
    "[V, V]",
    "messages",
    "messages[0].content",
    "'%Nd'",
    "'{:N}'",
    "1.5",
    "{'a': V}",
    "N",
)
NUMBERS = ("1", "7", "300", "5000", "99999", "3000000", "4000000000")
_BODIES = (
    "{{ E }}",
    "{% set x = E %}{{ x }}",
    "{% for i in range(N) %}{{ E }}{% endfor %}",
    "{% set n = namespace(x=V) %}{% for i in range(N) %}{% set n.x = n.x ~ V %}{% endfor %}{{ n.x | length }}",
    "{% macro f(x) %}{{ E }}{{ x }}{% endmacro %}{{ f(f(V)) }}",
    "{% filter upper %}{{ E }}{% endfilter %}",
    "{% if E %}{{ E }}{% endif %}",
    "{% generation %}{{ E }}{% endgeneration %}",
)


def hostile_templates(count: int, seed: int) -> Iterator[str]:
    """The same templates for the same seed: composed ones, and seeds with pieces changed, doubled or left out."""
    rng = random.Random(seed)
    for i in range(count):
        yield _composed(rng) if i % 2 else mutated_text(rng.choice(SEEDS), SEEDS, NUMBERS, rng)


def _composed(rng: random.Random) -> str:
    def expression(_: re.Match[str]) -> str:
        text = rng.choice(_VALUES)
        for _step in range(rng.randrange(4)):
            separator, operations = rng.choice(((" | ", _OPERATIONS), (".", _METHODS), (" ~ ", _VALUES)))
            text = f"({text}){separator}{rng.choice(operations).strip()}"
        return text

    text = re.sub(r"\bE\b", expression, rng.choice(_BODIES))
    while re.search(r"\bV\b", text):
        text = re.sub(r"\bV\b", lambda _: rng.choice(("'a'", "'a' * N", "x", "1", "messages")), text)
    return re.sub(r"N(?=\b|d)", lambda _: rng.choice(NUMBERS), text)
