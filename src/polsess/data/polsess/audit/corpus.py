"""The audit of all splits: each row, and duplicates and leakage between rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from polsess.data.base import Split
from polsess.data.polsess.audit.findings import AuditResult, Finding, Kind
from polsess.data.polsess.audit.rows import RowReport, RowTask, check_row
from polsess.data.polsess.layers import FOLDERS, MAX_SPEAKERS, speaker_files
from polsess.data.polsess.table import PolSESSRow, find_table, read_table
from polsess.processes import map_parallel

_SPEECH = tuple(f"speech{n}OryginalPath" for n in range(1, MAX_SPEAKERS + 1))
_FEW, _FEW_HEADERS = 500, 50_000
"""Numbers of rows below which one process is faster, with samples and for headers alone."""


@dataclass(frozen=True)
class _Entry:
    split: str
    row: PolSESSRow

    def finding(self, kind: Kind, file: str, detail: str) -> Finding:
        return Finding(kind, self.split, self.row.number, file, detail)

    @property
    def place(self) -> str:
        return f"{self.split} row {self.row.number}"

    def file(self, column: str) -> str:
        return f"{FOLDERS[column]}/{self.row.files[column]}"


def audit_polsess(
    root: Path,
    *,
    headers_only: bool = False,
    num_workers: int = 1,
    on_start: Callable[[int], None] = lambda _: None,
    on_row: Callable[[], None] = lambda: None,
) -> AuditResult:
    """Check every row of a corpus.

    Args:
        root: Folder with the splits.
        headers_only: Whether to skip the samples: no sums, no silence, no duplicate audio.
        num_workers: Number of processes that read files.
        on_start: Called once with the number of rows.
        on_row: Called after every row.

    Raises:
        FileNotFoundError: If there is no corpus.
    """
    entries, findings = _read_tables(root)
    on_start(len(entries))
    tasks = [RowTask(root / entry.split, entry.split, entry.row, headers_only) for entry in entries]
    reports: list[RowReport] = []
    workers = num_workers if len(tasks) >= (_FEW_HEADERS if headers_only else _FEW) else 1
    for report in map_parallel(check_row, tasks, workers, chunksize=64):
        reports.append(report)
        on_row()
    findings += [finding for report in reports for finding in report.findings]
    findings += [*_rates(entries, reports), *_repeated_rows(entries), *_slots(entries), *_leaks(entries)]
    findings += _repeated_audio(entries, reports)
    residuals = [report.residual for report in reports if report.residual is not None]
    return AuditResult(
        findings,
        dict(Counter(entry.split for entry in entries)),
        sum(len(entry.row.files) for entry in entries),
        None if headers_only else max(residuals, default=0),
    )


def _read_tables(root: Path) -> tuple[list[_Entry], list[Finding]]:
    entries: list[_Entry] = []
    findings: list[Finding] = []
    splits = [split for split in Split if (root / split).is_dir()]
    if not splits:
        raise FileNotFoundError(f"{root}: expected a folder with train, val or test in it.")
    for split in splits:
        try:
            entries += [_Entry(split, row) for row in read_table(find_table(root, split))]
        except (OSError, ValueError) as error:
            findings.append(Finding(Kind.BAD_TABLE, split, None, split.value, str(error)))
    return entries, findings


def _rates(entries: Sequence[_Entry], reports: Sequence[RowReport]) -> Iterable[Finding]:
    """Mixtures of another rate than most."""
    rates = Counter(report.rate for report in reports if report.rate is not None)
    if len(rates) < 2:
        return
    (usual, _), *_ = rates.most_common()
    for entry, report in zip(entries, reports, strict=True):
        if report.rate not in (None, usual):
            detail = f"has {report.rate} Hz, most mixtures {usual}"
            yield entry.finding(Kind.WRONG_RATE, entry.file("mixFile"), detail)


def _repeated_rows(entries: Sequence[_Entry]) -> Iterable[Finding]:
    """The same mixture file, or the same places of the same sources, in two rows."""
    seen: dict[tuple[object, ...], _Entry] = {}
    for entry in entries:
        sources = tuple(sorted(entry.row.sources.items()))
        # A place without a first sample or without a speaker does not identify a row.
        known = len(sources) == 2 + entry.row.num_speakers and all(start for _, (_, start) in sources)
        keys: list[tuple[object, ...]] = [(entry.split, entry.row.files["mixFile"])]
        if known:
            keys.append(sources)
        for key in keys:
            first = seen.setdefault(key, entry)
            if first is not entry:
                yield entry.finding(Kind.DUPLICATE_ROW, entry.file("mixFile"), f"repeats {first.place}")
                break


def _slots(entries: Sequence[_Entry]) -> Iterable[Finding]:
    """Two speakers from one file or one person."""
    for entry in entries:
        row = entry.row
        sources = [row.sources[column][0] for column in _SPEECH if column in row.sources]
        files = [row.files[column] for column in speaker_files(row.num_speakers)]
        for names in (files, sources):
            if repeated := [name for name in names if names.count(name) > 1]:
                name = sources[0] if names is files and sources else repeated[0]
                yield entry.finding(Kind.SAME_SOURCE, name, "is two speakers")
                break
        else:
            voices = row.speakers if len(sources) == row.num_speakers else []
            if repeated := [name for name in voices if voices.count(name) > 1]:
                yield entry.finding(Kind.SAME_SPEAKER, repeated[0], "is two speakers")


def _leaks(entries: Sequence[_Entry]) -> Iterable[Finding]:
    """Source files and speakers in more than one split, each once per further split.

    A file of both validation and test is no leak into training; the published corpora share scenes there.
    """
    seen: dict[tuple[Kind, str], dict[str, _Entry]] = {}
    for entry in entries:
        used = [(Kind.LEAKED_SOURCE, source) for source, _ in entry.row.sources.values()]
        used += [
            (Kind.LEAKED_SPEAKER, str(entry.row.metadata[f"speaker{n}"]))
            for n, column in enumerate(_SPEECH, start=1)
            if column in entry.row.sources
        ]
        for key in used:
            places = seen.setdefault(key, {})
            if entry.split in places:
                continue
            if places:
                is_file = key[0] is Kind.LEAKED_SOURCE
                kind = _leak(key[0], {entry.split, *places}) if is_file else key[0]
                yield entry.finding(kind, key[1], f"is also in {next(iter(places.values())).place}")
            places[entry.split] = entry


def _leak(kind: Kind, splits: Set[str]) -> Kind:
    """The kind of what is in several splits: a fault if training is one of them."""
    return kind if Split.TRAIN in splits else Kind.SHARED_BY_TESTS


def _repeated_audio(entries: Sequence[_Entry], reports: Sequence[RowReport]) -> Iterable[Finding]:
    """Equal samples under different names."""
    seen: dict[tuple[str, bytes], _Entry] = {}
    for entry, report in zip(entries, reports, strict=True):
        silent = {one.file for one in report.findings if one.kind in (Kind.SILENT, Kind.SILENT_REVERB)}
        heard: dict[bytes, str] = {}
        for n, column in enumerate(speaker_files(entry.row.num_speakers), start=1):
            first_heard = heard.setdefault(report.hashes.get(column, column.encode()), f"speaker {n}")
            if first_heard != f"speaker {n}":
                detail = f"holds the audio of {first_heard}"
                yield entry.finding(Kind.SAME_SOURCE, entry.file(column), detail)
        for column, digest in report.hashes.items():
            role = "speech" if column.startswith("speaker") else column
            first = seen.setdefault((role, digest), entry)
            if first is entry or entry.file(column) in silent:
                continue
            if column == "mixFile":
                kind = Kind.DUPLICATE_AUDIO
            else:
                within = first.split == entry.split
                kind = Kind.REPEATED_LAYER if within else _leak(Kind.LEAKED_AUDIO, {first.split, entry.split})
            yield entry.finding(kind, entry.file(column), f"has the samples of {first.place}")
