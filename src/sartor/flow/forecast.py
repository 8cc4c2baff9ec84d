"""What a prepared run will take in memory and time, told before it starts and compared with what it took afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.advise import fit, memory, speed
from sartor.advise.speed import Place, Seconds, Work

if TYPE_CHECKING:
    from sartor.advise.memory import Peak
    from sartor.events import Finished
    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Prepared
    from sartor.store.run import Run


@dataclass(frozen=True, slots=True)
class Forecast:
    """Peaks of memory by stage, and how long each stage takes."""

    peaks: Mapping[str, Peak]
    seconds: Mapping[str, Seconds]

    @property
    def peak(self) -> Peak:
        """The highest."""
        return max(self.peaks.values(), key=lambda peak: peak.total)

    def json(self) -> dict[str, Any]:
        """Bytes and seconds by stage."""
        return {
            "memory": {stage: {"bytes": peak.total, "parts": dict(peak.parts)} for stage, peak in self.peaks.items()},
            "time": {
                stage: {"seconds": round(one.expected, 1), "low": round(one.low, 1), "high": round(one.high, 1)}
                | {"source": one.source}
                for stage, one in self.seconds.items()
            },
        }


def forecast(prepared: Prepared, tools: Bench) -> Forecast:
    """Predict a run whose rows are prepared and whose measuring is decided."""
    settings, plan = prepared.settings, prepared.settings.plan
    place = Place.of(settings.hardware, settings.threads, plan.job)

    def seconds(work: Work) -> Seconds:
        return speed.predict(work, place, settings.hardware, settings.threads, plan.form)

    measured = [seconds(_measuring(prepared, tools, shots)) for shots in _shots(prepared, tools)]
    answering = evaluating(
        prepared, tools.want, shots=len(tools.shots), new_tokens=tools.max_new_tokens, batch=tools.batch
    )
    return Forecast(
        {"train": settings.memory, "evaluate": answering},
        {
            "train": seconds(_training(prepared)) + seconds(_validating(prepared)),
            "evaluate": sum(measured[1:], measured[0]),
        },
    )


def evaluating(prepared: Prepared, want: frozenset[str], *, shots: int, new_tokens: int, batch: int) -> Peak:
    """The peak of measuring a model on the test rows, `batch` of them answered together after `shots` examples each."""
    settings, plan, window = prepared.settings, prepared.settings.plan, prepared.base.root.window
    prompt = int(prepared.tokens["test"].lengths.max()) * (1 + shots)
    return memory.measuring(
        plan.form,
        settings.dtype,
        want=want,
        rows=batch,
        prompt=min(prompt, window) if window else prompt,
        answer=new_tokens,
        device=settings.device,
        linear=plan.job.weight_bytes,
    )


def fitting_batch(prepared: Prepared, want: frozenset[str], *, shots: int, new_tokens: int, most: int) -> int:
    """How many rows, `most` of them or a half, a quarter and so on, can be answered together."""
    budget = fit.USABLE * prepared.settings.hardware.memory
    batch = most
    while batch > 1:
        if evaluating(prepared, want, shots=shots, new_tokens=new_tokens, batch=batch).needed <= budget:
            break
        batch //= 2
    return batch


def measuring_seconds(run: Run, timing: Mapping[str, float]) -> float | None:
    """How long measuring all models took, by the `timing` of stages; None where an earlier sitting did some of it."""
    sittings = sum(event["event"] == "stage" and event["name"] == "data" for event in run.events())
    return timing["baseline"] + timing["evaluate"] if sittings == 1 else None


def learn(run: Run, prepared: Prepared, tools: Bench, finished: Finished, timing: Mapping[str, float]) -> None:
    """Write down how fast this machine was: in training, and in measuring models where this sitting did all of it."""
    settings, plan = prepared.settings, prepared.settings.plan
    place = Place.of(settings.hardware, settings.threads, plan.job)
    row = _row(prepared, "train")
    speed.record(speed.training(plan.form, plan.job, finished.tokens, row), place, finished.seconds)
    measuring = measuring_seconds(run, timing)
    if measuring is None:
        return
    works = [_measuring(prepared, tools, shots) for shots in _shots(prepared, tools)]
    whole = Work("evaluate", sum(work.flops for work in works), works[0].per_token)
    speed.record(whole, place, measuring)


def _training(prepared: Prepared) -> Work:
    settings, plan, rows = prepared.settings, prepared.settings.plan, prepared.tokens["train"]
    tokens = rows.tokens / settings.steps_per_epoch * settings.steps
    return speed.training(plan.form, plan.job, tokens, _row(prepared, "train"))


def _validating(prepared: Prepared) -> Work:
    """The loss on the validation rows, every time; as fast as training, of which it is the forward pass."""
    settings, plan, rows = prepared.settings, prepared.settings.plan, prepared.tokens["validation"]
    times = 1 + -(-settings.steps // settings.validate_every) if len(rows) else 0
    tokens = rows.tokens / max(1, len(rows)) * settings.validation_rows * times
    each = speed.forward(plan.form, plan.job.scored, _row(prepared, "train"))
    training = speed.training(plan.form, plan.job, 1, _row(prepared, "train"))
    return Work("train", tokens * each, training.per_token)


def _measuring(prepared: Prepared, tools: Bench, shots: int) -> Work:
    """One model on the test rows, with examples before each: reading them, and answers half as long as they may be."""
    row = _row(prepared, "test")
    read = row * (1 + shots) * len({"nll", "prediction", "label"} & tools.want)
    made = tools.max_new_tokens / 2 if "prediction" in tools.want else 0.0
    return speed.evaluation(prepared.settings.plan.form, (read + made) * len(tools.indices), row)


def _shots(prepared: Prepared, tools: Bench) -> list[int]:
    """Examples shown to each model that is measured: the tuned one, and those it is compared with."""
    shown = {"few_shot": len(tools.shots)} | {name: found.k for name, found in tools.rivals.found.items()}
    return [0, *(shown.get(name, 0) for name in tools.rivals.names if name not in tools.rivals.given)]


def _row(prepared: Prepared, part: str) -> float:
    """Mean length of a row in tokens."""
    rows = prepared.tokens[part]
    return rows.tokens / max(1, len(rows))
