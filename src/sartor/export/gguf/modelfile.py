"""An Ollama Modelfile: where the weights are, how turns are written in Ollama's own template language, where answers stop.

The frames of the turns are found by rendering conversations with markers and proven on others; where they do not fit, no
template is written, and Ollama takes what it knows itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sartor.tokens.template import Refused

if TYPE_CHECKING:
    from sartor.tokens.render import Renderer

MARK = "\ue011"
ROLES = ("system", "user", "assistant")
SAMPLES: tuple[tuple[str, ...], ...] = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)


def modelfile(renderer: Renderer, weights: str, *, context: int) -> str:
    """The text of the file."""
    lines = [f"FROM ./{weights}", f"PARAMETER num_ctx {context}"]
    stops = [_escaped(renderer.vocabulary.token(token)) for token in sorted(renderer.stop_ids)]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    frames = _frames(renderer)
    if frames is None:
        lines.append(
            "# The turns of this template do not stand in fixed frames; Ollama takes the template of the weights."
        )
    else:
        lines.append(f'TEMPLATE """{_go(frames)}"""')
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _frames(renderer: Renderer) -> dict[str, tuple[str, str]] | None:
    """Role -> text before and after its content, "end" -> what stands before an answer; None where that is not all."""
    bos = renderer.vocabulary.named.get("bos_token", "")

    def render(roles: Sequence[str]) -> str:
        turns = [{"role": role, "content": f"{MARK}{at}{MARK}"} for at, role in enumerate(roles)]
        text = renderer.template.render(turns, generation=True)
        return text.removeprefix(bos) if bos else text

    try:
        longest = render(SAMPLES[-1])
        found: dict[str, tuple[str, str]] = {}
        parts = longest.split(MARK)[0::2]
        generation = _tail(renderer)
        if not parts or generation is None or not longest.endswith(generation):
            return None
        after = _after(renderer)
        if after is None:
            return None
        for at, role in enumerate(SAMPLES[-1][:3]):
            before = parts[at] if at == 0 else parts[at].removeprefix(after[SAMPLES[-1][at - 1]])
            found[role] = (before, after[role])
        found["end"] = (generation, "")
        return found if all(render(roles) == _written(found, roles) for roles in SAMPLES) else None
    except Refused:
        return None


def _tail(renderer: Renderer) -> str | None:
    """What is added so that the model answers."""
    turns = [{"role": "user", "content": MARK}]
    without, whole = (renderer.template.render(turns, generation=flag) for flag in (False, True))
    return whole.removeprefix(without) if whole.startswith(without) and whole != without else None


def _after(renderer: Renderer) -> dict[str, str] | None:
    """Role -> what stands after its content."""
    found = {}
    for role, turns in (
        ("user", [("user", MARK)]),
        ("assistant", [("user", "."), ("assistant", MARK)]),
    ):
        text = renderer.template.render([{"role": r, "content": c} for r, c in turns], generation=False)
        found[role] = text.rpartition(MARK)[2]
    system = renderer.template.render(
        [{"role": "system", "content": MARK}, {"role": "user", "content": "."}], generation=False
    )
    alone = renderer.template.render([{"role": "user", "content": "."}], generation=False)
    bos = renderer.vocabulary.named.get("bos_token", "")
    behind, turn = system.rpartition(MARK)[2], alone.removeprefix(bos) if bos else alone
    if not behind.endswith(turn):
        return None
    return {**found, "system": behind.removesuffix(turn)}


def _written(frames: Mapping[str, tuple[str, str]], roles: Sequence[str]) -> str:
    turns = [f"{frames[role][0]}{MARK}{at}{MARK}{frames[role][1]}" for at, role in enumerate(roles)]
    return "".join(turns) + frames["end"][0]


def _go(frames: Mapping[str, tuple[str, str]]) -> str:
    """The frames in Go's template language."""
    branches = []
    for at, role in enumerate(ROLES):
        before, after = (_quoted(part) for part in frames[role])
        word = "if" if at == 0 else "else if"
        branches.append(f'{{{{ {word} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}')
    return "{{ range .Messages }}" + "".join(branches) + "{{ end }}{{ end }}" + _quoted(frames["end"][0])


def _quoted(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}').replace('"""', '{{ "\\"\\"\\"" }}')
