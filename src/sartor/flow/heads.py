"""What stands in the place of words on a recipe's model: what its head learns of the rows, and how the model reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor import registry
from sartor.advise import matrix
from sartor.advise.matrix import obstacle
from sartor.errors import RecipeError
from sartor.models.heads import HeadSpec
from sartor.models.kinds import TOLD, kind_of
from sartor.tokens.inputs import Inputs
from sartor.tokens.symbols import Symbols
from sartor.tokens.targets import Targets

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset
    from sartor.data.split import Splits
    from sartor.flow.prepare import Prepared
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Traits
    from sartor.recipe.load import Loaded
    from sartor.tokens.vocabulary import Vocabulary


def inputs_for(base: ModelFolder, vocabulary: Vocabulary, targets: Targets | None = None) -> Inputs:
    """How this model reads whole rows."""
    frame = vocabulary.text_frame if kind_of(base) == "causal" else vocabulary.frame
    return Inputs(vocabulary, frame, targets)


def targets_of(traits: Traits, dataset: Dataset, splits: Splits) -> Targets | None:
    """What the head of an objective learns of the training rows; None where it learns words or answers.

    Raises DataError T230, T231.
    """
    if traits.reads != "input" or traits.head == "words" or traits.head == "reward":
        return None
    return Targets.learn(traits.head, (dataset[int(index)] for index in splits.indices("train")))


def head_of(traits: Traits, targets: Targets | None) -> HeadSpec | None:
    """The head that an objective trains."""
    if traits.head == "words":
        return None
    if targets is None:
        return HeadSpec("reward")
    return HeadSpec(targets.kind, targets.names, targets.center, targets.spread)


def require_model(loaded: Loaded, base: ModelFolder, vocabulary: Vocabulary, objective: str, rows: str) -> None:
    """Raises RecipeError R106 where method, objective and kind of model do not go together, or the vocabulary lacks something."""
    traits: Traits = registry.component("objective", objective).TRAITS
    model = kind_of(base)
    method = "full" if loaded.recipe.method == "auto" else loaded.recipe.method.name
    what = obstacle(method, objective, model)
    if what is not None:
        fitting = [
            name
            for name in registry.names("objective")
            if rows in matrix.traits_of(name).rows and obstacle(method, name, model) is None
        ]
        other = "another base" if model not in traits.models else "another method"
        fix = f"train.objective: {' or '.join(fitting)}, or {other}" if fitting else other
        key = "train.objective" if model not in traits.models else "method"
        raise RecipeError(loaded.problem("R106", key, what, fix=fix))
    if model != "vision" and loaded.recipe.train.vision == "trained":
        what = f"the base is {TOLD[model]}: it has no part that looks at pixels"
        raise RecipeError(loaded.problem("R106", "train.vision", what, fix="leave it out, or a vision-text base"))
    missing = Symbols.of(vocabulary).missing(traits.symbols)
    if missing is not None:
        what = f"{objective} needs {missing}, which the vocabulary of the base does not have"
        raise RecipeError(loaded.problem("R106", "train.objective", what, fix="a base that was trained so"))
    if (traits.head != "words" or traits.together or traits.symbols) and loaded.recipe.train.curriculum.by == "loss":
        what = f"the base has no loss of its own on rows from which {objective} learns"
        fix = "train.curriculum: length, or a column of numbers"
        raise RecipeError(loaded.problem("R106", "train.curriculum", what, fix=fix))


def require_words(prepared: Prepared, command: str) -> None:
    """Raises RecipeError R106 where a command that measures answers in words is given a recipe that learns something else."""
    objective = prepared.settings.objective.name
    traits: Traits = registry.component("objective", objective).TRAITS
    if traits.reads == "answers" and traits.head == "words" and "causal" in traits.models:
        return
    what = f"{command} measures answers in words, which {objective} does not learn"
    fix = "train.objective: sft, or pretrain for raw text"
    raise RecipeError(prepared.loaded.problem("R106", "train.objective", what, fix=fix))
