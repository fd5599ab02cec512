"""Recordings that mixtures are made of: speech, scenes, events, noise and rooms, from folders or CSVs."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PureWindowsPath

from polsess.audio import list_sounds, read_audio, read_audio_info
from polsess.data.base import Split
from polsess.data.tables import Row, cell, read_csv, resolve, split_cell
from polsess.data.transcripts import find_text, plain_words
from polsess.text_tables import counted

_READERS = 8
_PIECE = 2048
_CHAPTERS = re.compile(r"(?P<speaker>\d+)(_\d+_\d+(_\d+)?|-\d+-\d{4})")
"""Names of speaker, chapter and number, as the corpora of audio books have them."""
_SHARES = {Split.VAL: 0.1, Split.TEST: 0.1}
"""Shares of speakers, and of files of scenes and events, that have no split; the rest is for training."""


@dataclass(frozen=True)
class SourceFile:
    """One recording."""

    path: Path
    label: str
    """Speaker, class of the scene, or labels of the event separated by commas."""
    split: Split | None
    sex: str = "?"
    num_samples: int = 0
    sample_rate: int = 0
    text: str = ""
    """What is said, where a CSV says so."""


def list_sources(place: Path, *, speech: bool = False, labelled: bool = True) -> list[SourceFile]:
    """List the recordings below a folder or in a CSV in a fixed order, with their lengths and rates.

    A folder holds ``<label>/<file>`` or, where all its folders are called after splits, as ``train`` and
    ``dev-clean``, ``<split>/<label>/<file>``; of speech also
    ``<speaker>/<chapter>/<file>`` where the names of the files begin so, as in LibriSpeech. A CSV has the
    columns ``path`` and ``label`` (or ``speaker``, ``class`` or ``room``), and perhaps ``split``.

    Args:
        place: The folder or the CSV.
        speech: Whether labels are speakers; files directly in a folder are then labelled by their name.
        labelled: Whether a CSV must have labels; else the names of the files are used.

    Raises:
        FileNotFoundError: If there is no such place.
        ValueError: If nothing is in it, or the CSV is wrong.
        AudioError: If a file cannot be read.
    """
    found = find_sources(place, speech=speech, labelled=labelled)
    with ThreadPoolExecutor(_READERS) as pool:
        infos = list(pool.map(lambda one: read_audio_info(one.path), found))
    return [
        replace(one, num_samples=info.num_samples, sample_rate=info.sample_rate)
        for one, info in zip(found, infos, strict=True)
    ]


def find_sources(
    place: Path, *, speech: bool = False, labelled: bool = True, columns: Sequence[str] = ("path",)
) -> list[SourceFile]:
    """As ``list_sources``, without opening a file: lengths and rates are unknown.

    Args:
        place: The folder or the CSV.
        speech: Whether labels are speakers.
        labelled: Whether a CSV must have labels.
        columns: Columns that a CSV must have.

    Raises:
        FileNotFoundError: If there is no such place, or a file of the CSV is missing.
        ValueError: If nothing is in it, the CSV is wrong, or it is not clear which folder is a speaker's.
    """
    if not place.exists():
        raise FileNotFoundError(f"{place}: no folder or CSV is there.")
    found = _from_folder(place, speech) if place.is_dir() else _from_csv(place, speech, labelled, columns)
    if not found:
        raise ValueError(f"{place}: no sound files in it.")
    return found


def _from_folder(folder: Path, speech: bool) -> list[SourceFile]:
    paths = [(path, path.relative_to(folder).parts[:-1]) for path in list_sounds(folder).paths]
    splits = _splits_in(folder, {parts[0] if parts else "" for _, parts in paths})
    placed = [
        (path, parts[1:] if splits else parts, splits[parts[0]] if splits else None) for path, parts in paths
    ]
    levels = zip(*(parts for _, parts, _ in placed), strict=False)
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, levels)))
    found = []
    for path, parts, split in placed:
        label = parts[-1] if parts else path.stem
        if speech:
            label = _speaker_in(folder, path, parts, shared)
        found.append(SourceFile(path, label, split))
    return found


def _splits_in(folder: Path, names: Collection[str]) -> dict[str, Split]:
    """The splits that folders are called after, if all are: ``train`` among others is a speaker or a sound.

    Raises:
        ValueError: If several splits are there, and something that is in none.
    """
    splits = {name: split for name in names if (split := Split.named(name))}
    others = sorted(set(names) - set(splits))
    if not others:
        return splits
    if len(set(splits.values())) > 1:
        one = f"'{others[0]}'" if others[0] else "a file"
        raise ValueError(
            f"{folder}: {one} lies beside {', '.join(sorted(splits))}, but in no split; move it into one, or "
            "list all files in a CSV with path and split."
        )
    return {}


def _speaker_in(folder: Path, path: Path, parts: Sequence[str], shared: int) -> str:
    """Speaker of a file in folders, the first ``shared`` of which hold all files.

    Where its name begins with those of its folders (``p225/p225_001``, and in LibriSpeech, LibriTTS and MLS
    ``19/198/19-198-0000``, the speaker's before the chapter's), they say which is the speaker's.
    """
    for first in range(len(parts)):
        if re.match("[-_]".join(map(re.escape, parts[first:])) + "[-_]", path.name):
            return parts[first]
    apart = parts[min(shared, len(parts) - 1) :] if parts else ()
    if len(apart) > 1:
        raise ValueError(
            f"{folder}: which folder of '{path.relative_to(folder)}' is the speaker's? Arrange the files as "
            "<split>/<speaker>/<file>, or list them in a CSV with path, speaker and split."
        )
    return apart[0] if apart else speaker_of(path.name)


def speaker_of(source: str) -> str:
    """Speaker of a source file by its path in a list.

    The first part of a name as in MLS (``6892_10342_000056``), LibriTTS or LibriSpeech (``19-198-0000``),
    else the folder (the session in EMU).
    """
    path = PureWindowsPath(source)
    if match := _CHAPTERS.fullmatch(path.stem):
        return match["speaker"]
    return path.parent.name or path.stem


def _from_csv(table: Path, speech: bool, labelled: bool, columns: Sequence[str]) -> list[SourceFile]:
    rows = read_csv(table, columns)
    names = [name for name in ("label", "speaker", "class", "room") if name in rows[0][1]]
    if not names and labelled:
        raise ValueError(f"{table}: missing column label (or speaker, class or room).")
    found: dict[Path, tuple[int, SourceFile]] = {}
    for number, row in rows:
        one = _from_row(table, number, row, names[0] if names else None)
        line, first = found.setdefault(one.path, (number, one))
        if first is not one:
            differs = f" for {first.label}" if speech and first.label != one.label else ""
            raise ValueError(f"{table}, row {number}, path: {one.path.name} is in row {line} too{differs}.")
    return [one for _, one in found.values()]


def _from_row(table: Path, number: int, row: Row, label: str | None) -> SourceFile:
    split = split_cell(table, number, row)
    text = cell(table, number, row, "path")
    path = resolve(text, table.parent)
    if not path.exists():
        raise FileNotFoundError(f"{table}, row {number}: no file '{text}' beside it or beside its folder.")
    name = cell(table, number, row, label) if label else path.stem
    return SourceFile(path, name, split, row.get("sex") or "?", text=row.get("text", ""))


def split_sources(
    sources: Sequence[SourceFile], split: Split, *, by_label: bool, strict: bool
) -> list[SourceFile]:
    """The recordings of one split; none of them is in another.

    A hash assigns recordings without a split, ten per cent each to validation and test.

    Args:
        sources: All recordings.
        split: The wanted part.
        by_label: Whether all recordings with one label (a speaker) go to the same split.
        strict: Whether a file, or a label that goes together, in two splits is an error.

    Raises:
        ValueError: If nothing is left, or something is given for two splits.
    """
    if strict:
        _check_leakage(sources, by_label)
    found = [one for one in sources if (one.split or _deal(one, by_label)) is split]
    if not found:
        place = os.path.commonpath([one.path.parent for one in sources])
        there = ", ".join(sorted({one.split for one in sources if one.split}))
        raise ValueError(
            f"{place}: nothing in it is for split '{split}'"
            + (
                f", only for {there}; add a folder of that name, or give splits in a CSV."
                if there
                else "; give it in a CSV."
            )
        )
    return found


def _deal(source: SourceFile, by_label: bool) -> Split:
    key = source.label if by_label else source.path.name
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest()
    position = int.from_bytes(digest) / 2**64
    for split, share in _SHARES.items():
        if position < share:
            return split
        position -= share
    return Split.TRAIN


def _check_leakage(sources: Iterable[SourceFile], by_label: bool) -> None:
    places: dict[str, Split] = {}
    for one in sources:
        if one.split is None:
            continue
        for key in (str(one.path), one.label) if by_label else (str(one.path),):
            if (first := places.setdefault(key, one.split)) is not one.split:
                raise ValueError(
                    f"{one.path}: '{key}' is in {first} and in {one.split}; give it to one of them."
                )


def keep_long(sources: Sequence[SourceFile], seconds: float, where: str) -> list[SourceFile]:
    """Recordings that are longer than so many seconds; a warning counts the others.

    Args:
        sources: Recordings whose lengths are known.
        seconds: Length that is not enough.
        where: Their place, for messages.

    Raises:
        ValueError: If none is left.
    """
    kept = [one for one in sources if one.num_samples > round(seconds * one.sample_rate)]
    count = counted(len(sources), "recording")
    if not kept:
        longest = max(one.num_samples / one.sample_rate for one in sources)
        raise ValueError(
            f"{where}: none of {count} is longer than {seconds:g} s; the longest has {longest:.3g} s."
        )
    if short := len(sources) - len(kept):
        verb = "is" if short == 1 else "are"
        left = f"{short} of {count} {verb} not longer than {seconds:g} s and left out."
        warnings.warn(f"{where}: {left}", stacklevel=2)
    return kept


def keep_transcribed(sources: Sequence[SourceFile], where: str) -> list[SourceFile]:
    """Recordings of which it is known what is said, in plain words; a warning counts the others.

    Args:
        sources: Recordings of speech.
        where: Their place, for messages.

    Raises:
        ValueError: If none is left.
        TranscriptError: If a file beside one is no text.
    """
    texts = [plain_words(one.text or find_text(one.path)) for one in sources]
    known = [replace(one, text=text) for one, text in zip(sources, texts, strict=True) if text]
    if not known:
        raise ValueError(
            f"{where}: words is set, but no clip has a transcript; give a column text, or a text file beside "
            "each clip."
        )
    if len(known) < len(sources):
        missing = f"{len(sources) - len(known)} of {len(sources)} clips have no transcript"
        warnings.warn(f"{where}: {missing} and are left out.", stacklevel=2)
    return known


def drop_repeated(sources: Sequence[SourceFile], on_repeated: Callable[[str], None]) -> list[SourceFile]:
    """Leave out recordings that hold the samples of an earlier one.

    Only files of equal length are compared, first a piece from their middle, then all of it.

    Args:
        sources: Recordings in a fixed order.
        on_repeated: Called with a line for every recording that is left out.

    Raises:
        AudioError: If a file cannot be read.
    """
    forms = Counter((one.num_samples, one.sample_rate) for one in sources)
    pieces: dict[tuple[int, int, bytes], list[SourceFile]] = {}
    kept = []
    for one in sources:
        if forms[one.num_samples, one.sample_rate] > 1:
            alike = pieces.setdefault((one.num_samples, one.sample_rate, _middle(one)), [])
            first = next((other for other in alike if _same_samples(one, other)), None)
            if first is not None:
                on_repeated(f"{one.path} is {first.path}")
                continue
            alike.append(one)
        kept.append(one)
    return kept


def _middle(source: SourceFile) -> bytes:
    """A hash of the samples in the middle."""
    count = min(_PIECE, source.num_samples)
    samples, _ = read_audio(source.path, (source.num_samples - count) // 2, count)
    return hashlib.blake2b(samples.numpy().tobytes(), digest_size=16).digest()


def _same_samples(first: SourceFile, second: SourceFile) -> bool:
    one, other = (read_audio(source.path)[0] for source in (first, second))
    return one.shape == other.shape and bool((one == other).all())
