import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.tokens.chats import chats, texts
from unit.tokens.families import FAMILIES, TEMPLATES

from sartor.errors import TokenError
from sartor.tokens.template import PLAIN, ChatTemplate, Refused

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


def theirs(source, messages, tools, generation, **options):
    from transformers.utils.chat_template_utils import _alias_reasoning_fields, render_jinja_template

    (text,), _ = render_jinja_template(
        [_alias_reasoning_fields(messages)],
        tools=list(tools) or None,
        chat_template=source,
        add_generation_prompt=generation,
        **options,
    )
    return text


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_renders_as_transformers_does(name, data):
    source = (TEMPLATES / f"{name}.jinja").read_text()
    row = data.draw(chats(FAMILIES[name], texts(edges=True)))
    messages = [message.template() for message in row.messages]
    ours = ChatTemplate(source, NAMED)
    for generation in (False, True):
        wanted = theirs(source, messages, row.tools, generation, **NAMED)
        assert ours.render(messages, tools=row.tools, generation=generation) == wanted


CONSTRUCTS = [
    "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}\n  {% endfor %}\n x",
    "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}[{{ m.content }}]{% endfor %}",
    "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ '<b>&' | tojson }}{{ 'é' | tojson(ensure_ascii=true) }}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ messages[-1].content }}{% endgeneration %}{{ x }}",
    "{% set ns = namespace(a=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}{{ dict(a=2).a }}",
    "{%- macro shout(t) -%} {{ t | upper }} {%- endmacro -%}{{ shout(messages[0].content) }}{{ nothing }}{{ tools }}",
    "{{ range(3) | list }}{{ 2 ** 3 }}{{ 'ab' * 2 }}{{ messages | map(attribute='role') | join(',') }}",
    "{{ strftime_now('%Y') }}",
    "  {% if true %}\n  indented\n  {% endif %}\nend\n",
]


@pytest.mark.parametrize("source", CONSTRUCTS)
def test_constructs_render_as_in_transformers(source):
    messages = [{"role": "user", "content": "é <b>"}, {"role": "assistant", "content": "yes"}]
    ours = ChatTemplate(source, NAMED).render(messages, generation=False)
    assert ours == theirs(source, messages, (), False, **NAMED)


def test_options_reach_the_template():
    template = ChatTemplate((TEMPLATES / "qwen3.jinja").read_text(), NAMED, {"enable_thinking": False})
    assert template.render([{"role": "user", "content": "x"}], generation=True).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("{{ 'x' * 100000000 }}", "repeats"),
        ("{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}", "loops"),
        ("{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}", "beyond"),
        ("{% for i in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "4 MiB"),
        ("{{ 9 ** 9999999 }}", "power"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "namespace"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ none + 'x' }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_a_template_that_misbehaves_is_refused(source, word):
    with pytest.raises(Refused, match=word):
        ChatTemplate(source, NAMED).render([{"role": "user", "content": "x"}], generation=False)


def test_one_moment_for_all_renderings():
    from datetime import datetime

    template = ChatTemplate("{{ strftime_now('%d %b %Y %f') }}", {}, now=datetime(2024, 7, 26))
    assert template.render([], generation=False) == "26 Jul 2024 000000"
    running = ChatTemplate("{{ strftime_now('%f') }}", {})
    assert len({running.render([], generation=False) for _ in range(20)}) == 1


def test_broken_source_names_file_and_line():
    with pytest.raises(TokenError) as caught:
        ChatTemplate("a\n{% if %}", {}, label="mine.jinja")
    assert str(caught.value).startswith("mine.jinja:2: error T218")


def test_plain_template():
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
    ]
    plain = ChatTemplate(PLAIN, NAMED)
    assert plain.render(messages, generation=False) == "<s>System: S\nUser: Q\nAssistant:\nA</s>\n"
    assert plain.render(messages[:2], generation=True) == "<s>System: S\nUser: Q\nAssistant:\n"
    assert ChatTemplate(PLAIN, {"eos_token": "</s>"}).render(messages[1:2], generation=True) == "User: Q\nAssistant:\n"


def test_fingerprint_follows_source_and_options():
    one = ChatTemplate("a", NAMED).fingerprint
    assert len({one, ChatTemplate("b", NAMED).fingerprint, ChatTemplate("a", NAMED, {"x": 1}).fingerprint}) == 3
