"""The supervision contract as properties over random conversations and every family."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from unit.tokens.chats import TOOL, chats, texts
from unit.tokens.families import FAMILIES

from sartor.data.rows import Example, Message, Origin, Text
from sartor.errors import Problem, TokenError
from sartor.tokens.render import Renderer
from sartor.tokens.template import PLAIN, ChatTemplate

KINDS = ("bytes", "fallback")
HERE = Origin("chat.jsonl", 7)
COMMON = settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.generate))
"""Without shrinking: a failure shows its row all the same, and a broken renderer must not take minutes to say so."""


def chat(*turns, **fields):
    """chat("user text", "answer", ...) without a system turn."""
    roles = ("user", "assistant")
    return Example(origin=HERE, messages=tuple(Message(roles[i % 2], text) for i, text in enumerate(turns)), **fields)


def proven(renderer, row):
    (result,) = renderer.render_many([(3, row)])
    assert not isinstance(result, Problem), str(result)
    assert all(rendered.row == 3 for rendered in result.rendered)
    return result


def pieces(rendered):
    """Ids of each supervised stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rendered.weight != 0, [0]])))
    return [rendered.ids[start:end].tolist() for start, end in zip(edges[::2], edges[1::2], strict=True)]


def reads(renderer, ids):
    """Text of ids in the middle of a row; a vocabulary with ▁ for space cannot tell the two apart."""
    return renderer.decode([ids])[0].replace("▁", " ")


@cache
def theirs(folder):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def wanted(family, text):
    """How an answer reads, up to the space some families put before it."""
    return ((text.strip() if family.strips else text) + family.end).replace("▁", " ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
@COMMON
@given(data=st.data())
def test_supervised_text_is_the_answers_and_their_ends(model, kind, name, data):
    made = model(kind, name)
    row = data.draw(chats(replace(made.family, tools=False, reasoning=False), texts(edges=True)))
    renderer = Renderer(made.vocabulary, made.template)
    result = proven(renderer, row)
    read = [reads(renderer, piece) for rendered in result.rendered for piece in pieces(rendered)]
    answers = [wanted(made.family, message.content) for message in row.messages if message.role == "assistant"]
    gap = " " if name in ("mistral-v3", "llama2", "vicuna") else ""
    if name == "qwen3":  # it strips the newlines before its newest answer
        read, answers = ([text.lstrip("\n") for text in both] for both in (read, answers))
    assert sorted(read) == sorted(gap + answer for answer in answers)


@pytest.mark.parametrize("kind", [*KINDS, "legacy", "unigram"])
@pytest.mark.parametrize("name", FAMILIES)
@COMMON
@given(data=st.data())
def test_ids_are_those_of_transformers(model, kind, name, data):
    made = model(kind, name)
    row = data.draw(chats(made.family, texts(unicode=kind != "unigram")))
    result = proven(Renderer(made.vocabulary, made.template), row)
    for rendered in result.rendered:
        last = len(row.messages) if not result.notes.expanded else None
        ends = range(1, len(row.messages) + 1) if last is None else [last]
        theirs_ = [
            theirs(made.folder).apply_chat_template(
                [message.template() for message in row.messages[:end]], tools=list(row.tools) or None, return_dict=False
            )
            for end in ends
        ]
        if not result.notes.apart:
            assert rendered.ids.tolist() in theirs_


@pytest.mark.parametrize("kind", [*KINDS, "legacy"])
@pytest.mark.parametrize("name", FAMILIES)
@COMMON
@given(data=st.data())
def test_prompt_and_completion_are_what_was_trained(model, kind, name, data):
    made = model(kind, name)
    row = data.draw(chats(made.family, texts(edges=True)))
    renderer = Renderer(made.vocabulary, made.template)
    last = proven(renderer, row).rendered[-1]
    if row.answer().reasoning is None:
        prompt = renderer.prompt(row.prompt(), row.tools)
        assert prompt.dtype == np.int32
        assert last.ids[: len(prompt)].tolist() == prompt.tolist()
        assert not last.weight[len(prompt) - 1] or row.messages[-2].role == "assistant"
        assert last.weight[len(prompt)] == 1
        answer = row.answer().content.strip() if made.family.strips else row.answer().content
        if name == "qwen3":
            answer = answer.lstrip("\n")
        tail = last.ids[len(prompt) :]
        if not row.tools:
            completion = renderer.completion(answer)
            assert tail[: len(completion)].tolist() == completion
            assert set(tail[len(completion) :].tolist()) <= set(last.ids[last.weight == 0].tolist())
            shown = renderer.text(completion)
            assert shown == answer or (kind == "legacy" and shown.strip() == answer.strip())
            assert completion[-1] in renderer.stop_ids


@pytest.mark.parametrize("kind", [*KINDS, "legacy"])
@pytest.mark.parametrize("name", FAMILIES)
@COMMON
@given(data=st.data())
def test_users_never_write_control_tokens(model, kind, name, data):
    made = model(kind, name)
    family = replace(made.family, tools=False, reasoning=False)
    control = st.sampled_from(list(made.vocabulary.special_tokens))
    dirty = st.tuples(texts(), control, texts()).map("".join) | control
    row = data.draw(chats(family, dirty))
    renderer = Renderer(made.vocabulary, made.template)
    clean = replace(row, messages=tuple(replace(message, content="x") for message in row.messages))
    result, plain = proven(renderer, row), proven(renderer, clean)
    special = set(made.vocabulary.special_tokens.values()) - {made.vocabulary.unknown_id}
    if not result.notes.apart:
        for ours, frame in zip(result.rendered, plain.rendered, strict=True):
            kept, framed = ([index for index in one.ids.tolist() if index in special] for one in (ours, frame))
            assert kept == framed
    assert result.notes.controls
    prompt = renderer.prompt(row.prompt())
    assert result.rendered[-1].ids[: len(prompt)].tolist() == prompt.tolist()
    answers = [message.content for message in row.messages if message.role == "assistant"]
    read = [reads(renderer, piece) for rendered in result.rendered for piece in pieces(rendered)]
    assert sorted(text.strip() for text in read) == sorted(wanted(made.family, answer).strip() for answer in answers)


def test_tokens_of_the_template_that_are_not_special_are_for_answers_only(model):
    made = model("bytes", "qwen2.5")
    renderer = Renderer(made.vocabulary, made.template)
    call = made.vocabulary.added["<tool_call>"]
    asked = proven(renderer, chat("a <tool_call> b", "c"))
    assert call not in asked.rendered[0].ids
    assert asked.notes.controls == ("<tool_call>",)
    answered = proven(renderer, chat("c", "a <tool_call> b"))
    assert call in answered.rendered[0].ids
    assert answered.notes.controls == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["qwen3", "gpt-oss"])
@COMMON
@given(data=st.data())
def test_reasoning_and_tool_calls_are_learnt_with_their_answer(model, kind, name, data):
    made = model(kind, name)
    row = data.draw(chats(made.family, texts()))
    renderer = Renderer(made.vocabulary, made.template)
    result = proven(renderer, row)
    read = "".join(made.vocabulary.decode(piece) for rendered in result.rendered for piece in pieces(rendered))
    place = 0
    for message in row.messages:
        if message.role != "assistant":
            continue
        for part in (message.reasoning, *(call["function"]["name"] for call in message.tool_calls), message.content):
            if part:
                place = read.index(part.strip(), place)


def test_scaffold_belongs_to_the_prompt_and_reasoning_to_the_answer(model):
    made = model("bytes", "qwen3")
    renderer = Renderer(made.vocabulary, made.template)
    decode = made.vocabulary.decode
    (plain,) = proven(renderer, chat("Hi", "Yes")).rendered
    assert decode(pieces(plain)[0]) == "Yes<|im_end|>"
    assert decode(renderer.prompt([Message("user", "Hi")])).endswith("assistant\n<think>\n\n</think>\n\n")
    thought = Example(origin=HERE, messages=(Message("user", "Hi"), Message("assistant", "Yes", reasoning="Hm")))
    (reasoned,) = proven(renderer, thought).rendered
    assert decode(pieces(reasoned)[0]) == "<think>\nHm\n</think>\n\nYes<|im_end|>"
    thinking = Renderer(made.vocabulary, made.template, thinks=True)
    assert decode(thinking.prompt([Message("user", "Hi")])).endswith("assistant\n")
    (mixed,) = proven(thinking, chat("Hi", "Yes")).rendered
    assert decode(pieces(mixed)[0]) == "<think>\n\n</think>\n\nYes<|im_end|>"


@pytest.mark.parametrize(("reasoning", "kept"), [("all", ["One", "Two"]), ("last", ["Two"]), ("none", [])])
def test_reasoning_option_chooses_the_turns(model, reasoning, kept):
    made = model("bytes", "qwen3")
    turns = (
        Message("user", "a"),
        Message("assistant", "b", reasoning="One"),
        Message("user", "c"),
        Message("assistant", "d", reasoning="Two"),
    )
    renderer = Renderer(made.vocabulary, made.template, reasoning=reasoning)
    result = proven(renderer, Example(origin=HERE, messages=turns))
    read = "".join(made.vocabulary.decode(piece) for rendered in result.rendered for piece in pieces(rendered))
    assert [word for word in ("One", "Two") if word in read] == kept


def test_a_template_that_rewrites_earlier_turns_gives_one_row_per_answer(model):
    made = model("bytes", "qwen3")
    result = proven(Renderer(made.vocabulary, made.template), chat("a", "b", "c", "d"))
    assert result.notes.expanded
    assert [len(pieces(rendered)) for rendered in result.rendered] == [1, 1]
    stable = model("bytes", "qwen2.5")
    joint = proven(Renderer(stable.vocabulary, stable.template), chat("a", "b", "c", "d"))
    assert not joint.notes.expanded
    assert [len(pieces(rendered)) for rendered in joint.rendered] == [2]


def test_inline_reasoning_is_taken_as_reasoning_where_the_template_knows_it(model):
    row = chat("Hi", "<think>\nHm\n</think>\n\nYes")
    for name, reasoning, read in [
        ("qwen3", "all", "<think>\nHm\n</think>\n\nYes<|im_end|>"),
        ("qwen3", "none", "Yes<|im_end|>"),
        ("chatml", "all", "<think>\nHm\n</think>\n\nYes<|im_end|>"),
    ]:
        made = model("bytes", name)
        (rendered,) = proven(Renderer(made.vocabulary, made.template, reasoning=reasoning), row).rendered
        assert made.vocabulary.decode(pieces(rendered)[0]) == read


def test_equal_turns_stay_equal_for_templates_that_compare_them(model):
    made = model("bytes", "mistral-v3")
    row = chat("yes", "no", "yes", "no", tools=(TOOL,))
    (rendered,) = proven(Renderer(made.vocabulary, made.template), row).rendered
    assert made.vocabulary.decode(rendered.ids.tolist()).count("[AVAILABLE_TOOLS]") == 2


def test_a_moved_system_turn_is_seen(model):
    made = model("bytes", "mistral-v3")
    turns = (Message("system", "S"), Message("user", "a"), Message("assistant", "b"))
    (result,) = Renderer(made.vocabulary, made.template).render_many([(0, Example(origin=HERE, messages=turns))])
    assert isinstance(result, Problem)
    assert result.code in ("T211", "T212")


def test_weights_of_messages_and_loss_on(model):
    made = model("bytes", "chatml")
    row = chat("a", "b", "c", "d")
    turns = (replace(row.messages[0], weight=0.5), replace(row.messages[1], weight=0.25), *row.messages[2:])
    row = replace(row, messages=turns)
    decode = made.vocabulary.decode

    def read(**options):
        (rendered,) = proven(Renderer(made.vocabulary, made.template, **options), row).rendered
        found = {}
        for weight in sorted(set(rendered.weight.tolist())):
            found[weight] = decode(rendered.ids[rendered.weight == weight].tolist())
        return found

    assert {key: value for key, value in read().items() if key} == {
        0.25: "b<|im_end|>",
        0.5: "a<|im_end|>",
        1.0: "d<|im_end|>",
    }
    assert {key: value for key, value in read(loss_on="last_answer").items() if key} == {1.0: "d<|im_end|>"}
    everything = read(loss_on="all")
    assert everything[0.25] == "b<|im_end|>"
    assert everything[0.5] == "a"
    assert 0.0 not in everything
    assert "<|im_start|>user" in everything[1.0]


def test_all_with_rewritten_turns_counts_each_token_once(model):
    made = model("bytes", "qwen3")
    result = proven(Renderer(made.vocabulary, made.template, loss_on="all"), chat("aaaa", "bbbb", "cccc", "dddd"))
    read = "".join(made.vocabulary.decode(piece) for rendered in result.rendered for piece in pieces(rendered))
    assert [read.count(word) for word in ("aaaa", "cccc", "dddd")] == [1, 1, 1]


def test_straddling_tokens_are_encoded_apart(model):
    made = model("bytes", "chatml")
    glued = ChatTemplate(
        "{% for m in messages %}{{ m.content ~ (eos_token if m.role == 'assistant' else '=') }}{% endfor %}",
        made.vocabulary.named,
    )
    renderer = Renderer(made.vocabulary, glued)
    for answer in ("hello", "= x", "== ", "\n\n", "é", "=="):
        row = chat("What =", answer)
        (rendered,) = proven(renderer, row).rendered
        prompt = renderer.prompt(row.prompt())
        assert (
            rendered.ids[: len(prompt)].tolist() == prompt.tolist() == made.vocabulary.encode("What ==", special=True)
        )
        assert made.vocabulary.decode(pieces(rendered)[0]) == answer + "<|im_end|>"


def test_a_space_before_the_answer_stays_with_the_answer(model):
    made = model("bytes", "chatml")
    source = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    renderer = Renderer(made.vocabulary, ChatTemplate(source, made.vocabulary.named))
    (rendered,) = proven(renderer, chat("Hi", "yes")).rendered
    assert made.vocabulary.decode(renderer.prompt([Message("user", "Hi")])).endswith("<|im_start|>assistant:")
    assert made.vocabulary.decode(pieces(rendered)[0]) == " yes<|im_end|>"
    assert renderer.text(renderer.completion("yes")) == "yes"


def test_a_forced_straddle(tmp_path):
    from tokenizers import Tokenizer, models

    from sartor.tokens.vocabulary import Vocabulary

    vocabulary = {"<e>": 0, "a": 1, "b": 2, "ab": 3, "q": 4}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.add_special_tokens(["<e>"])
    made = Vocabulary(tokenizer.to_str(), {"eos_token": "<e>"})
    source = "{% for m in messages %}{{ m.content ~ (eos_token if m.role == 'assistant' else 'a') }}{% endfor %}"
    renderer = Renderer(made, ChatTemplate(source, made.named))
    result = proven(renderer, chat("q", "b"))
    (rendered,) = result.rendered
    assert result.notes.apart == 1
    assert rendered.ids.tolist() == [4, 1, 2, 0]
    assert rendered.weight.tolist() == [0, 0, 1, 1]
    assert renderer.prompt([Message("user", "q")]).tolist() == [4, 1]
    two = proven(renderer, chat("q", "b", "q", "q")).rendered
    assert [rendered.ids.tolist() for rendered in two] == [[4, 1, 2, 0], [4, 3, 0, 4, 1, 4, 0]]
    assert [rendered.weight.tolist() for rendered in two] == [[0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1]]


def test_a_prompt_that_is_cut_in_another_way_alone_is_encoded_apart():
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    from sartor.tokens.vocabulary import Vocabulary

    tokenizer = Tokenizer(models.BPE(vocab={"<e>": 0, "q": 1, "qq": 2, "z": 3}, merges=[("q", "q")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("q+(?=z)|q"), "isolated")
    tokenizer.add_special_tokens(["<e>"])
    made = Vocabulary(tokenizer.to_str(), {"eos_token": "<e>"})
    assert made.encode("qqz", special=True) == [2, 3]
    source = "{% for m in messages %}{{ eos_token ~ ('qq' if m.role == 'assistant') ~ m.content }}{% endfor %}"
    source += "{{ eos_token ~ ('qq' if add_generation_prompt) }}"
    result = proven(Renderer(made, ChatTemplate(source, made.named)), chat("z", "z"))
    assert result.notes.apart == 1
    assert result.rendered[0].ids.tolist() == [0, 3, 0, 1, 1, 3, 0]


def test_ids_of_another_text_do_not_pass_the_proof(model):
    from sartor.tokens.controls import Controls
    from sartor.tokens.layout import Fault
    from sartor.tokens.weigh import Draft, Span, Weigher

    vocabulary = model("bytes", "chatml").vocabulary
    weigher = Weigher(Controls(vocabulary, tuple(vocabulary.special_tokens)))
    draft = Draft("<|im_end|>yes<|im_end|>", False, (Span(10, 23, 1.0, "<|im_end|>"),), None, ())
    right, wrong = vocabulary.encodings([draft.text, "<|im_end|>yep<|im_end|>"])
    assert weigher.weigh(draft, right, 0)[0][0].weight.tolist() == [0, *[1] * (len(right.ids) - 1)]
    with pytest.raises(Fault, match="do not read as the answer"):
        weigher.weigh(draft, wrong, 0)


@pytest.mark.parametrize("name", ["bytes", "fallback", "legacy"])
def test_plain_template_for_models_without_one(model, name):
    made = model(name, "llama3")
    renderer = Renderer(made.vocabulary, ChatTemplate(PLAIN, made.vocabulary.named))
    row = chat("Hi\nthere", "  Yes ", "More", "No")
    (rendered,) = proven(renderer, row).rendered
    assert [renderer.decode([piece])[0] for piece in pieces(rendered)] == ["  Yes <|eot_id|>", "No<|eot_id|>"]
    assert rendered.ids[0] == made.vocabulary.bos_id
    prompt = renderer.prompt(row.prompt())
    assert rendered.ids[: len(prompt)].tolist() == prompt.tolist()


def test_raw_text_is_learnt_whole_between_its_ends(model):
    made = model("bytes", "llama3")
    renderer = Renderer(made.vocabulary, made.template)
    (rendered,) = renderer.render(Text(origin=HERE, text="A day <|eot_id|> in May"), 0)
    ids = rendered.ids.tolist()
    assert (ids[0], ids[-1]) == (made.vocabulary.bos_id, made.vocabulary.eos_id)
    assert ids.count(made.vocabulary.special_tokens["<|eot_id|>"]) == 1
    assert made.vocabulary.decode(ids[1:-1]) == "A day <|eot_id|> in May"
    assert rendered.weight.tolist() == [1.0] * len(ids)


FAULTS = {
    "drops the system turn": (
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
        "T212",
        "system turn is dropped",
    ),
    "drops a user turn": (
        "{% for m in messages %}{% if m.role != 'user' or loop.last or loop.index > 2 %}<|im_start|>{{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}",
        "T215",
        "drops messages[1].content (user)",
    ),
    "doubles": (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% if m.role == 'user' %}{{ m.content }}{% endif %}"
        "{% endfor %}",
        "T215",
        "2 times",
    ),
    "truncates": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:40] }}<|im_end|>\n{% endfor %}",
        "T215",
        "and this is the end of it-]",
    ),
    "changes letters": (
        "{% for m in messages %}<|im_start|>{{ m.content | replace('sunny', 'rainy') }}<|im_end|>{% endfor %}",
        "T215",
        "[-sun-]{+rai+}",
    ),
    "never ends": ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "T210", "end-of-turn"),
    "refuses": ("{{ raise_exception('no system turns here') }}", "T217", "no system turns here"),
    "hides the answer": (
        "{% for m in messages %}<|im_start|>{{ '' if m.role == 'assistant' else m.content }}<|im_end|>{% endfor %}",
        "T215",
        "drops messages",
    ),
    "reorders": (
        "{% for m in messages | reverse %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
        "T215",
        "order",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_template_that_breaks_the_contract_is_refused(model, fault):
    source, code, words = FAULTS[fault]
    made = model("bytes", "chatml")
    turns = (
        Message("system", "Be kind to everybody."),
        Message("user", "What will the weather be like in Paris tomorrow and this is the end of it"),
        Message("assistant", "It is sunny in Paris, as far as anybody can tell from here and this is the end of it"),
    )
    (result,) = Renderer(made.vocabulary, ChatTemplate(source, made.vocabulary.named)).render_many(
        [(0, Example(origin=HERE, messages=turns))]
    )
    assert isinstance(result, Problem)
    assert (result.code, result.file, result.line) == (code, "chat.jsonl", 7)
    assert words in str(result)


def test_reasoning_that_the_template_drops_is_refused(model):
    made = model("bytes", "deepseek-r1")
    row = Example(origin=HERE, messages=(Message("user", "Hi"), Message("assistant", "Yes", reasoning="Hm")))
    (result,) = Renderer(made.vocabulary, made.template).render_many([(0, row)])
    assert isinstance(result, Problem)
    assert "drops messages[1].reasoning" in result.what
    proven(Renderer(made.vocabulary, made.template, reasoning="none"), row)
    inline = chat("Hi", "<think>\nHm\n</think>\n\nYes")
    (result,) = Renderer(made.vocabulary, made.template).render_many([(0, inline)])
    assert isinstance(result, Problem)
    assert "[-<think>" in str(result)


def test_tools_that_the_template_hides_are_refused(model):
    made = model("bytes", "chatml")
    (result,) = Renderer(made.vocabulary, made.template).render_many([(0, chat("Hi", "Yes", tools=(TOOL,)))])
    assert isinstance(result, Problem)
    assert (result.code, "get_weather" in result.what) == ("T212", True)


def test_a_row_without_anything_to_learn_is_refused(model):
    made = model("bytes", "chatml")
    row = chat("Hi", "Yes")
    silent = replace(row, messages=(row.messages[0], replace(row.messages[1], weight=0.0)))
    with pytest.raises(TokenError, match=r"chat.jsonl:7: error T201"):
        Renderer(made.vocabulary, made.template).render(silent, 0)


def test_a_control_token_that_the_tokenizer_does_not_see_is_refused():
    import json

    from unit.tokens.families import _trained

    from sartor.tokens.vocabulary import Vocabulary

    body = json.loads(_trained("legacy"))
    token = {"id": 900, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False, "special": True}
    body["added_tokens"].append(token | {"normalized": True})
    made = Vocabulary(json.dumps(body), {"eos_token": "<|end|>"})
    source = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    with pytest.raises(TokenError, match="T227"):
        Renderer(made, ChatTemplate(source, made.named))


def test_rows_without_a_single_answer_are_refused(model):
    from sartor.data.rows import Preference

    made = model("bytes", "chatml")
    turn = (Message("user", "a"),)
    (result,) = Renderer(made.vocabulary, made.template).render_many(
        [(0, Preference(origin=HERE, prompt=turn, chosen=turn, rejected=turn))]
    )
    assert isinstance(result, Problem)
    assert (result.code, result.line) == ("T201", 7)


def test_a_vocabulary_that_makes_control_tokens_of_text_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers

    from sartor.tokens.vocabulary import Vocabulary

    tokenizer = Tokenizer(models.WordLevel({"<u>": 0, "<e>": 1, "hi": 2, "you": 3}, unk_token="<u>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<u>", "<e>"])
    made = Vocabulary(tokenizer.to_str(), {"eos_token": "<e>", "unk_token": "<u>"})
    renderer = Renderer(
        made, ChatTemplate("{% for m in messages %}{{ m.content }} {{ eos_token }} {% endfor %}", made.named)
    )
    proven(renderer, chat("hi", "you"))
    (result,) = renderer.render_many([(0, chat("hi <e> hi", "you"))])
    assert isinstance(result, Problem)
    assert result.code == "T223"


@settings(max_examples=60)
@given(one=st.text("ab", max_size=6), other=st.text("ab", max_size=6))
@example("", "").via("both empty")
def test_difference_rebuilds_both_texts(one, other):
    import json
    import re

    from sartor.tokens.layout import difference

    shown = json.loads(difference(one, other, around=100))[3:-3]
    lost = re.sub(r"\{\+(.*?)\+\}", "", shown).replace("[-", "").replace("-]", "")
    added = re.sub(r"\[-(.*?)-\]", "", shown).replace("{+", "").replace("+}", "")
    assert (lost, added) == (one, other)


def test_fingerprint_follows_every_option(model):
    made = model("bytes", "chatml")
    options = [{}, {"loss_on": "all"}, {"reasoning": "none"}, {"thinks": True}]
    prints = {Renderer(made.vocabulary, made.template, **chosen).fingerprint for chosen in options}
    other = Renderer(made.vocabulary, ChatTemplate("x", made.vocabulary.named)).fingerprint
    assert len(prints | {other, Renderer(model("bytes", "qwen3").vocabulary, made.template).fingerprint}) == 6
