"""Findings of an audit and their severity."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from polsess.files import write_text
from polsess.text_tables import markdown


class Kind(StrEnum):
    """One kind of finding."""

    BAD_TABLE = "bad_table"
    MISSING_FILE = "missing_file"
    UNREADABLE_FILE = "unreadable_file"
    WRONG_RATE = "wrong_rate"
    WRONG_LENGTH = "wrong_length"
    WRONG_CHANNELS = "wrong_channels"
    NOT_THE_SUM = "not_the_sum_of_its_layers"
    SILENT = "silent"
    DUPLICATE_ROW = "duplicate_row"
    DUPLICATE_AUDIO = "duplicate_audio"
    SAME_SOURCE = "same_source_twice"
    LEAKED_SOURCE = "source_in_two_splits"
    LEAKED_AUDIO = "audio_in_two_splits"
    SAME_SPEAKER = "same_speaker_twice"
    LEAKED_SPEAKER = "speaker_in_two_splits"
    SHARED_BY_TESTS = "in_val_and_test"
    REPEATED_LAYER = "repeated_layer"
    CLIPPED = "clipped"
    UNEQUAL_VARIANTS = "layers_do_not_come_out"
    SILENT_REVERB = "silent_reverb"

    @property
    def broken(self) -> bool:
        """Whether a corpus with this finding is broken; the others are warnings."""
        return self not in _WARNINGS


_WARNINGS = {
    Kind.SAME_SPEAKER,
    Kind.LEAKED_SPEAKER,
    Kind.SHARED_BY_TESTS,
    Kind.REPEATED_LAYER,
    Kind.CLIPPED,
    Kind.UNEQUAL_VARIANTS,
    Kind.SILENT_REVERB,
}
_COLUMNS = ("severity", "kind", "split", "row", "file", "detail")


@dataclass(frozen=True)
class Finding:
    """One finding."""

    kind: Kind
    split: str
    row: int | None
    """Line of the split's CSV; None if the finding is not about a row."""
    file: str
    detail: str

    @property
    def severity(self) -> str:
        """``broken`` or ``warning``."""
        return "broken" if self.kind.broken else "warning"


@dataclass(frozen=True)
class AuditResult:
    """All findings in a corpus."""

    findings: Sequence[Finding]
    num_rows: dict[str, int]
    """Rows by split."""
    num_files: int
    largest_residual: int | None
    """Largest difference of a mixture from its layers in steps of 16 bits; None if only headers were read."""

    @property
    def broken(self) -> bool:
        """Whether any finding means a broken corpus."""
        return any(finding.kind.broken for finding in self.findings)

    def table(self) -> str:
        """Markdown table of the findings by kind, the broken first, with the first example of each."""
        counts = Counter((finding.kind, finding.split) for finding in self.findings)
        first = {(one.kind, one.split): one for one in reversed(self.findings)}
        rows = []
        for key in sorted(counts, key=lambda key: (not key[0].broken, list(Kind).index(key[0]), key[1])):
            one = first[key]
            where = f"row {one.row}: " if one.row else ""
            row = (one.severity, str(key[0]), key[1], str(counts[key]), f"{where}{one.file} {one.detail}")
            rows.append(row)
        return markdown(("", "what", "split", "count", "first"), rows) if rows else "Nothing found."

    def summary(self) -> str:
        """One line with the numbers of rows, files and findings."""
        rows = ", ".join(f"{split} {count}" for split, count in self.num_rows.items())
        broken = sum(finding.kind.broken for finding in self.findings)
        text = f"Rows: {rows}; files: {self.num_files}; "
        text += f"broken: {broken}; warnings: {len(self.findings) - broken}"
        if self.largest_residual is not None:
            text += f"; mixture minus layers: at most {self.largest_residual} steps of 16 bits"
        return text + "."


def save_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write all findings as a CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for one in findings:
        writer.writerow([one.severity, one.kind, one.split, one.row or "", one.file, one.detail])
    write_text(path, text.getvalue())
