"""Estimates in files as systems to evaluate, written and read.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polsess.audio import Samples, list_sounds, read_audio, write_audio
from polsess.data import Example
from polsess.data.corpora.folder import find_sound, list_items
from polsess.diarization import SpeakerTimeline
from polsess.evaluation.conversations import heard_references
from polsess.evaluation.systems import Estimate, System, names_of_tracks
from polsess.files import version_of
from polsess.schema import ConfigError, suggest
from polsess.timelines import Timeline, read_rttm, sorted_timeline


class FolderSystem:
    """Estimates in files: of a system with a folder in every item, or as ``polsess separate`` writes them.

    The files of an item are, whichever is there, ``<item>/<system>/s1`` or ``speaker1``, ``s2`` and so on;
    ``<item>/mix_speaker1``; or ``<item>_speaker1`` beside each other. One output is also called ``speech``.

    Args:
        folder: Holds the files of each item of the corpus, by its identifier.
        system: Folder of the estimates within each item; empty for files that no such folder holds.
    """

    sample_rate = None
    num_sources = None
    task = None

    def __init__(self, folder: Path, system: str = "") -> None:
        known = list_systems(folder)
        if system not in known:
            raise ConfigError(f"{folder}: no estimates of '{system}'." + suggest(system, known, "Found"))
        self.folder = folder
        self.system = system
        self.name = system or folder.name

    @property
    def identity(self) -> str:
        """A digest of the files' names, sizes and times: of the sounds and of the turns beside them."""
        digest = hashlib.sha256()
        sounds = [path for path in list_sounds(self.folder).paths if self.system in ("", path.parent.name)]
        for path in [*sounds, *filter(None, map(_turns_of, sounds))]:
            digest.update(f"{path} {version_of(path)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    @property
    def origin(self) -> Mapping[str, Any]:
        """The folder and the system in it."""
        return {"estimates": str(self.folder.resolve()), "system": self.system}

    def estimate(self, example: Example) -> Estimate:
        """Read the estimates of one example; each must be as long as the mixture."""
        paths = self._paths(example.identifier)
        turns = _turns_beside(paths)
        heard = len(heard_references(example))  # nobody needs a track for those who never talk
        if len(paths) < (1 if turns else max(1, heard)):
            raise FileNotFoundError(
                f"{self.folder}: {len(paths)} of {heard} estimates of "
                f"'{example.identifier}' in it, e.g. {self._places(example.identifier)[0][0]}/s1.wav."
            )
        signals, rate = [], 1
        for path in paths:
            samples, rate = read_audio(path)
            if samples.shape != (1, len(example.mixture)):
                raise ValueError(
                    f"{path}: expected one channel of {len(example.mixture)} samples, as the mixture, got "
                    f"{samples.shape[0]} of {samples.shape[1]}."
                )
            signals.append(samples[0].numpy())
        if turns is None:
            return Estimate(np.stack(signals))
        timeline = SpeakerTimeline(turns, len(example.mixture) / rate, whole=True)
        return Estimate(np.stack(signals), names_of_tracks(len(paths)), timeline)

    def _places(self, item: str) -> list[tuple[Path, str]]:
        """Folders to search, each with the prefix of the file names before the number."""
        inside = self.folder / item / self.system
        return [
            (inside, "s"),
            (inside, "speaker"),
            (inside, "mix_speaker"),
            (self.folder, f"{item}_speaker"),
        ]

    def _paths(self, item: str) -> list[Path]:
        for folder, prefix in self._places(item):
            found: list[Path] = []
            while path := _find(folder, f"{prefix}{len(found) + 1}"):
                found.append(path)
            if not found and prefix != "s" and (path := _find(folder, prefix.replace("speaker", "speech"))):
                found.append(path)
            if found:
                return found
        return []


def _turns_beside(paths: Sequence[Path]) -> Timeline | None:
    """The turns in the RTTM file that ``polsess separate`` writes beside its tracks, if there is one.

    An RTTM file of other names than the tracks' is another's, e.g. the true one beside a mixture.

    Raises:
        TimelineError: If a line is wrong.
    """
    path = _turns_of(paths[0]) if paths else None
    if path is None:
        return None
    turns = [turn for each in read_rttm(path).values() for turn in each]
    known = {turn.speaker for turn in turns} <= {*names_of_tracks(len(paths))}
    return sorted_timeline(turns) if known else None


def _turns_of(track: Path) -> Path | None:
    """The RTTM file beside a track, if there is one."""
    base = track.stem.rpartition("_")[0]
    path = track.with_name(f"{base}.rttm") if base else None
    return path if path is not None and path.is_file() else None


def write_estimates(folder: Path, identifier: str, estimates: Samples, sample_rate: int) -> None:
    """Write the estimates of one utterance, in the order of its references, as a ``FolderSystem`` reads them.

    Estimates that are not finite are left out; their scores give the reason.

    Raises:
        ConfigError: If the utterance's name cannot name a folder.
    """
    if Path(identifier).name != identifier or identifier.startswith("."):
        raise ConfigError(f"--save-estimates: '{identifier}' cannot be the name of a folder.")
    (folder / identifier).mkdir(parents=True, exist_ok=True)
    for number, estimate in enumerate(np.atleast_2d(estimates), start=1):
        if np.isfinite(estimate).all():
            target = folder / identifier / f"s{number}.wav"
            write_audio(target, torch.from_numpy(estimate), sample_rate, bits="32f")


def open_estimates(folder: Path, systems: Sequence[str] | None = None) -> list[System]:
    """The estimates in a folder: those of the systems named, or of all.

    Raises:
        ConfigError: If a system has no estimates there.
    """
    found = list(systems or list_systems(folder))
    if not found:
        raise ConfigError(
            f"{folder}: no estimates; expected <item>/<system>/s1.wav (or .flac) in every item, or what "
            "`polsess separate` writes. Files beside a mixture are references."
        )
    return [FolderSystem(folder, system) for system in found]


def list_systems(folder: Path) -> list[str]:
    """The systems with estimates of every item, sorted; ``""`` for files that no folder of a system holds."""
    items = list_items(folder)
    if not items and not any(folder.glob("*_speaker1.*")) and not any(folder.glob("*_speech.*")):
        raise ConfigError(
            f"{folder}: no estimates in it, expected <item>/<system>/s1.wav, or <item>_speaker1.wav as "
            "`polsess separate` writes them."
        )
    if not items:
        return [""]
    inside = [{path.name for path in (folder / item).iterdir() if path.is_dir()} for item in items]
    names = [
        name
        for name in sorted(set.intersection(*inside))
        if all(_has(folder / item / name, ("s1", "speaker1", "speech")) for item in items)
    ]
    # Beside folders of systems, or beside a mixture, s1 in the items themselves is a reference.
    are_references = bool(names) or any(_has(folder / item, ("mix",)) for item in items)
    stems = ("mix_speaker1", "mix_speech", *(() if are_references else ("s1", "speaker1", "speech")))
    return names or ([""] if all(_has(folder / item, stems) for item in items) else [])


def _has(folder: Path, stems: tuple[str, ...]) -> bool:
    return any(path.stem in stems for path in folder.iterdir())


def _find(folder: Path, stem: str) -> Path | None:
    """The sound file with a given name, if there is one; several are an error."""
    try:
        return find_sound(folder, stem)
    except FileNotFoundError:
        return None
