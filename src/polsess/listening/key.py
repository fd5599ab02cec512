"""The key of a blind test: the system behind each stimulus. Only the experimenter has it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from polsess.files import read_json
from polsess.schema import ConfigError, Schema, parse

MAX_BYTES = 16 << 20
"""Largest size of a key or of a listener's answers."""


class Kind(StrEnum):
    """Kind of question for listeners."""

    MUSHRA = "mushra"
    """Rate all systems of a clip side by side from 0 to 100 against an open reference (ITU-R BS.1534-3)."""
    AB = "ab"
    """Prefer one of two, or neither."""
    P835 = "p835"
    """Rate speech, background and overall quality from 1 to 5, one sound at a time (after ITU-T P.835)."""


class Role(StrEnum):
    """Role of a stimulus in the test."""

    REFERENCE = "reference"
    """The clean target, hidden among the others."""
    SYSTEM = "system"
    """A system under test; the unprocessed mixture counts as one that does nothing."""
    ANCHOR = "anchor"
    """A known degradation that anchors the scale."""


class StimulusKey(Schema):
    """One sound of a trial."""

    id: str
    """Letter on the page and in the answers; drawn anew for every trial."""
    condition: str
    """Name of the condition."""
    role: Role


class TrialKey(Schema):
    """One page that a listener sees."""

    id: str
    training: bool
    """Whether it is for training; such trials are first and do not count."""
    control: bool
    """Whether it only checks the attention of the listener."""
    item: str
    """The utterance."""
    source: int
    """Index of the reference that is the target, from 0."""
    stimuli: tuple[StimulusKey, ...] = Field(min_length=1)

    @property
    def clip(self) -> str:
        """Utterance and target; trials of one clip are compared with each other."""
        return f"{self.item}/{self.source}"


class Key(Schema):
    """A whole test."""

    format: Literal["polsess-listening-key-1"] = "polsess-listening-key-1"
    test: str
    """Digest of the page's sounds, which the answers repeat."""
    kind: Kind
    title: str
    seed: int
    sample_rate: int
    trials: tuple[TrialKey, ...] = Field(min_length=1)

    @property
    def conditions(self) -> dict[str, Role]:
        """Every condition with its role: the reference, systems, anchors, each by name."""
        found = {(each.role, each.condition) for trial in self.trials for each in trial.stimuli}
        order = sorted(found, key=lambda each: (list(Role).index(each[0]), each[1]))
        return {condition: role for role, condition in order}


def read_key(path: Path) -> Key:
    """Read ``key.json``.

    Raises:
        ConfigError: If it is not the key of a test.
        OSError: If it cannot be read.
    """
    key = parse(Key, read_json(path, max_bytes=MAX_BYTES), str(path))
    identifiers = [trial.id for trial in key.trials]
    if len(set(identifiers)) < len(identifiers):
        raise ConfigError(f"{path}: trials: an id comes twice.")
    return key
