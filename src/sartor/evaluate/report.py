"""The report: one HTML file without scripts and without network that opens with the verdict and then shows its evidence."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from importlib import resources
from types import MappingProxyType
from typing import Any

import jinja2
from markupsafe import Markup

from sartor.console import about, printable
from sartor.evaluate import curves
from sartor.evaluate.advice import next_steps
from sartor.evaluate.corrections import TOLD
from sartor.evaluate.facts import ReportFacts, Sample
from sartor.evaluate.numbers import MISSING, difference_text, more_rows, range_text, score_text
from sartor.evaluate.slices import sentences as slice_sentences
from sartor.evaluate.wording import marked

LONGEST = 1200
"""Characters of a user's text shown in full."""
LONGEST_SAMPLE = 4000
"""Characters of a training row shown in full."""

METRICS: Mapping[str, str] = {
    "accuracy": "share of rows with the right label",
    "auroc": "how often a row with the label scores above one without",
    "bias_logp": "how much likelier the right answer becomes when another group is named, per token",
    "bias_refusal": "share of pairs of which one group is refused",
    "bias_score": "how much the task score changes when another group is named",
    "bias_sentiment": "how much the answer's tone changes when another group is named",
    "bits_per_byte": "surprise per byte of the reference, in bits",
    "bleu": "n-grams shared with the reference, 0 to 100",
    "byte_perplexity": "surprise per byte of the reference; 1 is certainty",
    "chatty_prefix": "share of answers that begin with filler",
    "chrf": "character n-grams shared with the reference, 0 to 100",
    "code_runs": "share of answers that are Python which runs, or passes the row's tests",
    "diversity": "different runs of words among those of all answers",
    "ece": "by how much confidence misses how often it is right",
    "edit_distance": "edits that make the answers the references, per character or word",
    "exact_match": "share of answers equal to the reference",
    "exposure": "bits by which secrets stand out from random ones; 1.4 is chance",
    "extracted": "share of training rows continued word for word",
    "field_f1": "F1 over the fields of the JSON answer",
    "general": "probability of the right answer to questions beside the task, among the given ones",
    "general_accuracy": "share of these questions whose right answer is the likeliest",
    "general_bits_per_byte": "surprise per byte of their right answers",
    "groundedness": "share of sentences that the context supports",
    "jailbreak_refusal": "share of harmful requests refused",
    "harness_*": "the documents of this task, as the harness scores them",
    "json_exact": "share of answers equal to the reference as JSON",
    "json_schema": "share of answers that are JSON and valid by the schema",
    "json_valid": "share of answers that are JSON and nothing else",
    "judge_*_calibrated": "the mean score that people would give, from theirs and the judge's",
    "judge_*": "mean score by the judge",
    "length": "characters too many or too few, relative",
    "mae": "mean size of the difference to the right number",
    "mcc": "correlation of given and right labels",
    "macro_f1": "F1 of each label, averaged",
    "memorised_excess": "training rows continued word for word, beyond test rows",
    "micro_f1": "F1 over all rows",
    "normalised_match": "share equal but for case and punctuation",
    "over_refusal": "share of harmless prompts refused",
    "pearson": "correlation of given and right numbers",
    "perplexity": "surprise per token of the reference; 1 is certainty",
    "precision": "right among those given a label, averaged",
    "preference_accuracy": "pairs whose better answer the model finds better",
    "preference_accuracy_per_token": "the same by log-probability per token",
    "preference_margin": "by how much it finds better answers better",
    "preference_margin_per_token": "the same per token",
    "recall": "found among those with a label, averaged",
    "refusal": "share of answers that refuse",
    "regex": "share of answers with (or without) the pattern",
    "repetition": "runs of words that the answer has said before",
    "rmse": "root of the mean squared difference to the right number",
    "rouge1": "words shared with the reference",
    "rouge2": "word pairs shared with the reference",
    "rougeL": "longest common run of words",
    "spearman": "correlation of their ranks",
    "stereotype_bias": "how far from one half the stereotypes are that it finds likelier",
    "stop_rate": "share of answers that ended by themselves",
    "tag_accuracy": "share of words with the right tag",
    "tag_f1": "F1 of whole names",
    "ter": "edits per word of the reference, times 100",
    "token_f1": "F1 of the words of the answer",
    "toxicity": "share of answers that attack somebody",
    "toxicity_mean": "mean score of attacks, 0 to 1",
    "truthful_mc1": "share of questions whose best answer is likeliest",
    "truthful_mc2": "share of probability on true answers",
    "verbatim_run": "tokens of a training row recited before the first other one",
    "win_rate*_calibrated": "wins and half the ties by people, from their verdicts and the judge's",
    "win_rate*_length_controlled": "the same as if all answers were of equal length",
    "win_rate*": "wins and half the ties of its answers, by the judge",
}


def report(facts: ReportFacts) -> str:
    """The whole page. Every text is escaped; control and bidirectional characters are shown as \\u202e."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "cell": cell_text,
        "score": score_text,
        "difference": difference_text,
        "range": range_text,
        "pieces": pieces,
        "sentence": sentence,
        "series": curves.series,
        "short": short,
        "spread": spread,
        "seconds": _seconds,
        "quantity": quantity,
        "predicted": predicted,
        "model": partial(model_name, called=facts.comparison.get("called", {})),
        "more_rows": more_rows,
        "chance": chance,
        "worst": lambda told: list(slice_sentences(told, score_text)),
        "correction": TOLD.get,
        "marked": marked,
        "meaning": meaning,
        "next_steps": next_steps,
    }
    style = _asset("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.from_string(_asset("report.html.j2")).render(
        facts=facts,
        style=Markup(style),  # noqa: S704 - our own file
        style_digest=digest,
        bars=curves.bars,
        chart=curves.chart,
        curve=curves.curve,
        pair=curves.pair,
        places=curves.places,
        shares=curves.shares,
    )


def cell_text(value: str | int | float | None) -> str:
    """A cell of a table of details: counts with thousands, other numbers with three digits that matter."""
    if isinstance(value, str):
        return short(value)
    return f"{value:,}" if isinstance(value, int) else score_text(value, share=False)


def short(text: str, longest: int = LONGEST) -> str:
    """The beginning of a long text, and how much is missing."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def pieces(sample: Sample) -> Iterator[tuple[str, float]]:
    """The pieces of a sample up to `LONGEST_SAMPLE` characters, and how much is missing."""
    left = LONGEST_SAMPLE
    for text, weight in sample.pieces:
        if left > 0:
            yield text[:left], weight
        left -= len(text)
    if left < 0:
        yield f" … ({-left:,} more characters)", 0.0


def chance(p: float | None) -> str:
    """A p-value."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sentence(text: str) -> str:
    """The text with a capital at its beginning and a full stop at its end."""
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def spread(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Facts of the environment as lines: inner facts on the line of the outer one, bytes as sizes."""
    for name, value in facts.items():
        if name.endswith("_bytes") and isinstance(value, int):
            yield name.removesuffix("_bytes"), _size(value)
        elif isinstance(value, Mapping):
            yield name, ", ".join(f"{key} {entry}" for key, entry in value.items()) or "none"
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(entry) for entry in value) or "none"
        else:
            yield name, str(value)


def quantity(value: float, unit: str) -> str:
    """A number of bytes or seconds."""
    return _size(value) if unit == "bytes" else _seconds(value)


def predicted(low: float, high: float, unit: str) -> str:
    """A range without more digits than a prediction deserves."""
    if unit == "bytes":
        return f"about {_size(low)}"
    return f"{about(low)} to {about(high)}" if about(low) != about(high) else f"about {about(low)}"


def meaning(metric: str) -> str:
    """What a metric is, in words."""
    if metric.startswith("human_"):
        return "what people said; of pairs the share won, a tie is half a win"
    found = (told for pattern, told in METRICS.items() if fnmatchcase(metric.removeprefix("rows_"), pattern))
    return next(found, "your own function")


def model_name(name: str, called: Mapping[str, str] = MappingProxyType({})) -> str:
    """How a model is called in tables: few_shot becomes few-shot, and some are `called` otherwise."""
    return called.get(name, name.replace("_", "-"))


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return resources.files("sartor.evaluate").joinpath(name).read_text(encoding="utf-8")


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _size(value: float) -> str:
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"
