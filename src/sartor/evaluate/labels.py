"""Which of given labels a model finds most likely as its answer.

The labels' tokens form a tree: labels that begin alike share their first tokens. One forward pass holds the prompt and the
whole tree, where every token of the tree sees the prompt and its own ancestors, so 77 labels cost little more than the
prompt. Whether a model takes such a mask exactly is measured on it, against every label scored by itself. Prompts that begin
alike, with the same few-shot examples, are computed once instead where that means fewer products.

B: prompts, P: longest prompt, N: tokens of the tree, K: labels, V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.evaluate.likelihood import PACKED_TOKENS, likelihood
from sartor.models.policy import CausalPolicy
from sartor.tokens.batch import Rendered
from sartor.tokens.prefix import share

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy

LOGITS = 1 << 26
"""Numbers of logits held at once: 256 MiB in fp32."""
ROW_TOKENS = 1 << 22
"""Tokens of rows made at once: 32 MiB."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference between both ways, relative to the largest score, that counts as rounding."""


class Tree:
    """Token sequences that share their beginnings. `token`, `parent` (-1: the prompt) and `depth` of each of N nodes."""

    def __init__(self) -> None:
        self.token: list[int] = []
        self.parent: list[int] = []
        self.depth: list[int] = []
        self.paths: dict[int, list[int]] = {}
        """Nodes of each label, by its index."""
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.token)

    def add(self, label: int, ids: Sequence[int]) -> None:
        """Put a label's tokens into the tree."""
        node, path = -1, []
        for depth, token in enumerate(ids):
            key = (node, int(token))
            if key not in self._children:
                self._children[key] = len(self.token)
                self.token.append(int(token))
                self.parent.append(node)
                self.depth.append(depth)
            node = self._children[key]
            path.append(node)
        self.paths[label] = path

    def sees(self) -> torch.Tensor:
        """[N, N] bool: each node sees itself and its ancestors."""
        seen = torch.eye(len(self), dtype=torch.bool)
        for node, parent in enumerate(self.parent):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


class LabelScorer:
    """Log-probability of each label as the answer to a prompt.

    Args:
        policy: the model.
        labels: ids of each label as they follow a prompt, end-of-turn included.
        pad_id: any token of the vocabulary.
    """

    def __init__(self, policy: ModelPolicy, labels: Sequence[Sequence[int]], pad_id: int) -> None:
        if not labels:
            raise ValueError("no labels to choose from")
        self.policy, self.labels, self.pad_id = policy, [list(ids) for ids in labels], pad_id
        self.trees: list[Tree] = []
        most = max(1, LOGITS // policy.vocabulary)
        for label in sorted(range(len(labels)), key=lambda label: self.labels[label]):
            if not self.trees or len(self.trees[-1]) + len(self.labels[label]) > most:
                self.trees.append(Tree())
            self.trees[-1].add(label, self.labels[label])

    @cached_property
    def shared(self) -> bool:
        """Whether this model scores a tree of labels as it scores each label by itself."""
        if not isinstance(self.policy, CausalPolicy) or self.policy.virtual is not None:
            return False
        draw = np.random.default_rng(0)
        prompts = [draw.integers(0, self.policy.vocabulary, length).tolist() for length in (7, 3)]
        apart = self._apart(prompts)
        try:
            together = self._together(prompts)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False
        tolerance = TOLERANCE[next(self.policy.model.parameters()).dtype]
        return bool(np.abs(together - apart).max() <= tolerance * max(1.0, np.abs(apart).max()))

    def score(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """[n, K] float64 log-probabilities, end-of-turn included."""
        if not prompts:
            return np.zeros((0, len(self.labels)))
        longest = max(map(len, prompts)) + max(map(len, self.trees))
        if longest > self._reach or self._prompts_share_more(prompts) or not self.shared:
            return self._apart(prompts)
        return self._together(prompts)

    def _prompts_share_more(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether rows that share their beginnings take fewer products than trees of labels after whole prompts."""
        if not self.policy.exact.shares:
            return False
        model = self.policy.model
        tables = {
            id(part.weight): part.weight for part in (model.get_input_embeddings(), model.get_output_embeddings())
        }
        trunk = sum(p.numel() for p in model.parameters()) - sum(weight.numel() for weight in tables.values())
        head, endings = model.get_output_embeddings().weight.numel(), sum(map(len, self.labels))
        beginnings = share([np.asarray(prompt, dtype=np.int32) for prompt in prompts]).tokens
        apart = beginnings * trunk + len(prompts) * endings * (trunk + head)
        inner = sum(len(set(tree.parent)) for tree in self.trees)
        nodes = sum(map(len, self.trees))
        whole = len(self.trees) * sum(map(len, prompts))
        return bool(apart < whole * trunk + len(prompts) * (nodes * trunk + inner * head))

    @property
    def _reach(self) -> float:
        """Places a layer's attention spans; beyond a sliding window the tree's mask would say too little."""
        sliding = getattr(self.policy.model.config.get_text_config(), "sliding_window", None)
        return float(sliding) if sliding else float("inf")

    def _apart(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Every label after every prompt, as rows of their own."""
        scores = np.zeros((len(prompts), len(self.labels)))
        each = len(self.labels) * (max(map(len, prompts)) + max(map(len, self.labels)))
        count = max(1, ROW_TOKENS // each)
        for start in range(0, len(prompts), count):
            some = prompts[start : start + count]
            rows = [self._row(prompt, ids, place) for place, prompt in enumerate(some) for ids in self.labels]
            scores[start : start + count] = -likelihood(self.policy, rows)[0].reshape(len(some), -1)
        return scores

    def _row(self, prompt: Sequence[int], ids: Sequence[int], place: int) -> Rendered:
        weight = np.repeat(np.asarray([0, 1], dtype=np.float32), [len(prompt), len(ids)])
        return Rendered(np.asarray([*prompt, *ids], dtype=np.int32), weight, place)

    def _together(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        scores = np.zeros((len(prompts), len(self.labels)))
        for tree in self.trees:
            for places in self._groups(prompts, tree):
                logp = self._nodes([prompts[place] for place in places], tree)
                for label, path in tree.paths.items():
                    scores[places, label] = logp[:, path].sum(axis=1)
        return scores

    def _groups(self, prompts: Sequence[Sequence[int]], tree: Tree) -> Iterator[list[int]]:
        """Prompts of like length that go through the model together."""
        tokens = PACKED_TOKENS.get(self.policy.device.type, PACKED_TOKENS["cpu"])
        order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
        while order:
            each = len(prompts[order[0]]) + len(tree)
            count = max(1, min(tokens // each, LOGITS // (self.policy.vocabulary * len(tree))))
            yield order[:count]
            order = order[count:]

    def _nodes(self, prompts: Sequence[Sequence[int]], tree: Tree) -> np.ndarray:
        """[B, N] log-probability of each node's token after the prompt and its ancestors."""
        count, length, size = len(prompts), max(map(len, prompts)), len(tree)
        ids = torch.full((count, length + size), self.pad_id, dtype=torch.int64)
        real = torch.ones((count, length + size), dtype=torch.bool)
        position = torch.zeros((count, length + size), dtype=torch.int64)
        ids[:, length:] = torch.tensor(tree.token)
        for row, prompt in enumerate(prompts):
            pad = length - len(prompt)
            ids[row, pad:length] = torch.as_tensor(np.asarray(prompt, dtype=np.int64))
            real[row, :pad] = False
            position[row, pad:length] = torch.arange(len(prompt))
            position[row, length:] = len(prompt) + torch.tensor(tree.depth)
        sees = torch.ones((length + size, length + size), dtype=torch.bool).tril()
        sees[length:, length:] = tree.sees()
        seen = sees[None] & real[:, None, :]
        inner = sorted({parent for parent in tree.parent if parent >= 0})
        place = {-1: 0} | {node: 1 + order for order, node in enumerate(inner)}
        keep = torch.tensor([length - 1, *(length + node for node in inner)])
        parents = torch.tensor([place[parent] for parent in tree.parent])
        device = self.policy.device
        assert isinstance(self.policy, CausalPolicy)
        with self.policy.generating() as model:
            dtype = next(model.parameters()).dtype
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
            logits = model(
                input_ids=ids.to(device),
                attention_mask=mask[:, None].to(device),
                position_ids=position.to(device),
                use_cache=False,
                logits_to_keep=keep.to(device),
            ).logits
            found = []
            for row in logits:
                logp = row.float().log_softmax(dim=1)
                found.append(logp[parents.to(device), torch.tensor(tree.token, device=device)].double().cpu())
        return torch.stack(found).numpy()
