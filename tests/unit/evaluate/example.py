"""A run that never happened, with everything a report can show."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from sartor import registry
from sartor.evaluate.compare import Comparison, compare
from sartor.evaluate.facts import (
    Cleaned,
    Curve,
    DataFacts,
    DataFile,
    Dropped,
    Foreseen,
    Made,
    ReportFacts,
    Sample,
    Setting,
)
from sartor.evaluate.verdict import judge
from sartor.protocols import Outcome
from sartor.recipe.schema import Gate

QUEUES = ("billing", "delivery", "returns", "account")
TICKETS = (
    "I was charged twice for order 4471, please send one payment back.",
    "My parcel has been in the same depot since Monday. Where is it?",
    "The shoes are too small and I would like another size.",
    "I cannot sign in although I changed my password yesterday.",
)
GATES = (
    Gate(metric="field_f1", better_than="base"),
    Gate(metric="json_valid", at_least=0.9),
    Gate(metric="exact_match", at_least=0.8),
)


def comparison(rows: int = 112, seed: int = 0) -> Comparison:
    draw = random.Random(seed)
    models: dict[str, list[Outcome]] = {"base": [], "few_shot": [], "tuned": []}
    for index in range(rows):
        queue = draw.choice(QUEUES)
        right = json.dumps({"queue": queue, "urgent": draw.random() < 0.4, "order": draw.choice([None, 4471])})
        near = json.dumps({"queue": draw.choice(QUEUES), "urgent": draw.random() < 0.5, "order": None})
        answers = {
            "base": draw.choice([f"The customer writes about {queue}. I am sorry to hear", "Sure! Here is", near]),
            "few_shot": draw.choice([near, near, "Ticket: " + right, right]),
            "tuned": right if draw.random() < 0.8 else near,
        }
        for model, (answer, level) in zip(models, zip(answers.values(), (90.0, 24.0, 2.6), strict=True), strict=True):
            models[model].append(
                Outcome(
                    id=f"tickets.jsonl:{index * 7 + 3}",
                    prompt=TICKETS[QUEUES.index(queue)],
                    reference=right,
                    prediction=answer,
                    nll=level * draw.uniform(0.5, 1.5),
                    tokens=28,
                    bytes=len(right),
                    stopped=model != "base",
                )
            )
    names = ("field_f1", "json_valid", "exact_match", "perplexity", "rougeL")
    return compare(models, [registry.component("metric", name).METRIC for name in names], seed=1)


def facts(**changes: Any) -> ReportFacts:
    result = comparison()
    draw = random.Random(4)
    verdict = judge(GATES, result)
    given: dict[str, Any] = {
        "title": "tickets",
        "statement": "Turn a support ticket into our triage JSON, with no word around it",
        "task": "generate",
        "base": "sartor/nano",
        "method": "lora, rank 16",
        "created": "21 November 2026, 14:05",
        "verdict": verdict.json(train={"steps": 140}, model="exports/model"),
        "comparison": result.json(),
        "curves": [Curve(
            train=[(s, 2.2 * math.exp(-s / 35) + 0.25 + draw.gauss(0, 0.05)) for s in range(1, 141)],
            validation=[(s, 2.1 * math.exp(-s / 30) + 0.42 + max(0, s - 100) * 0.004) for s in range(10, 141, 10)],
            chosen=100,
            turned=110,
            ended="Stopped at step 140: validation had risen three times.",
        )],
        "data": DataFacts(
            files=[DataFile("data/tickets.jsonl", "messages", 1204, 3), DataFile("data/old/archive.csv.gz", "prompt_completion", 96)],
            rows=1117,
            parts={"train": 893, "validation": 112, "test": 112},
            dropped=[Dropped("D120", "empty answer", 9), Dropped("clean.duplicates", "says the same as a row that is kept", 96), Dropped("too_long", "more than 2,048 tokens", 1)],
            cleaned=[Cleaned("unicode", 1300, 12, 0, 0), Cleaned("duplicates", 1300, 0, 96, 0)],
            made=[Made("synonyms", 240, 201)],
            residual={"max": 0.74, "99 %": 0.51, "median": 0.08},
            findings=[
                {"code": "D150", "level": "warning", "file": "data/tickets.jsonl", "line": 15, "message": "same as data/tickets.jsonl:3 (14 exact, 61 near duplicates)", "fix": "they stay in one part"},
                {"code": "D140", "level": "warning", "file": "data/tickets.jsonl", "line": 18, "message": 'text holds control token "<|im_end|>"; it is encoded as plain text', "fix": None},
            ],
        ),
        "settings": [
            Setting("train.optimizer.adamw.learning_rate", 0.0008, "LoRA of rank 16 on 6.5M parameters"),
            Setting("train.epochs", 3, "893 rows give 189 steps; early stopping ends sooner"),
            Setting("data.max_tokens", 512, "the model's window"),
            Setting("method.lora.target_modules", "all-linear", "default"),
        ],
        "environment": {"sartor": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "hardware": "2 cores, AVX-512, 8 GB", "seed": 17},
        "timing": {"baseline": 31.2, "training": 402.0, "evaluation": 44.9},
        "foreseen": [
            Foreseen("memory at its peak", "bytes", 2_300_000_000, 2_300_000_000, 2_104_000_000, "activations 1.1 GB, process 587 MB, weights 270 MB"),
            Foreseen("training, 189 steps", "seconds", 130.0, 820.0, 402.0, "guessed from 2 cores with amx_bf16; runs here will measure it"),
            Foreseen("evaluation", "seconds", 61.0, 104.0, None, "measured in 3 runs here"),
        ],
        "samples": [
            Sample(
                "data/tickets.jsonl:12, 31 of 74 tokens are learnt",
                [("<|user|>\n", 0.0), ("I was charged twice", 0.0), (" for order 4471.", 0.0), ("<|end|>\n<|assistant|>\n", 0.0),
                 ('{"queue":', 1.0), (' "billing",', 1.0), (' "urgent": false}', 1.0), ("<|end|>", 1.0), ("\n", 0.0)],
            )
        ],
        "test_accesses": 3,
        "notes": ["bfloat16 is slow on this processor; trained in float32"],
    }  # fmt: skip
    return ReportFacts(**(given | changes))
