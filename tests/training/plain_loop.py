"""A training loop that anybody would write, to hold the engine against: same data, same seeds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from polsess.config import Config
from polsess.data import Split, collate, create_corpus
from polsess.losses import LossConfig, SeparationLoss, permutation_invariant
from polsess.models import SeparationModel, create_model
from polsess.signal_ratios import si_snr


@dataclass(frozen=True)
class Trained:
    """A model and how fast its steps were."""

    model: SeparationModel
    losses: list[float]
    started: list[tuple[float, float]]
    """When each step began: clock and processor time, in seconds."""


def train_plainly(config: Config) -> Trained:
    """Adam with a constant rate, clipping, negative SI-SNR; the examples in the order of the engine."""
    import numpy as np

    torch.manual_seed(config.seed)
    model, settings = create_model(config.model.model_dump()), config.training
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.optimizer.learning_rate, fused=True)
    loss_function, losses = SeparationLoss(LossConfig()), []
    corpus = create_corpus(config.data.corpus, Split.TRAIN, config.task, config.seed)
    size, started = config.data.batch_size, []
    for epoch in range(settings.max_epochs):
        order = np.arange(len(corpus))
        np.random.default_rng([config.seed, epoch]).shuffle(order)
        for first in range(0, len(corpus) - size + 1, size):
            started.append((time.perf_counter(), time.process_time()))
            keys = [(epoch, int(index)) for index in order[first : first + size]]
            batch = collate([(key, corpus.example(*key)) for key in keys])
            loss = loss_function(model(batch.mixture), batch.references)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip_norm or float("inf"))
            optimizer.step()
            losses.append(loss.item())
    return Trained(model, losses, started)


def test_score(model: SeparationModel, config: Config) -> float:
    """Mean SI-SNR improvement in dB on the fixed test list."""
    corpus, improvements = create_corpus(config.data.corpus, Split.TEST, config.task, config.seed), []
    with torch.no_grad():
        for index in range(len(corpus)):
            example = corpus.example(0, index)
            references = example.references.unsqueeze(0)
            score, _ = permutation_invariant(si_snr, model.eval()(example.mixture.unsqueeze(0)), references)
            improvements.append(float(score.mean() - si_snr(example.mixture, example.references).mean()))
    return sum(improvements) / len(improvements)
