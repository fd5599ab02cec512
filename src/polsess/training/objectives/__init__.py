"""The objectives of training, one for each kind of task."""

from __future__ import annotations

from typing import Any

from polsess.config import Config
from polsess.data import Corpus
from polsess.losses import VerificationConfig
from polsess.models import Network, SeparationModel, SpeakerEmbedder
from polsess.tasks import Task
from polsess.training.objectives.activity import ActivityObjective
from polsess.training.objectives.base import Objective
from polsess.training.objectives.enhanced import EnhancedObjective, load_enhancer
from polsess.training.objectives.separation import SeparationObjective
from polsess.training.objectives.speakers import SpeakerObjective

__all__ = ["Objective", "create_objective"]


def create_objective(config: Config, model: Network, corpus: Corpus) -> Objective[Any]:
    """The objective of a run, with fresh parameters where it has any.

    Args:
        config: The experiment.
        model: Its network.
        corpus: Its training split.

    Raises:
        CheckpointError: If the enhancer of ``training.hearing`` cannot be read.
        ConfigError: If it does not fit the network.
    """
    objective = _objective_of_task(config, model, corpus)
    hearing = config.training.hearing
    if hearing is None:
        return objective
    enhancer = load_enhancer(hearing.enhancer, model.sample_rate, "training.hearing.enhancer")
    return EnhancedObjective(objective, enhancer, hearing.probability)


def _objective_of_task(config: Config, model: Network, corpus: Corpus) -> Objective[Any]:
    if config.task is Task.OSD:
        return ActivityObjective()
    if config.task is Task.SV:
        assert isinstance(model, SpeakerEmbedder)  # as the configuration has checked
        settings = config.training.verification or VerificationConfig()
        return SpeakerObjective(settings, corpus.classes, model.dimensions)
    assert isinstance(model, SeparationModel)
    return SeparationObjective(config.training.loss, counts_speakers=model.counts_speakers)
