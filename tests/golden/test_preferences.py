"""Objectives on compared answers against TRL 1.16 and against the formulas of their papers, in fp32 on a tiny llama.

The numbers of TRL are those of `Trainer.compute_loss` and of the L2 norm of its gradient over all parameters, on a batch of
the four rows below, dropout off: DPOTrainer (loss_type sigmoid, sigmoid_norm, ipo), KTOTrainer (desirable_weight 1.5,
undesirable_weight 0.8), RewardTrainer (with and without margins and center_rewards_coefficient 0.01), and the experimental
ORPOTrainer and CPOTrainer (loss_type simpo, simpo_gamma 1, cpo_alpha 0). Policy and reference are models of `filled` with
phases 0.4 and 0; texts are words that a WordLevel tokenizer maps to the ids, with end-of-text 1 and padding 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import logsigmoid

from sartor import registry
from sartor.models.heads import HeadSpec
from sartor.objectives._answers import KL, answer_logp
from sartor.protocols import Loss
from sartor.tokens.batch import Batch, Rendered, collate, collate_shared

END = 1
PROMPTS = [[8, 16, 38, 38], [13, 21, 7, 7, 21, 13], [18, 26, 12], [23, 31, 17, 17, 31]]
CHOSEN = [[28, 36, 22, 22, 36], [33, 5], [38, 10, 32, 32, 10, 38, 8], [7, 15, 37]]
REJECTED = [[12, 20, 6], [17, 25, 11, 11, 25, 17], [22, 30, 16, 16], [27, 35, 21]]
MARGINS = [0.5, 2.0, 0.0, 1.0]
LIKED = [True, False, True, True]
SHAPE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}


def filled(policy: Any, phase: float) -> Any:
    """The model with weights that no random generator decides."""
    with torch.no_grad():
        for place, (name, parameter) in enumerate(sorted(policy.model.named_parameters())):
            flat = torch.arange(parameter.numel(), dtype=torch.float64)
            base = 1.0 if "norm" in name else 0.0
            values = base + 0.3 * torch.sin(flat * (1.7 + 0.01 * place) + phase + place)
            parameter.copy_(values.reshape(parameter.shape).float())
    policy.model.requires_grad_(True)
    policy.eval()
    return policy


def words(phase: float) -> Any:
    return filled(tiny.policy("llama", tie_word_embeddings=False, **SHAPE), phase)


def scorer(phase: float) -> Any:
    return filled(tiny.headed("llama", HeadSpec("reward"), tie_word_embeddings=False, **SHAPE), phase)


def row(prompt: list[int], answer: list[int], index: int, *labels: float) -> Rendered:
    ids = np.array([*prompt, *answer, END], np.int32)
    weight = np.array([0.0] * len(prompt) + [1.0] * (len(answer) + 1), np.float32)
    return Rendered(ids, weight, index, np.array(labels, np.float32))


def paired(*, margins: bool = False, shared: bool = False) -> Batch:
    rows = []
    for index, (prompt, chosen, rejected) in enumerate(zip(PROMPTS, CHOSEN, REJECTED, strict=True)):
        margin = [MARGINS[index]] if margins else []
        rows += [row(prompt, chosen, index, 1.0, *margin), row(prompt, rejected, index, 0.0, *margin)]
    groups = [index // 2 for index in range(len(rows))]
    return collate_shared(rows, groups, least=2) if shared else collate(rows, groups)


def judged() -> Batch:
    """Verdicts, with the KL estimate of prompts whose answer is that of the row before, as TRL pairs them."""
    return collate([row(p, c, i, float(LIKED[i])) for i, (p, c) in enumerate(zip(PROMPTS, CHOSEN, strict=True))])


def taken(name: str, policy: Any, batch: Batch, roles: dict[str, Any], **options: Any) -> tuple[float, float]:
    """(mean loss, L2 norm of its gradient)."""
    module = registry.component("objective", name)
    loss: Loss = module.loss(policy, batch, module.Options(**options), **roles)
    mean = loss.total / loss.weight
    for parameter in policy.trainable().values():
        parameter.grad = None
    mean.backward()
    grads = [p.grad.double().square().sum() for p in policy.trainable().values() if p.grad is not None]
    return float(mean.detach()), float(torch.stack(grads).sum().sqrt())


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dpo", {}, (0.6343681, 1.3105778)),
        ("dpo", {"per_token": True}, (0.6824806, 0.2873183)),
        ("ipo", {}, (22.9609489, 53.7334268)),
        ("simpo", {}, (1.2283336, 7.7536306)),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_pairs_equal_trl(name: str, options: dict[str, Any], expected: tuple[float, float], shared: bool) -> None:
    roles = {"reference": words(0.0)} if registry.component("objective", name).TRAITS.roles else {}
    assert taken(name, words(0.4), paired(shared=shared), roles, **options) == pytest.approx(expected, rel=2e-5)


def test_kto_equals_trl() -> None:
    policy, reference = words(0.4), words(0.0)
    mismatched = collate([row(PROMPTS[i], CHOSEN[i - 1], i) for i in range(4)])
    with torch.no_grad():
        kl = (answer_logp(policy, mismatched) - answer_logp(reference, mismatched)).mean().clamp(min=0)
    assert float(kl) == pytest.approx(0.38160086, rel=1e-4)
    batch = judged()
    batch = replace(batch, columns={KL: torch.full_like(batch.weight, float(kl))})
    found = taken("kto", policy, batch, {"reference": reference}, desirable=1.5, undesirable=0.8)
    assert found == pytest.approx((0.6542725, 0.6176687), rel=2e-5)


def test_reward_equals_trl() -> None:
    assert taken("reward", scorer(0.0), paired(), {}) == pytest.approx((0.6557443, 1.9414000), rel=2e-5)
    found = taken("reward", scorer(0.0), paired(margins=True), {}, center=0.01)
    assert found == pytest.approx((1.2313336, 2.9324015), rel=2e-5)
    assert taken("reward", scorer(0.0), paired(margins=True), {}, margin=0.0) == taken(
        "reward", scorer(0.0), paired(), {}
    )
    both = [taken("reward", scorer(0.0), paired(margins=True), {}, rankings=how) for how in ("order", "pairs")]
    assert both[0] == pytest.approx(both[1], rel=1e-5)


def whole(policy: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """[L] log-probabilities of prompt and answer, by the model's own forward."""
    ids = torch.tensor([[*prompt, *answer, END]])
    logp = policy.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    return logp.gather(1, ids[0, 1:, None])[:, 0]


def alone(policy: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """[L] log-probabilities of an answer."""
    return whole(policy, prompt, answer)[len(prompt) - 1 :]


def test_orpo_is_the_papers_formula() -> None:
    """TRL learns the prompt as well, as one mean over all tokens of the batch; the odds are the same."""
    policy = words(0.4)
    losses, odds, tokens = [], [], []
    for prompt, chosen, rejected in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
        better, worse = alone(policy, prompt, chosen), alone(policy, prompt, rejected)
        win, lose = (each.mean().exp() for each in (better, worse))
        odds.append(-logsigmoid((win / (1 - win)).log() - (lose / (1 - lose)).log()))
        losses.append(-better.mean() + 0.1 * odds[-1])
        tokens.append(whole(policy, prompt, chosen))
    mean = torch.stack(losses).mean()
    mean.backward()
    grads = [p.grad.double().square().sum() for p in policy.trainable().values() if p.grad is not None]
    expected = float(mean.detach()), float(torch.stack(grads).sum().sqrt())
    assert taken("orpo", policy, paired(), {}) == pytest.approx(expected, rel=2e-5)
    like_trl = -torch.cat(tokens).mean() + 0.1 * torch.stack(odds).mean()
    assert float(like_trl.detach()) == pytest.approx(3.8378289, rel=2e-5)


def test_smoothing_and_the_term_of_sft_are_their_formulas() -> None:
    policy, reference = words(0.4), words(0.0)
    expected = []
    for prompt, chosen, rejected in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
        win, lose = (alone(policy, prompt, answer) for answer in (chosen, rejected))
        delta = 0.5 * (win.sum() - alone(reference, prompt, chosen).sum())
        delta = delta - 0.5 * (lose.sum() - alone(reference, prompt, rejected).sum())
        expected.append(-0.9 * logsigmoid(delta) - 0.1 * logsigmoid(-delta) - 0.3 * win.mean())
    mean = float(torch.stack(expected).mean().detach())
    found = taken("dpo", policy, paired(), {"reference": reference}, beta=0.5, label_smoothing=0.1, sft=0.3)
    assert found[0] == pytest.approx(mean, rel=2e-5)


def test_ipo_of_sums_is_the_papers_formula() -> None:
    policy, reference = words(0.4), words(0.0)
    expected = []
    for prompt, chosen, rejected in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
        win, lose = (
            alone(policy, prompt, answer).sum() - alone(reference, prompt, answer).sum()
            for answer in (chosen, rejected)
        )
        expected.append((win - lose - 1 / (2 * 0.2)).square())
    mean = float(torch.stack(expected).mean().detach())
    found = taken("ipo", policy, paired(), {"reference": reference}, beta=0.2, per_token=False)
    assert found[0] == pytest.approx(mean, rel=2e-5)


def test_an_order_of_several_answers_is_plackett_and_luces_likelihood() -> None:
    """Against the product of choices, written out; equally good answers stand in each other's sums."""
    policy = scorer(0.4)
    answers, scores = [[28, 36], [33, 5, 9], [38], [7, 15]], [2.0, -1.0, 0.5, 0.5]
    rows = [row(PROMPTS[0], answer, 0, score) for answer, score in zip(answers, scores, strict=True)]
    batch = collate(rows, [0, 0, 0, 0])
    with torch.no_grad():
        s = policy.score(batch)[:, 0].double()
    expected = -(
        (s[0].exp() / s.exp().sum()).log()
        + (s[2].exp() / (s[1].exp() + s[2].exp() + s[3].exp())).log()
        + (s[3].exp() / (s[1].exp() + s[2].exp() + s[3].exp())).log()
    )
    found, _ = taken("reward", policy, batch, {})
    assert found == pytest.approx(float(expected), rel=1e-5)
    apart = [s[0] - s[1], s[0] - s[2], s[0] - s[3], s[2] - s[1], s[3] - s[1]]
    found, _ = taken("reward", policy, batch, {}, rankings="pairs")
    assert found == pytest.approx(float(-logsigmoid(torch.stack(apart)).mean()), rel=1e-5)


def test_a_score_is_read_at_the_end_of_the_answer() -> None:
    """As transformers reads it: the same model alone on each row gives the same score."""
    policy, batch = scorer(0.4), paired(shared=True)
    with torch.no_grad():
        found = policy.score(batch)[:, 0]
        expected = [
            policy.model(input_ids=torch.tensor([[*prompt, *answer, END]])).logits[0, 0]
            for prompt, *both in zip(PROMPTS, CHOSEN, REJECTED, strict=True)
            for answer in both
        ]
    assert torch.allclose(found, torch.stack(expected).float(), atol=1e-5)


def test_a_ranking_counts_as_one_row_however_many_pairs_it_has() -> None:
    policy, reference = words(0.4), words(0.0)
    ranked = [row(PROMPTS[0], answer, 0, score) for answer, score in zip(CHOSEN, [3.0, 1.0, 2.0, 1.0], strict=True)]
    loss = registry.component("objective", "dpo").loss
    options = registry.component("objective", "dpo").Options()
    whole = loss(policy, collate(ranked, [0] * 4), options, reference=reference)
    assert float(whole.weight) == pytest.approx(1.0)
    pairs = [(0, 1), (0, 2), (0, 3), (2, 1), (2, 3)]
    parts = [
        loss(policy, collate([ranked[one], ranked[other]], [0, 0]), options, reference=reference)
        for one, other in pairs
    ]
    mean = sum(float(part.total.detach()) for part in parts) / len(parts)
    assert float(whole.total.detach()) == pytest.approx(mean, rel=1e-5)
