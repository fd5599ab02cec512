"""Options of `polsess evaluate` about data that says who talks when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polsess.cli._gate_options import GATE
from polsess.cli._results import usage_errors
from polsess.cli.terminal import refuse

if TYPE_CHECKING:
    from polsess.data import Corpus
    from polsess.evaluation import Evaluation, System
    from polsess.evaluation.transcriber import Transcriber

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
TranscriberCommand = Annotated[
    str | None,
    typer.Option(
        "--transcriber",
        metavar="COMMAND",
        help="Speech recogniser for word errors, as 'recognise {wav}'. It prints text, or lines of JSON with "
        "word, start and end. The unprocessed mixture and the references are evaluated too.",
        rich_help_panel=_PANEL,
    ),
]
TranscriberLimit = Annotated[
    float,
    typer.Option(
        "--transcriber-limit",
        min=0.1,
        metavar="SECONDS",
        help="Time that the recogniser may take for one sound.",
        rich_help_panel=_PANEL,
    ),
]


def open_transcriber(command: str | None, limit_seconds: float) -> Transcriber | None:
    """The speech recogniser, if there is to be one."""
    from polsess.dependencies import require
    from polsess.evaluation.transcriber import Transcriber

    if command is None:
        return None
    require("meeteval", "Counting word errors")
    return Transcriber(command, limit_seconds)


def compare_word_errors(evaluations: Sequence[Evaluation]) -> str:
    """Paired differences of the word errors of systems on the same data, as text; empty for one system."""
    from polsess.evaluation.comparison import Contender, compare, pairs_table
    from polsess.metrics import title_of
    from polsess.text_tables import markdown

    parts = []
    for column in ("cp_wer", "tcp_wer"):
        contenders = [Contender(each.system, (each,)) for each in evaluations]
        if len(contenders) > 1 and any(each.summary(column).count for each in evaluations):
            table = markdown(*pairs_table(compare(contenders, column)))
            parts.append(f"{title_of(column)}, differences by conversation\n\n{table}\n")
    return "\n".join(parts)


def describe_unheard(evaluations: Sequence[Evaluation]) -> str:
    """Which systems have no word errors, since the recogniser failed on every recording; empty for none."""
    from polsess.evaluation.word_errors import reason_for_no_words

    reasons = {each.system: reason for each in evaluations if (reason := reason_for_no_words(each))}
    if not reasons:
        return ""
    return (
        f"transcriber: failed on every recording of {', '.join(reasons)} ({next(iter(reasons.values()))}); "
        "mend it and pass --overwrite."
    )


def fit_to_corpus(
    context: typer.Context,
    system: System,
    corpus: Corpus,
    *,
    one_pass: bool,
    gate: str,
    speakers: str,
    listening: Mapping[str, str],
) -> System:
    """The system as it separates this corpus: models take conversations in pieces unless told otherwise."""
    from polsess.diarization.settings import parse_speakers
    from polsess.evaluation import ModelSystem, OnnxSystem, has_conversations

    if not has_conversations(corpus):
        refuse(context, {"--one-pass", "--collar", *GATE}, "the data says not who talks when; leave it out.")
        return system
    if not isinstance(system, ModelSystem | OnnxSystem) or one_pass:
        return system
    with usage_errors():
        return system.as_separate(gate=gate, num_speakers=parse_speakers(speakers), **listening)


def baselines_of(corpus: Corpus) -> list[System]:
    """The systems without a model for this corpus."""
    from polsess.evaluation import has_conversations
    from polsess.evaluation.baselines import list_baselines

    return [*list_baselines(corpus.config.sample_rate, conversations=has_conversations(corpus))]
