"""The certificate: whether an artifact does what its source does, check by check, each with the bound that was set beforehand.

    KL       mean and largest over probes of sum_v p(v) (log p(v) - log q(v)), p the source after the prompt, q the artifact, in nats
    logits   largest |difference| after the prompt, in units of the source's largest |logit| where that is more than 1
    greedy   share of the places of the source's own answers at which the artifact would write the same token; a place where the
             source itself is undecided (its lead smaller than `tie`) counts as the same

Bounds are those of the number format alone (fp32 differs by the order of sums, int4 by its rounding), so they are one table here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.markdown import table, text
from sartor.metrics._numbers import score_text

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.export.probes import Probes
    from sartor.export.replay import Replayed

FILE, TABLE = "certificate.json", "CERTIFICATE.md"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number format may change."""

    kl_mean: float
    kl_max: float
    logits: float
    greedy: float
    tie: float
    score: float
    """Share of the source's own score that may be lost for certain: by the near end of the interval of the difference."""


BOUNDS: Mapping[str, Bounds] = {
    "float32": Bounds(1e-6, 1e-5, 1e-4, 1.0, 2e-4, 0.0),
    "float16": Bounds(1e-3, 1e-2, 1e-2, 0.98, 2e-2, 0.01),
    "bfloat16": Bounds(5e-3, 5e-2, 5e-2, 0.95, 1e-1, 0.01),
    "int8": Bounds(1e-2, 1e-1, 1e-1, 0.95, 1e-1, 0.02),
    "int4": Bounds(2e-1, 1.5, 5e-1, 0.75, 2e-1, 0.10),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `passed` is None where it is told and not judged."""

    name: str
    value: str
    bound: str
    passed: bool | None
    why: str = ""
    numbers: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """All checks of one artifact."""

    format: str
    precision: str
    runtime: str
    checks: tuple[Check, ...]
    facts: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether no check failed, and at least one was judged."""
        judged = [check.passed for check in self.checks if check.passed is not None]
        return bool(judged) and all(judged)

    @property
    def failed(self) -> list[Check]:
        """Those that failed."""
        return [check for check in self.checks if check.passed is False]

    def json(self) -> dict[str, Any]:
        """certificate.json."""
        return {
            "format": self.format,
            "pass": self.passed,
            "precision": self.precision,
            "bounds": asdict(BOUNDS[self.precision]),
            "runtime": self.runtime,
            "checks": [_entry(check) for check in self.checks],
            "facts": dict(self.facts),
        }

    def markdown(self) -> str:
        """The same for people."""
        rows = [(text(c.name), text(c.value), text(c.bound), _word(c), text(c.why)) for c in self.checks]
        head = f"# {text(self.format)}: {'certified' if self.passed else 'FAILED'}"
        told = f"Held against its source through {text(self.runtime)}; bounds of {text(self.precision)}."
        return f"{head}\n\n{told}\n\n{table(('check', 'measured', 'bound', '', ''), rows)}\n"

    def render(self, console: Console) -> None:
        """A line for each check."""
        from sartor.console import printable, table

        word = "certified" if self.passed else "FAILED"
        console.print(printable(f"{self.format}: {word} through {self.runtime}"), soft_wrap=True)
        table(console, ["check", "measured", "bound", ""], [[c.name, c.value, c.bound, _word(c)] for c in self.checks])
        for check in self.failed:
            console.print(printable(f" {check.name}: {check.why}"), style="red", soft_wrap=True)


def read(body: Mapping[str, Any]) -> Certificate:
    """What `Certificate.json` gave."""
    checks = [
        Check(c["name"], c["value"], c.get("bound", ""), c["pass"], c.get("why", ""), c.get("numbers"))
        for c in body["checks"]
    ]
    return Certificate(body["format"], body["precision"], body["runtime"], tuple(checks), body["facts"])


def _entry(check: Check) -> dict[str, Any]:
    body = asdict(check)
    body["pass"] = body.pop("passed")
    return {key: value for key, value in body.items() if value not in ("", None) or key == "pass"}


def _word(check: Check) -> str:
    return {True: "ok", False: "FAILED", None: ""}[check.passed]


def unopened(fault: str) -> list[Check]:
    """The one check of an artifact that its runtime could not use."""
    return [Check("opens", "no", "yes", False, f"its runtime could not use it: {fault}")]


def checks(probes: Probes, found: Replayed, precision: str) -> list[Check]:
    """Everything that follows from replaying the probes."""
    bounds = BOUNDS[precision]
    return [
        _prompts(probes, found),
        *_distances(probes, found, bounds),
        _greedy(probes, found, bounds),
        _stops(probes, found),
        _endings(probes, found),
        Check("speed", f"{found.tokens_per_second:,.1f} tokens/s", "", None, "one answer at a time",
              {"tokens_per_second": found.tokens_per_second, "seconds_to_open": found.seconds_to_open}),
        Check("memory", f"{found.peak_memory_bytes / 1e6:,.0f} MB", "", None, "largest resident set of the process",
              {"peak_memory_bytes": found.peak_memory_bytes}),
    ]  # fmt: skip


def _prompts(probes: Probes, found: Replayed) -> Check:
    """Whether its own template and tokenizer give the ids that the source was trained on."""
    pairs = [(one, own) for one, own in zip(probes.each, found.prompts, strict=True) if own is not None]
    wrong = [(one, own) for one, own in pairs if own != one.ids]
    why = ""
    if wrong:
        one, own = wrong[0]
        at = next(
            (k for k, (a, b) in enumerate(zip(one.ids, own, strict=False)) if a != b), min(len(one.ids), len(own))
        )
        why = f"{one.id}: token {at} is {_at(own, at)} and not {_at(one.ids, at)} ({len(own)} and not {len(one.ids)} tokens)"
    if not pairs:
        return Check("prompt", "raw text", "", None, "the probes are no conversations")
    return Check("prompt", f"{len(pairs) - len(wrong)} of {len(pairs)} equal", "all", not wrong, why)


def _at(ids: Sequence[int], place: int) -> str:
    return str(ids[place]) if place < len(ids) else "the end"


def _distances(probes: Probes, found: Replayed, bounds: Bounds) -> list[Check]:
    source, own = probes.first.astype(np.float64), found.first.astype(np.float64)
    if source.shape[1] > own.shape[1] or not np.isfinite(own).all():
        what = "not finite" if source.shape == own.shape else f"{own.shape[1]:,} logits and not {source.shape[1]:,}"
        return [
            Check("logits", what, "finite, one for each token", False, "the artifact computes no such distribution")
        ]
    own = own[:, : source.shape[1]]
    p, q = _log_softmax(source), _log_softmax(own)
    divergence = np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0)
    scale = np.maximum(1.0, np.abs(source).max(axis=1))
    apart = (np.abs(source - own).max(axis=1) / scale).max()
    worst = probes.each[int(divergence.argmax())].id
    return [
        _most("KL mean", float(divergence.mean()), bounds.kl_mean, "nats over all probes"),
        _most("KL max", float(divergence.max()), bounds.kl_max, f"worst at {worst}"),
        _most("logits", float(apart), bounds.logits, "largest difference"),
    ]


def _most(name: str, value: float, bound: float, why: str) -> Check:
    return Check(name, f"{value:.2e}", f"at most {bound:g}", value <= bound, why, {"value": value, "bound": bound})


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    whole: np.ndarray = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return whole


def _greedy(probes: Probes, found: Replayed, bounds: Bounds) -> Check:
    places = same = 0
    first: str | None = None
    for one, own in zip(probes.each, found.forced, strict=True):
        for at, (wanted, got, lead) in enumerate(zip(one.answer, own, one.leads, strict=True)):
            equal = wanted == got or lead < bounds.tie
            places, same = places + 1, same + equal
            if not equal and first is None:
                first = f"first at {one.id}, token {at}: {got} and not {wanted}, where the source leads by {lead:.3g}"
    share = same / places if places else 1.0
    told = f"{same:,} of {places:,} ({100 * share:.1f} %)"
    return Check(
        "greedy", told, f"at least {100 * bounds.greedy:g} %", share >= bounds.greedy, first or "", {"value": share}
    )


def _stops(probes: Probes, found: Replayed) -> Check:
    missing = sorted(set(probes.stop_ids) - set(found.stops))
    why = f"it would not stop at {missing}" if missing else ""
    return Check(
        "stop tokens", f"{len(probes.stop_ids) - len(missing)} of {len(probes.stop_ids)}", "all", not missing, why
    )


def _endings(probes: Probes, found: Replayed) -> Check:
    """Where it writes the same tokens, it ends at the same place."""
    alike = wrong = 0
    why = ""
    for one, own in zip(probes.each, found.generated, strict=True):
        if own[: len(one.answer)] != one.answer:
            continue
        alike += 1
        if len(own) != len(one.answer):
            wrong += 1
            why = why or f"{one.id}: it goes on for {len(own) - len(one.answer)} tokens after the source has ended"
    told = f"{alike - wrong} of {alike} equal answers"
    return Check("endings", told, "all", wrong == 0, why, {"answers": alike})


def score(comparison: Mapping[str, Any], bounds: Bounds) -> list[Check]:
    """The task on the same rows, artifact against source; a loss counts once its interval is on the wrong side of the bound."""
    found = []
    for metric in comparison["metrics"]:
        name, share = metric["name"], metric["share"]
        difference, scores = metric["differences"].get("source"), metric["scores"]
        if difference is None:
            continue
        worst = -difference["high"] if metric["higher_is_better"] else difference["low"]
        lost = worst > bounds.score * abs(scores["source"]["value"]) + 1e-6 * max(1.0, abs(scores["source"]["value"]))
        told = f"{score_text(scores['source']['value'], share)} → {score_text(scores['artifact']['value'], share)}"
        why = f"difference {difference['value']:+.4g} [{difference['low']:+.4g}, {difference['high']:+.4g}] on {comparison['rows']} validation rows"
        found.append(
            Check(
                f"score {name}",
                told,
                f"no certain loss beyond {100 * bounds.score:g} %",
                not lost,
                why,
                dict(difference),
            )
        )
    return found


def dumps(certificate: Certificate) -> str:
    """certificate.json as text."""
    return json.dumps(certificate.json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
