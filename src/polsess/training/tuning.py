"""A search for the best settings of an experiment with Optuna: pruned, resumable, reproducible."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polsess.dependencies import require
from polsess.files import write_text
from polsess.folder_lock import locked
from polsess.schema import ConfigError
from polsess.system_errors import free_space
from polsess.tasks import Task
from polsess.training.monitor import Monitor, monitor_of
from polsess.training.run import train
from polsess.training.search_space import SearchSpace, apply
from polsess.training.signals import Preempted

STUDY, BEST = "study.db", "best.yaml"
_NAME = "polsess"


@dataclass(frozen=True)
class Trial:
    """One set of values and its result."""

    number: int
    """Counted from 0."""
    values: Mapping[str, Any]
    """By dotted key."""
    score: float | None
    """Best validation score, as ``monitor_of`` the task names it; of a pruned trial up to its end, None if
    the trial failed."""
    state: str
    """``complete``, ``pruned`` or ``failed``."""
    remark: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class TuningResult:
    """The result of a search."""

    trials: list[Trial]
    best: Trial
    best_config: Path
    """A YAML for ``polsess train``."""


def tune(
    space: SearchSpace,
    base: Mapping[str, Any],
    folder: Path,
    on_trial: Callable[[Trial, Trial | None], None] = lambda *_: None,
    on_epoch: Callable[[int, int, float], None] = lambda *_: None,
) -> TuningResult:
    """Search, or go on with a search.

    Every trial is a training run ``trial-NNN``. The values of a trial depend on the seed and the trials
    before alone, so a search that was stopped and started again tries what it would have tried.

    Args:
        space: Ranges and number of trials.
        base: Plain settings of the experiment.
        folder: Receives ``study.db``, ``best.yaml`` and the runs.
        on_trial: Called after every trial with it and with the best up to then.
        on_epoch: Called after every epoch with the trial's number, the epoch (from 0) and its score.

    Raises:
        ModuleNotFoundError: If Optuna is not installed.
        ConfigError: If the folder holds a search of other ranges or of another experiment.
        FolderInUseError: If another process searches in the folder.
        Preempted: If a signal ended it; the trial under way is repeated next time.
        RuntimeError: If no trial came to an end.
    """
    with locked(folder, "polsess tune"), _study_explained(folder / STUDY):
        return _tune(_open_study(space, base, folder), space, base, folder, on_trial, on_epoch)


@contextmanager
def _study_explained(path: Path) -> Iterator[None]:
    """One line for a study that cannot be read or written, e.g. on a full disk."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (DBAPIError, StorageInternalError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error.__cause__ or error
        raise RuntimeError(
            f"{path}: the study cannot be read or written ({' '.join(str(cause).split())}; "
            f"{free_space(path)} free on the disk). Finished trials are kept; mend the cause, then the same "
            "command goes on."
        ) from error


def _tune(
    study: Any,
    space: SearchSpace,
    base: Mapping[str, Any],
    folder: Path,
    on_trial: Callable[[Trial, Trial | None], None],
    on_epoch: Callable[[int, int, float], None],
) -> TuningResult:
    while (number := len(_done(study, base))) < space.trials:
        trial = _run_trial(study, space, base, folder, number, on_epoch)
        best = _best(study, base)
        if best is not None:
            _write_best(best, base, folder)
        on_trial(trial, best)
    best = _best(study, base)
    if best is None:
        raise RuntimeError(f"{folder}: no trial came to an end; the first: {_done(study, base)[0].remark}")
    _write_best(best, base, folder)
    return TuningResult(_done(study, base), best, folder / BEST)


def _open_study(space: SearchSpace, base: Mapping[str, Any], folder: Path) -> Any:
    optuna = require("optuna", "polsess tune")
    optuna.logging.set_verbosity(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    pruning = space.pruning
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / STUDY).resolve()}",
        study_name=_NAME,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(pruning.startup_trials, pruning.warmup_epochs)
        if pruning
        else optuna.pruners.NopPruner(),
    )
    identity = json.dumps([space.model_dump(mode="json", exclude={"trials", "config"}), base], sort_keys=True)
    if study.user_attrs.setdefault("identity", identity) != identity:
        raise ConfigError(
            f"{folder} holds a search of other ranges or another experiment; choose another --out."
        )
    study.set_user_attr("identity", identity)
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # was killed: it is done again
    return study


def _run_trial(
    study: Any,
    space: SearchSpace,
    base: Mapping[str, Any],
    folder: Path,
    number: int,
    on_epoch: Callable[[int, int, float], None],
) -> Trial:
    optuna = require("optuna", "polsess tune")
    study.sampler = optuna.samplers.TPESampler(seed=space.seed + number)
    trial = study.ask()
    trial.set_user_attr("number", number)
    values = {key: each.suggest(trial, key) for key, each in space.search.items()}
    monitor, scores = _monitor(base), list[float]()

    def after_epoch(epoch: int, score: float) -> None:
        on_epoch(number, epoch, score)
        if math.isfinite(score):
            scores.append(monitor.gain(score))
        if not scores:
            return
        trial.report(max(scores), epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    run = folder / f"trial-{number:03d}"
    try:
        _clear(run)
        config, _ = apply(base, values)
        train(config, run, progress=False, after_epoch=after_epoch)
        if not scores:
            raise RuntimeError("no validation score was finite")
        study.tell(trial, max(scores))
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except Preempted:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise
    except (ValueError, RuntimeError, OSError) as error:  # e.g. memory that is never enough
        trial.set_user_attr("remark", " ".join(str(error).split()) or type(error).__name__)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return _done(study, base)[-1]


def _monitor(base: Mapping[str, Any]) -> Monitor:
    return monitor_of(base.get("task", Task.SB))


def _done(study: Any, base: Mapping[str, Any]) -> list[Trial]:
    """Trials that count, in order; those that were killed do not."""
    optuna = require("optuna", "polsess tune")
    complete, pruned = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    done = []
    for each in study.get_trials(deepcopy=False):
        remark = each.user_attrs.get("remark", "")
        if each.state not in (complete, pruned) and not remark:
            continue
        state = {complete: "complete", pruned: "pruned"}.get(each.state, "failed")
        reached = max(each.intermediate_values.values(), default=None)
        gain = each.value if each.state is complete else reached
        score = None if gain is None else _monitor(base).gain(gain)
        done.append(Trial(each.user_attrs["number"], dict(each.params), score, state, remark))
    return done


def _best(study: Any, base: Mapping[str, Any]) -> Trial | None:
    complete = [(trial.score, trial) for trial in _done(study, base) if trial.state == "complete"]
    scored = [(_monitor(base).gain(score), trial) for score, trial in complete if score is not None]
    return max(scored, key=lambda pair: pair[0], default=(None, None))[1]


def _write_best(best: Trial, base: Mapping[str, Any], folder: Path) -> None:
    _, settings = apply(base, best.values)
    monitor = _monitor(base)
    score = f"{monitor.label} {monitor.show(math.nan if best.score is None else best.score)}"
    head = f"# Trial {best.number} of polsess tune: {score} on validation.\n"
    write_text(folder / BEST, head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _clear(run: Path) -> None:
    """Put away what a killed trial left; its run begins anew."""
    if run.exists():
        import shutil

        shutil.rmtree(run)
