"""Random conversations that a family of models can take."""

from __future__ import annotations

from hypothesis import strategies as st

from sartor.data.rows import Example, Message, Origin

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Looks up the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WORDS = [
    "yes",
    "no",
    "the weather",
    "Paris?",
    "größer",
    "10 €",
    "naïve 🙂 👍🏽",
    "日本語",
    "x\ny",
    'a "quote"',
    "{% raw %}",
    "</s",
    "é",
    "<",
    ">",
    "I",
    "'ll",
]


def texts(*, unicode: bool = True, edges: bool = False):
    """Texts with letters, whitespace and, with `edges`, outer whitespace."""
    words = WORDS if unicode else [word for word in WORDS if word.isascii()]
    inner = st.lists(st.one_of(st.sampled_from(words), st.text("abcdef ,.\n", max_size=6)), min_size=1, max_size=5)
    body = inner.map(" ".join).map(str.strip).filter(bool)
    if not edges:
        return body
    space = st.sampled_from(["", "", " ", "\n", "  \n"])
    return st.tuples(space, body, space).map("".join)


@st.composite
def chats(draw, family, text):
    """An Example with one to three exchanges, tools and reasoning where the family has them."""
    messages: list[Message] = []
    if family.system and draw(st.booleans()):
        messages.append(Message("system", draw(text)))
    tools = (TOOL,) if family.tools and draw(st.booleans()) else ()
    thinks = family.reasoning and draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(text)))
        thought = draw(text) if thinks and draw(st.booleans()) else None
        if tools and draw(st.booleans()):
            call = {
                "type": "function",
                "id": "abcdefghi",
                "function": {"name": "get_weather", "arguments": {"city": draw(text)}},
            }
            messages.append(Message("assistant", "", tool_calls=(call,), reasoning=thought))
            messages.append(Message("tool", draw(text), tool_call_id="abcdefghi", name="get_weather"))
        messages.append(Message("assistant", draw(text), reasoning=thought))
    return Example(origin=Origin("chat.jsonl", 7), messages=tuple(messages), tools=tools)
