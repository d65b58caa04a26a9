"""Templates in their sandbox: what they can say, and that they can reach nothing and cost little."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service.notification_templates import meter
from service.notification_templates.builtin import BUILTINS
from service.notification_templates.meter import MAXIMUM_ITEMS, MAXIMUM_OUTPUT, Meter
from service.notification_templates.sandbox import MAXIMUM_SOURCE, RenderingFailed, SourceRefused, names_in, rendered

LOOP = "{% for a in many %}"
END = "{% endfor %}"
LOOPS = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"

VALUES: dict[str, Any] = {
    "s": "abc",
    "n": 10,
    "many": list(range(50_000)),
    "rows": [{"t": str(number)} for number in range(5_000)],
    "long": "x" * 1_000_000,
    "words": "a b " * 60_000,
    "signs": "<" * 250_000,
    "deep": [{"b": "c" * 100} for _ in range(2_000)],
    "alike": [{"b": "c" * 100} for _ in range(2_000)],
}


def say(source: str, *, html: bool = False, **values: Any) -> str:
    """What a source makes of values."""
    return rendered(source, values, Meter(), html=html)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ user.name }} {{ user['name'] }}", "Ada Ada"),
        ("{% if n > 2 and not off %}yes{% else %}no{% endif %}", "yes"),
        (
            "{% for x in rows if x.ok %}{{ loop.index }}/{{ loop.length }}{{ x.t }} {% else %}none{% endfor %}",
            "1/2a 2/2c ",
        ),
        ("{% for x in rows %}{{ loop.cycle('-', '+') }}{% endfor %}", "-+-"),
        ("{% for key, value in user|dictsort %}{{ key }}={{ value }};{% endfor %}", "name=Ada;"),
        ("{{ rows|map(attribute='t')|join(', ') }}", "a, b, c"),
        ("{{ '%.2f %5s'|format(n / 4, 'x') }} {{ n|round(1) }} {{ n ~ 'px' }}", "0.75     x 3 3px"),
        ("{% set total = n * 2 + 1 %}{{ total - 7 % 4 }} {{ rows[1:]|length }}", "4 2"),
        ("{% if 'a' in ['a', 'b'] %}{{ range(3)|list }}{% endif %}", "[0, 1, 2]"),
        ("{{ null }}{{ user.phone|default('no phone') }}", "no phone"),
        ("{{ items.items }} {{ text|replace('b', '-')|upper|truncate(6, true, '...', 0) }}", "3 A-C..."),
        ("one\n{% if n %}\ntwo\n{% endif %}\nthree\n", "one\ntwo\nthree\n"),
    ],
)
def test_what_templates_can_say(source: str, text: str) -> None:
    rows = [{"t": "a", "ok": True}, {"t": "b", "ok": False}, {"t": "c", "ok": True}]
    values = {"user": {"name": "Ada"}, "n": 3, "off": False, "rows": rows, "null": None, "items": {"items": 3}}
    assert say(source, **values, text="abcdefgh") == text


def test_values_are_escaped_in_html_whatever_becomes_of_them() -> None:
    evil = "<script>"
    for source in ("{{ x }}", "{{ x ~ '' }}", "{{ x|upper }}", "{{ [''] |join(x) ~ x }}", "{{ '%s'|format(x) }}"):
        assert "<" not in say(source, html=True, x=evil)
    assert say("<b>{{ x|e }}</b>", html=True, x=evil) == "<b>&lt;script&gt;</b>"
    assert say("{{ xs|join('<') }}", html=True, xs=[evil, 1]) == "&lt;script&gt;&lt;1"
    assert say("{{ x }}", x=evil) == evil


# Ways out of Jinja that are known; each is refused when it is saved.
ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'].__mro__ }}",
    "{{ s.__class__.__mro__[1].__subclasses__() }}",
    "{{ s|attr('__class__') }}",
    "{{ '{0.__class__}'.format(s) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format_map(s) }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ cycler('a') }}",
    "{% set ns = namespace(a=1) %}",
    "{{ dict(a=1) }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ s.upper() }}",
    "{{ rows.append(1) }}",
    "{{ loop.__init__ }}",
    "{% for x in rows recursive %}{{ loop(rows) }}{% endfor %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}",
    "{% set x = (m)() %}",
    "{% include 'x' %}",
    "{% import 'x' as x %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block b %}{% endblock %}",
    "{% filter upper %}{% endfilter %}",
    "{% set x %}{{ s }}{% endset %}",
    "{% autoescape false %}{{ s }}{% endautoescape %}",
    "{{ s|safe }}",
    "{{ s|xmlattr }}",
    "{{ range(*rows) }}",
    "{{ s|default(**rows) }}",
    "{% set range = rows %}",
    "{% set __x = 1 %}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_a_way_out_is_refused_before_it_is_kept(source: str) -> None:
    for html in (False, True):
        with pytest.raises(SourceRefused):
            # What is only a name of Python's world is an unknown variable.
            if names_in(source, html=html) - set(VALUES):
                raise SourceRefused("not declared")


@pytest.mark.parametrize(
    "source",
    [
        "{{ s['__cla' ~ 'ss__'] }}",
        "{{ rows['app' ~ 'end'] }}",
        "{{ rows|map('attr', '__class__')|list }}",
        "{{ rows|map(attribute='__class__')|list }}",
        "{{ rows|sort(attribute='__class__.__name__') }}",
        "{% for x in rows %}{{ loop['__init__'] }}{% endfor %}",
        "{% for x in rows %}{{ loop['_iterator'] }}{% endfor %}",
        "{{ s.upper }}",
        "{{ (s|e).unescape }}",
        "{{ s.format }}",
        "{{ range(1)['__class__'] }}",
    ],
)
def test_names_lead_to_values_only(source: str) -> None:
    with pytest.raises(RenderingFailed):
        rendered(source, VALUES, Meter(), html=False)


BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ [1] * 1000000000 }}",
    "{{ s|center(1000000000) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '%*d'|format(1000000000, 1) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%1000000000d' is divisibleby(1) }}",
    "{{ '%1000000000d' is odd }}",
    "{{ s|indent(1000000000) }}",
    "{{ signs|replace('<', words) }}",
    "{{ signs|e|replace('<', words) }}",
    "{{ words|replace('', words) }}",
    "{{ many|join(words) }}",
    "{{ range(1000000000)|list }}",
    "{{ n|round(1000000000, 'ceil') }}",
    "{{ " + " * ".join(["9999999999"] * 20) + " }}",
    "{{ " + "9" * 60_000 + " }}",
    "{{ " + "(" * 30_000 + "s" + ")" * 30_000 + " }}",
    "{{ s" + " + s" * 10_000 + " }}",
    "{{ s" + ".s" * 20_000 + " }}",
    "{{ s }}" * 9_000,
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 60,
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x + x %}" * 60,
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "{% set x = (1, 2) %}" + "{% set x = x, x %}" * 60 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = x + x %}" * 60,
    "{% set x = [1] %}" + "{% set x = rows|map(attribute='none', default=x)|list %}" * 6 + "{{ x }}",
    LOOPS + END * 3,
    LOOPS + "x" + END * 3,
    LOOPS + "{{ long }}" + END * 3,
    LOOP + "{% if deep == alike %}{% endif %}" + END,
    LOOP + "{% set x = long[1:] %}" + END,
    LOOP + "{% set x = words|title %}" + END,
    LOOP + "{% set x = rows|map(attribute='t')|join %}" + END,
    LOOP + LOOP + "{{ loop.length }}" + END + END,
    "{% for a in many if long in long %}{% endfor %}",
    "{% for a in many %}" * 25 + END * 25,
]


@pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[:40])
def test_a_bomb_ends_soon(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    # Less than in life, for the test's sake.
    monkeypatch.setattr(meter, "MAXIMUM_SECONDS", 0.1)
    begun = time.thread_time()
    with pytest.raises((SourceRefused, RenderingFailed)):
        rendered(source, VALUES, Meter(), html=True)
    assert time.thread_time() - begun < 3


def test_all_parts_of_a_message_have_one_price() -> None:
    price = Meter()
    source = "{% for a in many %}{% endfor %}"
    rendered(source, VALUES, price, html=False)
    with pytest.raises(RenderingFailed, match="steps"):
        rendered(source * 2, VALUES, price, html=False)


def test_what_is_within_the_limits_is_rendered() -> None:
    assert len(say("{{ x }}", x="y" * MAXIMUM_OUTPUT)) == MAXIMUM_OUTPUT
    assert say("{% for x in range(limit) %}.{% endfor %}", limit=MAXIMUM_ITEMS) == "." * MAXIMUM_ITEMS
    assert say("x" * MAXIMUM_SOURCE) == "x" * MAXIMUM_SOURCE
    with pytest.raises(SourceRefused, match="longer"):
        names_in("x" * (MAXIMUM_SOURCE + 1), html=False)


def test_faults_name_their_line() -> None:
    with pytest.raises(SourceRefused, match=r"^Line 2: "):
        names_in("a\n{% if %}", html=False)
    with pytest.raises(SourceRefused, match=r"^Line 3: There is no filter shout\.$"):
        names_in("a\n\n{{ x|shout }}", html=False)
    with pytest.raises(RenderingFailed, match=r"^Line 2: .* no attribute 'name'$"):
        say("a\n{{ user.name }}", user={})


def test_the_names_that_a_source_needs() -> None:
    source = "{% set a = b %}{% for c in d if c.e %}{{ c }}{{ loop.index }}{{ a|default(f) }}{% endfor %}{{ range(2) }}"
    assert names_in(source, html=False) == {"b", "d", "f"}


@pytest.mark.parametrize("name", BUILTINS)
def test_the_platforms_own_messages_need_what_they_declare(name: str) -> None:
    builtin = BUILTINS[name]
    declared = {*builtin.variables, *builtin.optional}
    sources = {builtin.subject: False, builtin.body: False, builtin.html: True}
    used = frozenset().union(*(names_in(source, html=html) for source, html in sources.items()))
    assert used - {"publicUrl"} <= declared
    values = {name: [] if name == "items" else f"<{name}>" for name in builtin.variables}
    for source, html in sources.items():
        for extra in (dict.fromkeys(builtin.optional), dict.fromkeys(builtin.optional, "<more>")):
            text = say(source, html=html, **values, **extra, publicUrl="https://example.com")
            assert "None" not in text
            assert not html or "<username>" not in text
