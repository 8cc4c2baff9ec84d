"""Sartor fits language models to measure: a file of examples in, a model that is proven better out.

    sartor.Recipe.load("recipe.yaml").run()        the whole recipe
    sartor.load("runs/latest").chat("Hello")       a model, opened for use

Every building block is a plain function as well. Names are imported when they are first asked for, so `import sartor` costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset as Dataset
    from sartor.data.findings import Findings as Findings
    from sartor.data.reading import read as read
    from sartor.data.reading import recognise as recognise
    from sartor.data.split import split as split
    from sartor.engine.loop import fit as fit
    from sartor.errors import SartorError as SartorError
    from sartor.evaluate.compare import compare as compare
    from sartor.evaluate.verdict import judge as judge
    from sartor.flow.model import Model as Model
    from sartor.flow.model import load as load
    from sartor.flow.recipe import Recipe as Recipe
    from sartor.metrics._own import metric as metric
    from sartor.tokens.batch import Batch as Batch
    from sartor.tokens.batch import Rendered as Rendered
    from sartor.tokens.batch import collate as collate
    from sartor.tokens.contract import supervise as supervise
    from sartor.tokens.pack import pack as pack
    from sartor.tokens.render import Renderer as Renderer
    from sartor.tokens.source import TokenSource as TokenSource
    from sartor.tokens.store import TokenSet as TokenSet
    from sartor.tokens.template import ChatTemplate as ChatTemplate
    from sartor.tokens.vocabulary import Vocabulary as Vocabulary

_HOMES = {
    "Batch": "sartor.tokens.batch",
    "ChatTemplate": "sartor.tokens.template",
    "Dataset": "sartor.data.dataset",
    "Findings": "sartor.data.findings",
    "Model": "sartor.flow.model",
    "Recipe": "sartor.flow.recipe",
    "Rendered": "sartor.tokens.batch",
    "Renderer": "sartor.tokens.render",
    "SartorError": "sartor.errors",
    "TokenSet": "sartor.tokens.store",
    "TokenSource": "sartor.tokens.source",
    "Vocabulary": "sartor.tokens.vocabulary",
    "collate": "sartor.tokens.batch",
    "compare": "sartor.evaluate.compare",
    "fit": "sartor.engine.loop",
    "judge": "sartor.evaluate.verdict",
    "load": "sartor.flow.model",
    "metric": "sartor.metrics._own",
    "pack": "sartor.tokens.pack",
    "read": "sartor.data.reading",
    "recognise": "sartor.data.reading",
    "split": "sartor.data.split",
    "supervise": "sartor.tokens.contract",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sartor' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
