"""A recipe whose `train` is a list, taken apart: every stage becomes a recipe of its own, checked like any other.

    train:
      - {objective: sft}
      - {objective: reward, data: rankings.jsonl}
      - {objective: ppo, prompts: prompts.jsonl, steps: 300}

A stage takes the recipe's `data` and `method` unless it has its own; `prompts` is `data` under the name that fits a stage that
writes its answers itself. What the verdict is about, `goal` and `evaluate`, belongs to the recipe's data.
"""

from __future__ import annotations

from dataclasses import dataclass

from sartor.errors import Problem
from sartor.recipe.node import Node, Step

OWN = {"data": "data", "prompts": "data", "method": "method"}
"""What a stage may bring along, and the key of a recipe it stands for."""


@dataclass(frozen=True, slots=True)
class Part:
    """One stage as a recipe."""

    tree: Node
    number: int | None
    """Its place in the list; None: it is the recipe itself."""
    own: frozenset[str] = frozenset()
    """Keys of a recipe that this stage has brought along."""


def take_apart(root: Node) -> tuple[list[Part], list[Problem]]:
    """The stages in order, or the whole recipe where `train` is no list, and what is wrong with the list itself.

    Where every stage has data of its own, the recipe without a stage comes last.
    """
    train = root.child("train")
    if train is None or not isinstance(train.value, list):
        return [Part(root, None)], []
    if not train.value:
        return [], [train.head.problem("R103", "train needs at least one stage", fix="train: [{objective: sft}]")]
    parts: list[Part] = []
    problems: list[Problem] = []
    for number, stage in enumerate(train.value):
        if isinstance(stage.value, str):
            stage = Node({"objective": Node(stage.value, stage.place)}, stage.place)
        if not isinstance(stage.value, dict):
            what = f"train[{number}] must be a mapping, such as {{objective: sft}}"
            problems.append(stage.place.problem("R103", what))
            continue
        if "data" in stage.value and "prompts" in stage.value:
            what = f"train[{number}] has both data and prompts, which are the same"
            problems.append(stage.value["prompts"].head.problem("R106", what, fix="keep one of them"))
        parts.append(_part(root, number, stage))
    if not problems and all("data" in part.own for part in parts):
        parts.append(Part(_without(root, "train"), None))
    return parts, problems


def _part(root: Node, number: int, stage: Node) -> Part:
    brought = {OWN[key]: copied(node) for key, node in stage.value.items() if key in OWN}
    rest = {key: copied(node) for key, node in stage.value.items() if key not in OWN}
    tree = _without(root, "train", *brought, *(("goal",) if "data" in brought else ()))
    tree.value |= {**brought, "train": Node(rest, stage.place, stage.key)}
    return Part(tree, number, frozenset(brought))


def _without(root: Node, *keys: str) -> Node:
    kept = {key: copied(node) for key, node in root.value.items() if key not in keys}
    return Node(kept, root.place, root.key)


def copied(node: Node) -> Node:
    """A tree that can be changed without changing this one."""
    if isinstance(node.value, dict):
        return Node({key: copied(child) for key, child in node.value.items()}, node.place, node.key)
    if isinstance(node.value, list):
        return Node([copied(child) for child in node.value], node.place, node.key)
    return Node(node.value, node.place, node.key)


def inside(path: tuple[Step, ...], part: Part, count: int) -> tuple[Step, ...] | None:
    """Where a key of the whole recipe, which has `count` stages in a list, lies in a part; None where in another one.

    `train[1].epochs` is `train.epochs` of stage 1, `train[1].data` its data; `train.epochs` is that of every stage.
    """
    if path[0] == "train" and len(path) > 1 and isinstance(path[1], int) and path[1] < count:
        if path[1] != part.number:
            return None
        rest = path[2:]
        return (OWN[str(rest[0])], *rest[1:]) if rest and rest[0] in OWN else ("train", *rest)
    foreign = path[0] in part.own or (path[0] == "goal" and "data" in part.own)
    return None if foreign else path
