"""What each format makes of a record, turn by turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sartor import registry
from sartor.data.formats._columns import suggest
from sartor.data.formats._fields import BadRow
from sartor.data.rows import Example, Judged, Message, Origin, Preference, Row, Text


def parse(name: str, **record: Any) -> Any:
    return registry.component("format", name).parse(record, Origin("a.jsonl", 1))


def turns(row: Row) -> list[tuple[str, str]]:
    assert isinstance(row, Example)
    return [(message.role, message.content) for message in row.messages]


def refusal(name: str, **record: Any) -> tuple[str, str]:
    with pytest.raises(BadRow) as caught:
        parse(name, **record)
    return caught.value.code, caught.value.what


def test_alpaca() -> None:
    asked = parse("alpaca", instruction="Translate.", input="Good morning.", output="Bonjour.")
    assert turns(asked) == [("user", "Translate.\n\nGood morning."), ("assistant", "Bonjour.")]
    assert turns(parse("alpaca", instruction="Hi", input=None, output="x"))[0] == ("user", "Hi")
    assert turns(parse("alpaca", instruction="", input="Only this", output="x"))[0] == ("user", "Only this")
    told = parse("alpaca", instruction="c", output="d", system="s", history=[["a", "b"]])
    assert turns(told) == [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert refusal("alpaca", instruction="", input=" ", output="x")[0] == "D121"
    assert refusal("alpaca", instruction="c", output="d", history=[["a"]])[0] == "D111"


def test_dolly_and_question_answer() -> None:
    assert turns(parse("dolly", instruction="Who?", context="Emma", response="Jane"))[0] == ("user", "Who?\n\nEmma")
    assert turns(parse("question_answer", context="Emma", question="Who?", answer="Jane"))[0] == (
        "user",
        "Emma\n\nWho?",
    )


@pytest.mark.parametrize("name", ["dolly", "question_answer", "alpaca", "prompt_completion", "labeled", "kto"])
def test_an_empty_answer_is_refused(name: str) -> None:
    sample = registry.component("format", name).SAMPLES[0]
    answer = next(key for key in ("response", "answer", "output", "completion", "label") if key in sample)
    assert refusal(name, **sample | {answer: " \n"}) == ("D120", "empty answer")


def test_an_object_is_learnt_as_compact_json_in_the_files_order() -> None:
    row = parse("prompt_completion", prompt="Book", completion={"z": "ü", "a": [1, 2.5, None, True]})
    assert row.answer_text() == '{"z":"ü","a":[1,2.5,null,true]}'
    assert json.loads(row.answer_text()) == {"z": "ü", "a": [1, 2.5, None, True]}
    assert parse("question_answer", question="Which?", answer=["a"]).answer_text() == '["a"]'


def test_completions_of_messages() -> None:
    said = [{"role": "assistant", "content": "b"}]
    row = parse(
        "prompt_completion",
        prompt=[{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
        completion=said,
    )
    assert turns(row) == [("system", "s"), ("user", "a"), ("assistant", "b")]


def test_marked_text() -> None:
    row = parse("human_assistant", text="\n### Human: a\n\nb ### Assistant: c\n###Human:d###Assistant: e\n")
    assert turns(row) == [("user", "a\n\nb"), ("assistant", "c"), ("user", "d"), ("assistant", "e")]
    assert refusal("human_assistant", text="Intro ### Human: a ### Assistant: b")[0] == "D111"


def test_sharegpt_with_tools() -> None:
    said = [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": "{}"}]'},
        {"from": "observation", "value": "{}"},
        {"from": "gpt", "value": "b"},
    ]
    row = parse("sharegpt", conversations=said, system="s", tools='[{"name": "f"}]')
    assert [message.role for message in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert [call["function"] for call in row.messages[2].tool_calls] == [
        {"name": "f", "arguments": {"x": 1}},
        {"name": "g", "arguments": {}},
    ]
    assert row.tools == ({"type": "function", "function": {"name": "f"}},)


def test_messages_keep_weight_reasoning_and_calls() -> None:
    said: list[dict[str, Any]] = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "train": False},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "<think>e</think>\n\nf", "weight": 2},
        {"role": "user", "content": "g"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "h",
            "tool_calls": [{"id": "1", "function": {"name": "k", "arguments": '{"x": 1}'}}],
        },
        {"role": "tool", "content": "i", "tool_call_id": "1", "name": "k"},
        {"role": "assistant", "content": "j"},
    ]
    row = parse("messages", messages=said, tools=[{"type": "function", "function": {"name": "k"}}])
    assert row.messages[:2] == (Message("system", "s"), Message("user", "ab"))
    assert [message.loss_weight for message in row.messages] == [0, 0, 0, 0, 2, 0, 1, 0, 1]
    assert row.messages[4].content == "<think>e</think>\n\nf"
    call = {"type": "function", "function": {"name": "k", "arguments": {"x": 1}}, "id": "1"}
    assert row.messages[6] == Message("assistant", "", reasoning="h", tool_calls=(call,))
    assert row.messages[7] == Message("tool", "i", tool_call_id="1", name="k")


def test_messages_refuse_what_they_cannot_mean() -> None:
    def said(**turn: Any) -> tuple[str, str]:
        return refusal(
            "messages", messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"} | turn]
        )

    assert said(content=7) == ("D111", "messages[1].content is a number (text needed)")
    assert said(content=None) == ("D111", "messages[1].content is null")
    assert said(train="yes")[1] == "messages[1].train is text (true or false needed)"
    assert said(train=False, weight=1)[1] == "messages[1] has weight 1 and train false"
    assert said(tool_calls={"name": "f"})[1] == "messages[1].tool_calls is an object (a list needed)"
    assert said(tool_calls=[{"function": {}}])[1] == "messages[1].tool_calls[0] has no function name"
    assert said(role="Assistent")[1] == 'unknown role "Assistent"; did you mean "assistant"?'
    assert said(content=[{"type": "input_audio"}])[0] == "D144"
    assert refusal("messages", messages=["a"])[1] == "messages[0] is text (an object with role and content needed)"
    assert (
        refusal("messages", messages=[{"role": "user", "contnet": "a"}])[1]
        == 'messages[0].content is missing; is it "contnet"?'
    )
    assert refusal("messages", messages=[{"role": "assistant", "content": "a"}], tools=3)[0] == "D111"


@pytest.mark.parametrize(
    ("label", "text"), [("a b ", "a b"), (3, "3"), (0, "0"), (2.5, "2.5"), (True, "true"), (False, "false")]
)
def test_labels_become_text(label: Any, text: str) -> None:
    row = parse("labeled", text="x", label=label)
    assert (row.label, row.stratum, row.answer_text(), row.prompt_text()) == (text, text, text, "x")


def test_raw_text() -> None:
    assert parse("text", text=" a\n") == Text(origin=Origin("a.jsonl", 1), text=" a\n")
    detects = registry.component("format", "text").detects
    assert not detects({"text": "a", "json": {}})
    assert detects({"text": None, "url": "b"})


def test_preference_in_its_usual_shapes() -> None:
    expected = Preference(
        origin=Origin("a.jsonl", 1),
        prompt=(Message("user", "a"),),
        chosen=(Message("assistant", "b"),),
        rejected=(Message("assistant", "c"),),
    )
    user, good, bad = (
        {"role": role, "content": said} for role, said in (("user", "a"), ("assistant", "b"), ("assistant", "c"))
    )
    assert parse("preference", prompt="a", chosen="b", rejected="c") == expected
    assert parse("preference", prompt=[user], chosen=[good], rejected=[bad]) == expected
    assert parse("preference", chosen=[user, good], rejected=[user, bad]) == expected
    assert parse("preference", prompt="a", chosen=[user, good], rejected=[user, bad]) == expected
    hh = "\n\nHuman: a\n\nAssistant: "
    assert parse("preference", chosen=hh + "b", rejected=hh + "c") == expected
    assert parse("preference", prompt=hh, chosen="b", rejected="c") == expected


def test_preference_splits_where_the_answers_part() -> None:
    chosen = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"
    row = parse("preference", chosen=chosen, rejected=chosen[:-1] + "e")
    assert (len(row.prompt), row.chosen[0].content, row.rejected[0].content) == (3, "d", "e")
    row = parse("preference", chosen=chosen, rejected="\n\nHuman: a\n\nAssistant: x")
    assert (len(row.prompt), len(row.chosen), len(row.rejected)) == (1, 3, 1)
    row = parse("preference", chosen=chosen, rejected="\n\nHuman: a\n\nAssistant: b")
    assert (len(row.prompt), len(row.chosen), len(row.rejected)) == (1, 3, 1)


def test_preference_refusals() -> None:
    hh = "\n\nHuman: a\n\nAssistant: "
    assert refusal("preference", chosen=hh + "b", rejected=hh + " b")[0] == "D170"
    assert refusal("preference", chosen=hh, rejected=hh + "b")[0] == "D120"
    assert refusal("preference", chosen=hh + "b", rejected="\n\nHuman: z\n\nAssistant: b")[0] == "D111"
    assert refusal("preference", chosen="", rejected="b")[0] == "D120"
    assert refusal("preference", prompt="a", chosen=None, rejected="b") == ("D111", '"chosen" is null (text needed)')


@pytest.mark.parametrize(
    ("label", "liked"), [(True, True), (False, False), (1, True), (0, False), ("True", True), ("0", False)]
)
def test_kto(label: Any, liked: bool) -> None:
    row = parse("kto", prompt="a", completion="b", label=label)
    assert row == Judged(
        origin=Origin("a.jsonl", 1),
        prompt=(Message("user", "a"),),
        completion=(Message("assistant", "b"),),
        liked=liked,
    )


@pytest.mark.parametrize("label", ["good", 2, 0.5, None, []])
def test_kto_refuses_other_labels(label: Any) -> None:
    assert refusal("kto", prompt="a", completion="b", label=label)[0] == "D111"


def test_kto_keeps_earlier_answers_in_the_prompt() -> None:
    earlier = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    row = parse("kto", prompt=earlier, completion="d", label=True)
    assert (len(row.prompt), row.completion) == (3, (Message("assistant", "d"),))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"question": "a", "reply": "b"}, {"prompt": "question", "completion": "reply"}),
        ({"id": "1", "text": "a", "json": {}}, {"prompt": "text", "completion": "json"}),
        ({"utterance": "a", "intent": "b", "start": "1"}, {"text": "utterance", "label": "intent"}),
        ({"dialog": [{"role": "user"}]}, {"messages": "dialog"}),
        ({"frage": "a", "antwort": "b"}, {"prompt": "frage", "completion": "antwort"}),
        ({"inhalt": "a", "n": 1}, {"text": "inhalt"}),
        ({"n": 1}, {}),
    ],
)
def test_a_map_is_suggested(record: dict[str, Any], expected: dict[str, str]) -> None:
    assert suggest(record) == expected
