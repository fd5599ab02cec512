"""Records of an architecture and of its configurations, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A named configuration and its size.

    Attributes:
        name: As ``create_model(..., preset=name)`` takes it; ``default`` is no preset at all.
        parameters: Number of trained parameters.
        macs_per_second: Multiply-accumulates per second of audio at its rate, in a mixture of 4 s.
        num_sources: C.
        sample_rate: In Hz.
        causal: Whether estimates need no future beyond ``look_ahead_samples``.
        look_ahead_samples: None for the whole utterance.
    """

    name: str
    parameters: int
    macs_per_second: int
    num_sources: int
    sample_rate: int
    causal: bool
    look_ahead_samples: int | None


@dataclass(frozen=True)
class GoldenError:
    """Distance of the estimates from those of the reference implementation, with its weights.

    Attributes:
        reference: Toolkit or repository of the reference code.
        relative: Norm of the difference over the norm of the reference's estimates, float32, the largest of
            all golden cases.
    """

    reference: str
    relative: float


@dataclass(frozen=True)
class Architecture:
    """One registered model.

    Attributes:
        name: As users write it.
        title: The first sentence of its module.
        about: The paragraphs that follow there: papers, and differences from them.
        papers: The links within, the architecture's own first.
        precision: The reduced precision for training, or ``float32``.
        supports_compile: Whether ``torch.compile`` handles it.
        can_be_causal: Whether some configuration is causal.
        default: The published size that no preset needs to be named for.
        presets: All others, without the one for tests.
        golden_errors: Distances from its references.
    """

    name: str
    title: str
    about: tuple[str, ...]
    papers: tuple[str, ...]
    precision: str
    supports_compile: bool
    can_be_causal: bool
    default: Preset
    presets: tuple[Preset, ...]
    golden_errors: tuple[GoldenError, ...] = ()


def format_size(parameters: int) -> str:
    """Millions with two digits: ``5.05 M``."""
    return f"{parameters / 1e6:.2f} M"


def format_macs(macs_per_second: int) -> str:
    """Thousand millions per second of audio with three digits: ``4.97``."""
    return f"{macs_per_second / 1e9:.3g}"


def format_causality(architecture: Architecture) -> str:
    """The ready configurations that are causal, and how far they look ahead."""
    if not architecture.can_be_causal:
        return "no"
    ready = [
        f"{each.name} ({each.look_ahead_samples} samples ahead)"
        for each in (architecture.default, *architecture.presets)
        if each.causal
    ]
    return ", ".join(ready) or "by configuration"
