"""Answers of listeners: read, checked against the key, turned into ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from polsess.files import read_json
from polsess.listening.key import MAX_BYTES, Key, Kind, Role, TrialKey
from polsess.schema import ConfigError, Schema, parse

NO_DIFFERENCE = "none"
ANSWERS_FORMAT = "polsess-listening-answers-1"


class TrialAnswers(Schema):
    """Answers to one page; each kind of test adds its own."""

    trial: str
    position: int = Field(ge=0)
    """Position of the page in the order that the listener saw."""
    order: tuple[str, ...]
    """The stimuli in the order of the page."""
    seconds: float = Field(ge=0)
    """Time spent."""

    def values(self, trial: TrialKey) -> list[tuple[str, str, float]]:
        """Scale, stimulus and value of every rating.

        Raises:
            ConfigError: If other stimuli were rated than the trial has; begins with the key at fault.
        """
        raise NotImplementedError


class MushraAnswers(TrialAnswers):
    """A rating per stimulus."""

    ratings: dict[str, Annotated[int, Field(ge=0, le=100)]]

    def values(self, trial: TrialKey) -> list[tuple[str, str, float]]:
        """All on one scale."""
        expected = {each.id for each in trial.stimuli}
        if set(self.ratings) != expected:
            raise ConfigError(f"ratings: expected {_names(expected)}, got {_names(self.ratings)}.")
        return [("quality", stimulus, float(value)) for stimulus, value in self.ratings.items()]


class AbAnswers(TrialAnswers):
    """The preferred stimulus."""

    choice: str

    def values(self, trial: TrialKey) -> list[tuple[str, str, float]]:
        """1 for the preferred stimulus and 0 for the other, or 0.5 for both."""
        stimuli = [each.id for each in trial.stimuli]
        if self.choice not in (*stimuli, NO_DIFFERENCE):
            raise ConfigError(f"choice: expected {_names([*stimuli, NO_DIFFERENCE])}, got '{self.choice}'.")
        share = {self.choice: 1.0} if self.choice in stimuli else dict.fromkeys(stimuli, 0.5)
        return [("preference", stimulus, share.get(stimulus, 0.0)) for stimulus in stimuli]


_Grade = Annotated[int, Field(ge=1, le=5)]


class P835Ratings(Schema):
    """The three grades of one sound."""

    signal: _Grade
    background: _Grade
    overall: _Grade


class P835Answers(TrialAnswers):
    """Three grades of one stimulus."""

    ratings: P835Ratings
    scales: tuple[Literal["signal", "background", "overall"], ...]
    """The order of the questions."""

    def values(self, trial: TrialKey) -> list[tuple[str, str, float]]:
        """One per scale."""
        (stimulus,) = trial.stimuli
        return [(scale, stimulus.id, float(value)) for scale, value in self.ratings]


class Answers(Schema):
    """A listener's file; each kind of test has its own trials."""

    format: Literal["polsess-listening-answers-1"]
    test: str
    kind: Kind
    listener: str = Field(pattern=r"^[\w\-]{1,64}$")
    started: str = Field(max_length=40)
    finished: str = Field(max_length=40)
    trials: tuple[TrialAnswers, ...]


class _MushraFile(Answers):
    trials: tuple[MushraAnswers, ...]


class _AbFile(Answers):
    trials: tuple[AbAnswers, ...]


class _P835File(Answers):
    trials: tuple[P835Answers, ...]


_FILES: dict[Kind, type[Answers]] = {Kind.MUSHRA: _MushraFile, Kind.AB: _AbFile, Kind.P835: _P835File}


@dataclass(frozen=True)
class Rating:
    """One value of one listener for one stimulus of a trial that counts or controls."""

    listener: str
    trial: str
    clip: str
    unit: str
    """Values of one unit are compared: side by side on a page, or of one clip."""
    control: bool
    condition: str
    role: Role
    scale: str
    value: float


def read_answers(paths: Sequence[Path], key: Key) -> list[Rating]:
    """Read the files of all listeners; training is left out.

    Args:
        paths: Files, or folders with files that end in .json.
        key: Key of the test.

    Raises:
        ConfigError: If a file is no complete answer to this test, or a listener occurs twice; it
            names file and key.
        OSError: If a file cannot be read.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise ConfigError(f"answers: no .json in {', '.join(map(str, paths))}.")
    source_of: dict[str, Path] = {}
    ratings: list[Rating] = []
    for file in files:
        answers = _read(file, key)
        if answers.listener in source_of:
            raise ConfigError(
                f"{file}: listener: '{answers.listener}' has answered in {source_of[answers.listener]} too; "
                "leave one of the files out."
            )
        source_of[answers.listener] = file
        ratings += _ratings(file, answers, key)
    return ratings


def _read(file: Path, key: Key) -> Answers:
    data = read_json(file, max_bytes=MAX_BYTES)
    if data.get("format", ANSWERS_FORMAT) != ANSWERS_FORMAT:
        raise ConfigError(
            f"{file}: format: expected '{ANSWERS_FORMAT}', what a listener saves, got {data['format']!r}."
        )
    for name, expected in (("test", key.test), ("kind", key.kind.value)):
        found = data.get(name)
        if isinstance(found, str) and found != expected:
            raise ConfigError(f"{file}: {name}: answers '{found}', but the key is of '{expected}'.")
    return parse(_FILES[key.kind], data, str(file))


def _ratings(file: Path, answers: Answers, key: Key) -> list[Rating]:
    trials = {trial.id: trial for trial in key.trials}
    given = [each.trial for each in answers.trials]
    if unknown := set(given) - set(trials):
        raise ConfigError(f"{file}: trials: {_names(unknown)} not in the key.")
    if twice := {each for each in given if given.count(each) > 1}:
        raise ConfigError(f"{file}: trials: {_names(twice)} answered twice.")
    if missing := set(trials) - set(given):
        raise ConfigError(f"{file}: trials: {_names(missing)} missing; the listener has not finished.")
    found = []
    for each in answers.trials:
        trial = trials[each.trial]
        try:
            values = each.values(trial)
        except ConfigError as error:
            raise ConfigError(f"{file}: trials.{each.trial}.{error}") from None
        if not trial.training:
            found += [_rating(answers.listener, trial, key.kind, *value) for value in values]
    return found


def _rating(listener: str, trial: TrialKey, kind: Kind, scale: str, stimulus: str, value: float) -> Rating:
    condition, role = next((each.condition, each.role) for each in trial.stimuli if each.id == stimulus)
    unit = trial.clip if kind is Kind.P835 else trial.id
    return Rating(listener, trial.id, trial.clip, unit, trial.control, condition, role, scale, value)


def _names(names: Any) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"
