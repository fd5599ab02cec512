"""What a run is made of, from its configuration."""

from __future__ import annotations

from polsess.config import Config
from polsess.data import Corpus, Split, create_corpus
from polsess.models import SeparationModel, create_model
from polsess.schema import ConfigError, suggest
from polsess.training.fine_tuning import Origin, freeze, start_from

_LOOKED_AT = 8
"""Examples of which some must have the key of the strata."""


def create_trained_model(config: Config, *, resume: bool = False) -> tuple[SeparationModel, Origin | None]:
    """The model of a run with fresh weights or those of another, and what it was started from.

    Args:
        config: The experiment.
        resume: Whether the run has weights of its own already, which take these ones' place.

    Raises:
        ValueError: If the weights to start from or the parts to freeze do not fit.
    """
    model, settings = create_model(config.model), config.training
    origin = start_from(model, settings, config.task) if settings.init and not resume else None
    freeze(model, settings.freeze)
    return model, origin


def open_corpora(config: Config) -> list[Corpus]:
    """The training and the validation split.

    Raises:
        FileNotFoundError: If the corpus is not where the configuration says.
        ValueError: If it does not fit the task, its files are wrong, or its examples know nothing of
            ``training.validation_strata``.
    """
    corpora = [
        create_corpus(
            config.data.corpus,
            split,
            config.task,
            config.seed,
            num_mixtures=config.training.loss.num_mixtures,
        )
        for split in (Split.TRAIN, Split.VAL)
    ]
    if config.training.loss.num_mixtures == 1:  # mixtures of mixtures keep only what their parts share
        _check_strata(config.training.validation_strata, corpora[-1])
    return corpora


def _check_strata(key: str | None, corpus: Corpus) -> None:
    """See that some of the first examples have the key by whose values scores shall be given."""
    if key is None:
        return
    known: set[str] = set()
    for index in range(min(len(corpus), _LOOKED_AT)):
        known |= corpus.example(0, index).metadata.keys()
        if key in known:
            return
    raise ConfigError(
        f"training.validation_strata: no example has '{key}'.{suggest(key, sorted(known), 'They have')}"
    )
