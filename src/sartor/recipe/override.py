"""`key=value` from the command line, put into the recipe as if it had been written there: `method.lora.rank=8`."""

from __future__ import annotations

from sartor.errors import Problem, RecipeError
from sartor.recipe import shape
from sartor.recipe.check import unknown_key, widen
from sartor.recipe.node import Node, Place, Step, compose, lift, show
from sartor.recipe.stages import Part, inside

FORM = "write  key=value, e.g. train.epochs=3 or data.sources[0].path=rows.jsonl"


def apply(root: Node, overrides: tuple[str, ...], part: Part, count: int) -> list[Problem]:
    """Change the widened tree of a part in place, in the order given; the problems of those that could not be applied.

    `count`: how many stages the recipe lists. The part takes what concerns it.
    """
    problems: list[Problem] = []
    for number, text in enumerate(overrides, 1):
        try:
            _apply(root, text, Place(f"override {number}: {show(text)}"), part, count)
        except RecipeError as error:
            problems += error.problems
    return problems


def _apply(root: Node, text: str, place: Place, part: Part, count: int) -> None:
    key, equals, written = text.partition("=")
    path = shape.steps(key.strip())
    if not equals or path is None:
        raise RecipeError(place.problem("R115", "this is no override", fix=FORM))
    path = inside(path, part, count)
    if path is None:
        return
    if count and path[0] == "train" and len(path) > 1 and isinstance(path[1], int):
        what = f"train has {count} stages; [{path[1]}] does not exist"
        raise RecipeError(place.problem("R103", what, fix="stages count from [0]"))
    for end in range(1, len(path) + 1):
        if shape.at(path[:end]) is None:
            raise RecipeError(_unknown(path[:end], place))
    _put(root, path, _value(written, place), place)


def _unknown(path: tuple[Step, ...], place: Place) -> Problem:
    if isinstance(path[-1], int):
        return place.problem("R103", f"{shape.dotted(path[:-1])} is no list")
    return unknown_key(path, place)


def _value(written: str, place: Place) -> Node:
    """The value as YAML, every part of it at the place of the override."""
    try:
        node, problems = compose(written, place.file)
    except RecipeError as error:
        node, problems = None, list(error.problems)
    if problems:
        raise RecipeError(*(place.problem(problem.code, problem.what, fix=problem.fix) for problem in problems))
    return lift(node.plain() if node else None, place)


def _put(root: Node, path: tuple[Step, ...], value: Node, place: Place) -> None:
    node = root
    for index, step in enumerate(path[:-1]):
        if not _holds(node, path[: index + 1], place):
            return
        child = node.child(step)
        if child is None or child.value is None or child.value == "auto":
            child = Node([] if isinstance(path[index + 1], int) else {}, place)
            _set(node, step, child)
        node = child
    if _holds(node, path, place):
        _set(node, path[-1], widen(value, shape.at(path)))


def _holds(node: Node, path: tuple[Step, ...], place: Place) -> bool:
    """Whether the step can be taken; a tree of the wrong form is left for the check to name."""
    step, annotation = path[-1], shape.at(path[:-1])
    if isinstance(step, int):
        if isinstance(node.value, list) and step > len(node.value):
            what = f"{shape.dotted(path[:-1])} has {len(node.value)} entries; [{step}] does not exist"
            raise RecipeError(place.problem("R103", what, fix="entries count from [0]"))
        return isinstance(node.value, list)
    if not isinstance(node.value, dict):
        return False
    kind = next((form.component.kind for form in shape.forms(annotation) if form.component), None)
    if kind and node.value and step not in node.value:
        section, other = shape.dotted(path[:-1]), next(iter(node.value))
        what = f"the {kind} is {show(other)}, so {section}.{step} would not act"
        raise RecipeError(place.problem("R106", what, fix=f"put {section}={step} before it"))
    return True


def _set(node: Node, step: Step, child: Node) -> None:
    if isinstance(step, int):
        node.value[step : step + 1] = [child]
    else:
        node.value[step] = child
