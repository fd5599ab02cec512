"""Options of `polsess evaluate` about data that says who talks when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polsess.data import Corpus
    from polsess.evaluation import System

_PANEL = "Conversations"

OnePass = Annotated[
    bool,
    typer.Option(
        "--one-pass",
        help="Send every conversation through the network in one pass. Left out, conversations are separated "
        "as polsess separate does it.",
        rich_help_panel=_PANEL,
    ),
]
Collar = Annotated[
    float,
    typer.Option(
        "--collar",
        min=0.0,
        metavar="SECONDS",
        help="Time around true starts and ends of turns that the diarisation error leaves out, e.g. 0.25.",
        rich_help_panel=_PANEL,
    ),
]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Evaluate the unprocessed mixture and the references too, and for conversations the mixture cut "
        "by the true turns.",
        rich_help_panel=_PANEL,
    ),
]


def fit_to_corpus(system: System, corpus: Corpus, *, one_pass: bool) -> System:
    """The system as it separates this corpus: models take conversations in pieces unless told otherwise."""
    from polsess.evaluation import ModelSystem, has_conversations

    if isinstance(system, ModelSystem) and has_conversations(corpus) and not one_pass:
        return system.in_pieces()
    return system


def baselines_of(corpus: Corpus) -> list[System]:
    """The systems without a model for this corpus."""
    from polsess.evaluation import has_conversations
    from polsess.evaluation.baselines import list_baselines

    return [*list_baselines(corpus.config.sample_rate, conversations=has_conversations(corpus))]
