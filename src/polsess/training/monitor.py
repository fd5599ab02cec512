"""The validation score of a run that decides the best checkpoint, the learning rate and the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Monitor:
    """One score of a validation."""

    column: str
    """Its column in ``metrics.csv``."""
    label: str
    """What the field calls it."""
    unit: str
    """Empty for shares from 0 to 1."""
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """Label and unit, for headers of tables and pictures."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def key(self) -> str:
        """Name and unit in JSON."""
        unit = {"%": "percent"}.get(self.unit, self.unit.lower())
        return "_".join(part for part in (self.column.removeprefix("val_"), unit) if part)

    def gain(self, value: float) -> float:
        """The score so that more is better; the gain of a gain is the score again."""
        return value if self.higher_is_better else -value

    def show(self, value: float) -> str:
        """The score with its unit."""
        return f"{value:.2f} {self.unit}" if self.unit else f"{value:.3f}"


_SEPARATION = Monitor("val_si_snri", "SI-SNRi", "dB")
_MONITORS = {
    "OSD": Monitor("val_overlap_f1", "F1 of overlap", ""),
    "SV": Monitor("val_eer", "EER", "%", higher_is_better=False),
}


def monitor_of(task: str) -> Monitor:
    """The score that decides in runs of a task: improvement of SI-SNR where signals are estimated."""
    return _MONITORS.get(task, _SEPARATION)
