#!/usr/bin/env python3
"""make_template_cases.py > tests/api/template_cases.jsonl - what Jinja does.

Renders small templates, our own, with Python's jinja2 set up as transformers sets
it up, and writes template, variables and text (or error) a line. Needs jinja2
3.1.6; the tests need only the file. Run it again after adding rows here.
"""
import copy
import datetime
import json
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 26, 12, 34, 56)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same", []), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Namespace(jinja2.utils.Namespace):
    """As in transformers: no name may begin with an underscore."""

    def __init__(*args, **kwargs):
        attrs = dict(*args[1:], **kwargs)
        for name in attrs:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(args[0], attrs)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError("underscore")


ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                    extensions=[Generation, jinja2.ext.loopcontrols])
ENV.filters["tojson"] = tojson
ENV.globals["namespace"] = Namespace
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = NOW.strftime

VARS = {
    "s": "Hello, Wörld 日本 <b>&'\"",
    "pad": " \t two words \n",
    "lines": "one\ntwo\r\n\nfour\n",
    "empty": "",
    "n": 7,
    "neg": -7,
    "f": 2.5,
    "yes": True,
    "nil": None,
    "list": [3, 1, 2],
    "words": ["banana", "Apple", "cherry", "apple"],
    "nested": [[1, 2], [3, [4, "x"]], {"k": None}],
    "d": {"b": 1, "a": "x", "items": [1, 2], "C": {"deep": [10, 20]}},
    "people": [{"name": "Zoë", "age": 30, "tags": ["a"]}, {"name": "bob", "age": 25}, {"name": "Al", "age": 30}],
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}],
}

# Expressions: each is rendered as {{ ... }}.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
2 ** 3 ** 2
-2 ** 2
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 % -3, 7.5 // 2, -7.5 % 2
7 / 2
1 / 0
1 % 0
1.0, 1e16, 1e15, 1.5e-5, 0.0001, 123456789.123, 1e300, 0.1 + 0.2, 1e22
true, True, false, none, None
'a' ~ 1 ~ none ~ 2.5 ~ true
"a" "b" 'c'
'it''s', "\x41\u00e9\n|\t|\\|\'|\q"
1_000 + 0x1f + 0b11 + 0o17
s|length, s|upper, s|lower
s[0], s[-1], s[1:4], s[::-1], s[10:], s[:-3], s[::3], s[5:1:-1], s[99:]
list[0], list[-1], list[5], list[1:], list[::-1], list[:-1]
list[5] is defined
(1, 2, 3)[1:], (1,), ()
s[none], s['upper']()
nil[0]
nil.foo
nil[1:]
d[1:]
missing
missing.foo
missing + 1
1 + missing
'a' + missing
missing ~ 'x'
missing == missing, missing == none, missing is none
missing|length, missing|list, missing|upper, missing|default('x'), nil|default('x'), nil|default('x', true)
empty|default('x'), empty|default('x', boolean=true), missing|d
d.b, d['a'], d.items is callable, d['items'], d.C.deep[1], d.nope, d['nope'] is defined
d.keys()|list, d.values()|list, d.items()|list
d.keys(), d.items()
d.get('b'), d.get('zz'), d.get('zz', 5)
d.pop('b')
list.append(4)
list.append is defined, d.update is defined
d.__class__
list.count(1), list.index(2)
d|items|list, d|dictsort, d|dictsort(by='value')|list if false else 'skipped'
d|length, list|length, (1,2)|count
5|length
d|tojson, nested|tojson, s|tojson
s|tojson(ensure_ascii=true)
d|tojson(indent=2)
nested|tojson(indent=4)
d|tojson(indent=2, separators=(',', ':'))
d|tojson(separators=(',', ':'))
d|tojson(sort_keys=true)
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
[]|tojson(indent=2), {}|tojson(indent=2)
(1, 2)|tojson, 1.0|tojson, 1e100|tojson, "\u0001\u007f/"|tojson
missing|tojson
list|map('string')|tojson
nested, d, words, s
["a'b", 'c"d', 'e\'"f', "\n\\", "é\u200b\x7f\ud7ff"]
[none, true, 1.0, [], {}, ()]
words|sort, words|sort(reverse=true), words|sort(case_sensitive=true)
list|sort|join('-'), list|min, list|max, list|sum, []|min
people|sort(attribute='age')|map(attribute='name')|join(',')
people|sort(attribute='age,name')|map(attribute='name')|list
people|map(attribute='tags', default=[])|list
people|map(attribute='tags.0')|list
people|selectattr('age', 'equalto', 30)|map(attribute='name')|list
people|selectattr('tags')|list|length
people|selectattr('tags', 'defined')|list|length
people|rejectattr('age', '>', 26)|map(attribute='name')|list
people|groupby('age')|map('first')|list
people|groupby('age')|list|length
people|sum(attribute='age')
list|select('odd')|list, list|reject('odd')|list, [0, 1, '']|select|list
list|select('gt', 1)|list
words|unique|list, words|map('upper')|join(' '), words|map('replace', 'a', '4')|list
words|first, words|last, []|first, ''|first is defined, words|reverse|list, s|reverse
list|batch(2)|list, list|batch(2, 0)|list, [1,2,3,4,5]|slice(3)|list
list|map('nosuch')|list
nil|map('upper')|list, nil|select('odd')|list, 0|map('x')|list
5|map('upper')|list
words|join, words|join(', '), people|join(';', attribute='name'), [1, none, 2.0]|join('|')
pad|trim, '[' ~ pad.strip() ~ ']', '[' ~ pad.lstrip() ~ ']', '[' ~ pad.rstrip() ~ ']', 'xxabxx'|trim('x'), 'xyabyx'.strip('xy')
s.split(','), s.split(), s.split('o', 1), s.rsplit('o', 1), '  a  b c '.split(), '  a  b c '.split(none, 1), 'a,,b,'.split(',')
''.split(), ''.split(',')
'a'.split('')
s.startswith('Hello'), s.startswith(('x', 'He')), s.endswith('"'), s.startswith('W', 7), 'abc'.endswith('b', 0, 2)
s.find('W'), s.find('日'), s.find('zz'), s.rfind('l'), s.index('W')
s.index('zz')
s.replace('l', 'L'), s.replace('l', 'L', 1), 'abc'.replace('', '-'), s|replace('l', 'L'), 123|replace(2, 'x')
s.count('l'), 'aaa'.count('aa'), 'abc'.count('')
'a-b-c'.partition('-'), 'a-b-c'.rpartition('-'), 'abc'.partition('-'), 'abc'.rpartition('-')
lines.splitlines(), lines.splitlines(true)
'hello wORLD'.title(), 'hello wORLD'.capitalize(), 'hello wORLD'.swapcase(), "they're"|title, "they're".title(), 'foo-bar (baz)'|title
'éàÜß'.upper(), 'ÉÀÜ'.lower(), 'ßa'|upper
'prefix-x'.removeprefix('prefix-'), 'x.txt'.removesuffix('.txt')
'5'.zfill(3), '-5'.zfill(4), '+'.zfill(1), 'ab'.ljust(4) ~ '|', 'ab'.rjust(4), '42'.isdigit(), 'ab1'.isalnum(), 'ab'.isalpha(), ' '.isspace(), ''.isdigit(), 'AB'.isupper(), 'ab'.islower()
', '.join(words), ','.join([1])
'x'.join('abc')
'{} {} {}'.format(1, 'a', none), '{1}{0}'.format('a', 'b'), '{x}-{y!r}'.format(x=1, y='q'), '{{}}'.format()
'{:>5}|{:<5}|{:^5}|{:*^7}'.format(1, 'a', 'b', 'c'), '{:05d}|{:+d}|{:,}|{:x}|{:#x}|{:.2f}|{:e}|{:%}'.format(42, 5, 1234567, 255, 255, 3.14159, 12345.678, 0.25)
'{0.name} {0[b]}'.format(d)
'{0[b]} {0[C][deep][1]}'.format(d)
'{:.3}'.format('abcdef'), '{:10.3f}|'.format(2.0), '{}'.format(1.0), '{:g}'.format(0.1)
'{}'.format()
'{'.format()
'%s and %d' % ('x', 5), '%s' % 'y', '%05.1f|%-5s|%5s|%x|%%|%r' % (3.14159, 'a', 'b', 255, 'q'), '%(k)s' % {'k': 1}
'%d' % 'x'
'%s %s' % 'x'
'%s' % (1, 2)
'%s'|format('x'), '%(a)s'|format(a=1)
n is odd, n is even, n is divisibleby 7, n is divisibleby(2), n is number, f is number, yes is number, n is integer, yes is integer, f is float
yes is true, yes is boolean, n is true, nil is none, s is string, list is sequence, s is sequence, d is sequence, d is mapping, list is iterable, n is iterable, n is sequence
missing is defined, missing is undefined, missing is iterable, missing is sequence, d.items() is sequence, d.items() is iterable
'a' is in 'abc', 2 is in list, 'b' is in d, n is eq 7, n is ne 7, n is gt 6, n is lt 6, n is not none, 'x' is lower, 'X' is upper
n is sameas 7, list is sameas list, raise_exception is callable, 'upper' is filter, 'odd' is test
'a' in s, 'H' in s, 1 in list, 9 not in list, 'a' in d, 1 in (1, 2), none in [none], 'x' in missing
1 in s
1 in nil
1 in 5
[1] in d
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, true == 1, 'a' < 'b', [1, 2] < [1, 3], 'a' == 1, none == none, [1] == (1,), {'a': 1} == {'a': 1.0}
'a' < 1
none < 1
{} < {}
not true, not none and 1, 1 and 2, 0 or 'x', none or missing, 1 if false, 1 if true else 2
(1 if false).foo
1 if false else 2 if false else 3
yes and not no
-n|abs, (-n)|abs, neg|abs, f|int, '42'|int, 'x'|int, 'x'|int(5), '0x1f'|int(base=16), ' 1_000 '|int, '3.9'|int, nil|int, '1e3'|int
'2.5'|float, 'x'|float, 'x'|float(1.5), n|float, ' 1e3 '|float
2.5|round, 3.5|round, 2.567|round(2), 7|round, 2.1|round(0, 'ceil'), 2.9|round(method='floor'), 1234.5|round(-2), 0.125|round(2)
[1] + [2], (1,) + (2,), [1] * 3, 'ab' * 3, 3 * 'ab', 'a' * 0, 'a' * -1
[1] + 'a'
'a' + 1
'a' + [1]
1 + 'a'
none + 'a'
{} + {}
-'a'
range(5)|list, range(1, 10, 3)|list, range(5, 0, -2)|list, range(3), range(3)[1], range(0)|list, range(10)|length, 3 in range(5)
range(1, 7, 2)
range(200000)|list
dict(a=1, b=2), dict({'x': 1}, y=2), dict([['k', 'v']])
namespace(a=1).a
namespace(_a=1)
lines|indent, lines|indent(2, true), lines|indent(width=2, blank=true), lines|indent('> ', first=true), ''|indent(2, true), 'a'|indent
s|escape, s|e|upper, '<'|safe ~ '<', '<'|safe + '<', '<' + '>'|safe, ('<'|safe)|length, ['<'|safe], ('<%s>'|safe)|upper, '<'|safe|replace('<', '>')
'a b  c'|wordcount, '[' ~ 'ab'|center(7) ~ ']', 'abc'|list, s|string, 5|string ~ 1, none|string
strftime_now('%Y-%m-%d'), strftime_now('%d %b %Y'), strftime_now('%B %d, %Y %H:%M:%S %A %a %j %p %I %y %%'), strftime_now('%-d %f|%z|%Z|')
raise_exception('no good')
s()
5()
missing()
missing.a.b
d.a.b.c
d.nope.x
people[0].name, people[0]['age'], people.0.name, messages[-1].content, messages[1]['content'] is none
messages[5].content
cycler('a', 'b').next()
[x for x in list]
'abc'|attr('upper')()
{'a': 1}.a, {'a': {'b': 2}}['a'].b, {1: 'x'}[1], {'keys': 1}.keys is callable, {'keys': 1}['keys']
{[1]: 2}
{(1, 2): 3}[(1, 2)]
1.5.foo, 1.__abs__
(1).foo
'a,b'.split(',')|map('upper')|join('+')
people|map(attribute='name')|map('length')|list
"%s" % none, "%s" % [1, 2], "%s" % {'a': 1}
""" + "\n'\\u65e5' == '日', '\\U0001F600', '\\101', '\\q'"

# Whole templates.
TEMPLATES = [
    "{% for x in list %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}|{{ loop.nextitem }};{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in nil %}x{% endfor %}",
    "{% for x in missing %}x{% else %}empty{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}:{{ x }} {{ loop.length }} {% else %}no{% endfor %}",
    "{% for x in [1,2,3,4,5] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for a in [1,2] %}{% for b in [1,2,3] %}{% if b == 2 %}{% break %}{% endif %}{{ a }}{{ b }}{{ loop.depth }} {% endfor %}{% endfor %}",
    "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [[1]] %}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% for x in [1, [2, [3]], 4] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth0 }}{% endif %}{% endfor %}",
    "{% for x in [1] %}{{ loop([2]) }}{% endfor %}",
    "{% for x in [1,1,2] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}",
    "{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, y='a') %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z }}",
    "{% set ns = namespace() %}{% set ns.a = [1] %}{% set ns.a = ns.a + [2] %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set x = {} %}{% set x.a = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1] %}",
    "{% set t = 1, 2 %}{{ t }}",
    "{% set x %}  <{{ n }}>  {% endset %}[{{ x }}]{{ x is string }}",
    "{% set x | upper | trim %}  abc {% endset %}[{{ x }}]",
    "{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}",
    "{% if false %}a{% elif nil %}b{% elif list %}c{% endif %}",
    "{% if x is not defined %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(b=5, a=6) }}|{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(x=2) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}{{ m.name }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller }}{% endmacro %}{{ m() }}",
    "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro fact(k) %}{{ 1 if k <= 1 else k * fact(k - 1)|int }}{% endmacro %}{{ fact(10) }}",
    "{% macro m() %}{{ outer }}{% set outer = 3 %}{{ outer }}{% endmacro %}{% set outer = 1 %}{{ m() }}{% set outer = 2 %}{{ m() }}{{ outer }}",
    "{{ later() }}{% macro later() %}x{% endmacro %}",
    "{% for i in [1,2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro a() %}a{{ b() }}{% endmacro %}{% macro b() %}b{% endmacro %}{{ a() }}",
    "{% with x = 1, y = n %}{{ x }}{{ y }}{% endwith %}{{ x }}",
    "{% filter upper %}abc{{ n }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}",
    "{% generation %}{% set q = 1 %}x{{ q }}{% endgeneration %}{{ q }}",
    "{% print n %}{% print 1, 2 %}",
    "{{ 1, 2 }}{{ (1) }}{{ [1,2,] }}{{ {'a': 1,} }}",
    "{# comment #}a{#- c -#} b {#+ c +#} c",
    "a\n  {# c #}\nb",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc",
    "a\n  {%+ if true %}\n  b\n  {%+ endif +%}\nc",
    "a  {%- if true -%}  b  {%- endif -%}  c",
    "a \n\n {{- n -}} \n\n b",
    "  {{ n }}\n  {{ n }}\n",
    "{% if true %}\n\nx{% endif %}\n\n",
    "x\n\n",
    "x\r\ny\rz\r\n",
    "  {% set a = 1 %}  {% set b = 2 %}\n{{ a }}{{ b }}",
    "{% raw %}{{ n }} {% if %}{% endraw %}!",
    "a\n  {% raw -%}  \n {{ x }} {%- endraw %}\nb",
    "  {%- raw %}  x  {% endraw -%}  b",
    "{{ '}}' }}{{ \"{%\" }}{{ {'a': {'b': 1}} }}",
    "{{ '{{' }} {% if '%}' %}y{% endif %}",
    "{{-1}}{{- 1 -}}{{+1}}",
    "{%if n%}{{n}}{%endif%}",
    "{% set x = 'a\nb' %}{{ x }}",
    "{{ n", "{% if n %}", "{% endif %}", "{{ }}", "{% foo %}", "{{ 1 + }}", "{{ (1 }}", "{{ ')' ( }}", "{# x", "{% raw %}",
    "{{ n|nosuch }}", "{{ n is nosuch }}", "{% if false %}{{ n|nosuch }}{% endif %}ok", "{{ 1 if true else n|nosuch }}",
    "{% if false %}{% for x in list %}{{ x|nosuch }}{% endfor %}{% endif %}", "{% if true %}{{ n|nosuch }}{% endif %}",
    "{% for x in list %}{% if false %}{{ x|nosuch }}{% endif %}{% endfor %}ok",
    "{% break %}", "{% set ns = namespace(a=1) %}{% set ns._b = 1 %}", "{{ namespace(a=1)._b }}",
    "{% set gen = list|map('string') %}{{ gen|join }}|{{ gen|join }}|{{ 1 if gen else 0 }}",
    "{{ (list|map('string'))[0] is defined }}{{ list|select('odd')|first }}",
    "{{ list|map('string')|length }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{% set j = joiner('; ') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}",
    "{% set f = 'x'.upper %}{{ f() }}{{ m(*[1, 2], **{'c': 3}) if m else '' }}",
    "{% macro m(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2], **{'c': 3}) }}",
    "{{ range(3)|map('string')|join(',') }}{{ 'a' if list|length > 2 else 'b' }}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content|trim }}{% elif m.content is none %}NONE{% endif %}{% endfor %}",
    "{% for g, items in people|groupby('age') %}{{ g }}:{{ items|map(attribute='name')|join('/') }};{% endfor %}",
    "{%- for m in messages -%}\n  {{- m['role'] }}\n{% endfor -%}\n\nend",
    "{% set x = messages[0]['content'].split('i')[0] %}{{ x }}{{ messages[0].role|upper }}",
    "{% if messages[0]['role'] == 'system' %}s{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ loop_messages|length }}",
    "{{ messages | tojson }} {{ messages | selectattr('role', 'equalto', 'user') | list | tojson }}",
    "{{ messages | selectattr('role') | tojson }}",
    "{% set x = 5 -%}\n   {{ x }}  {%- set y = 6 %}\n  {{- y }}",
    "{% for x in range(3) -%}\n  {{ x }}\n{%- endfor %}\n!",
    "{% for x in list %}{{ loop.index }}{% else %}{% endfor %}{{ loop is defined }}",
    "{{ '\\N' }}", "{{ '\\x1' }}", "{{ '\\ud83d' ", "{% print n, %}",
    "{% set x = s[:5] %}{% set x = x ~ '<' %}{{ x|e }}",
    "{% if n is defined and n is not none and n > 5 %}y{% endif %}",
    "{% for x in list %}{% set ns = namespace(v=x) %}{{ ns.v }}{% endfor %}",
    "{% for m in messages %}{% for k, v in m.items() if v is not none %}{{ k }}:{{ v }}{{ ',' if not loop.last }}{% endfor %};{% endfor %}",
    "{% macro t(x, d=0) %}{% if x is mapping %}{% for k, v in x|dictsort %}{{ ' ' * d }}{{ k }}:\n{{ t(v, d + 1) }}"
    "{% endfor %}{% elif x is iterable and x is not string %}{% for i in x %}{{ t(i, d + 1) }}{% endfor %}"
    "{% else %}{{ ' ' * d }}{{ x }}\n{% endif %}{% endmacro %}{{ t({'b': [1, {'z': 'q'}], 'a': {'c': none}}) }}",
    "{%- macro a(x) -%}\n  <{{ x }}>\n{%- endmacro -%}\n{{ a(1) }}\n{{- a(2) -}}\n",
    "{% set _ = ns %}{{ _ is defined }}{% set loop = 1 %}{{ loop }}",
    "{{ ''.join(['a', 'b']) }}{{ [] is sequence }}{{ {} is mapping }}{{ '' is iterable }}",
    "{{ d.items()|list|tojson }}{{ d.keys()|first }}{{ d.values()|last }}",
    "{{ d.items()|tojson }}", "{{ d.items()[0] }}", "{{ (d.items()|list)[0][1] }}", "{{ list.sort() }}", "{{ words|sort|reverse|list }}",
    "{% call nothing() %}x{% endcall %}", "{{ '%s|%s' % (missing, 1) }}", "{{ missing % 2 }}", "{% set x = [] %}{% set x = x + [1] %}{{ x }}", "{% set _ = list.append(1) %}",
    "{{ messages[0] }}{{ messages[0].items() }}", "{{ [1, 2]|tojson|upper }}{{ {'a': '\u00e9'}|tojson }}",
    "{{ 'a' if missing else 'b' }}{{ missing and 1 }}{{ 1 or missing }}", "{{ missing < 1 }}", "{{ -missing }}", "{{ missing[0] }}",
    "{{ {'a': missing} }}{{ [missing] }}", "{{ missing() }}", "{{ missing in [1] }}", "{{ 'x' in missing }}",
    "{{ '%s' % missing }}", "{{ missing|tojson }}", "{{ missing|int }}", "{{ missing|string ~ '|' }}", "{{ [missing]|join }}",
    "{{ ('a', 'b')|join }}{{ {'x': 1}|join }}{{ {'x': 1}|list }}{{ {'x': 1}|first }}{{ 'abc'|last }}",
    "{{ 3.0 == 3, 3.0, 3.7 // 1, 10 ** 15, 10 ** 16 * 1.0, 1e-7, 5e-324, 1.7976931348623157e308 }}",
    "{{ 0.1, 100.0, 1234567.891, 12345678901234567.0, 0.00001, -0.0, 1e5 }}",
    "{{ 2 ** -1, 2 ** 0.5, 0 ** 0, (-8) ** 3 }}", "{{ 0 ** -1 }}", "{{ 'a' * 2.0 }}", "{{ 5 % 0.0 }}",
    "{{ [1, 2, 3][1:][0] }}{{ 'abc'[1:][0] }}{{ (1, 2)[-1] }}{{ 'abc'[-3:] }}{{ 'abc'[::-2] }}{{ [1,2,3][-100:100] }}{{ [1,2,3][2:0:-1] }}",
    "{{ [1,2][::0] }}", "{{ list['a':] }}", "{{ 'é日😀'[1], 'é日😀'|length, 'é日😀'[::-1], 'é日😀'.find('😀') }}",
    "{% for x in 'ab' %}{% for y in 'cd' %}{{ loop.index }}{{ x }}{{ y }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in list %}{% if loop.first %}{% set z = 1 %}{% endif %}{{ z is defined }}{% endfor %}",
    "{% for x in list %}{{ loop }}{% break %}{% endfor %}" if False else "{{ 1 }}",
    "{% import 'x' as y %}", "{% include 'x' %}", "{% extends 'x' %}",
]


def render(template):
    try:
        return {"text": ENV.from_string(template).render(**copy.deepcopy(VARS))}
    except Exception as e:  # whatever Python says is the truth
        return {"error": str(e)}


def main():
    print(json.dumps({"now": NOW.isoformat(), "vars": VARS}))
    rows = ["{{ " + e + " }}" for e in EXPRESSIONS.strip().split("\n")] + TEMPLATES
    for template in rows:
        print(json.dumps({"template": template, **render(template)}))


if __name__ == "__main__":
    sys.exit(main())
