"""Systems by the paths or names of models: each alone, averaged, or one behind another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from polsess.checkpoints import CheckpointError, read_checkpoint
from polsess.checkpoints.building import build_model
from polsess.evaluation.onnx_systems import OnnxSystem
from polsess.evaluation.systems import ModelSystem, System, absolute_source
from polsess.inference import pick_device
from polsess.models.combination import combine
from polsess.onnx_files import is_onnx
from polsess.precision import Precision
from polsess.schema import ConfigError
from polsess.tasks import Task


def open_models(
    sources: Sequence[str], device: str = "auto", precision: Precision = "float32"
) -> list[System]:
    """Load models by path or name, each under a unique name.

    Raises:
        CheckpointError: If weights cannot be used.
        ValueError: If an ONNX file is to run elsewhere than on the processor, or not in float32.
    """
    names = zip(sources, distinct_names(sources), strict=True)
    return [open_model(source, name, device, precision) for source, name in names]


def open_model(
    source: str, name: str, device: str = "auto", precision: Precision = "float32"
) -> ModelSystem | OnnxSystem:
    """Load one model by its path or name, also an ONNX file, under a name.

    Raises:
        As ``open_models``.
    """
    if is_onnx(source):
        return _open_onnx(source, name, device, precision)
    return _open_model(source, name, pick_device(device), precision)


def open_combined(
    sources: Sequence[str],
    device: str = "auto",
    precision: Precision = "float32",
    *,
    ensemble: bool = False,
    num_shifts: int = 1,
    then: str | None = None,
) -> list[System]:
    """As ``open_models``, each model averaged over shifts and followed by another, or all as one ensemble.

    Raises:
        CheckpointError: If weights cannot be used.
        ValueError: If they do not fit together.
    """
    if not ensemble and num_shifts == 1 and then is None:
        return open_models(sources, device, precision)
    if in_onnx := [each for each in (*sources, then or "") if is_onnx(each)]:
        raise ConfigError(f"{in_onnx[0]}: ONNX files run alone, without --ensemble, --shifts and --then.")
    chosen = pick_device(device)
    groups = [list(sources)] if ensemble else [[source] for source in sources]
    names = distinct_names(sources)
    last = None if then is None else _open_model(then, distinct_names([then])[0], chosen, precision)
    systems: list[System] = []
    for group in groups:
        members = [_open_model(each, names[sources.index(each)], chosen, precision) for each in group]
        name = "+".join(each.name for each in members)
        name += f"-shifts{num_shifts}" if num_shifts != 1 else ""
        name += f"-then-{last.name}" if last else ""
        model = combine(
            [each.model for each in members], num_shifts=num_shifts, then=last.model if last else None
        )
        separates = last is None or members[0].model.output_sources > 1
        task = members[0].task if separates or last is None else last.task
        systems.append(ModelSystem(model, name, chosen, task=task, precision=precision))
    return systems


def _open_model(source: str, name: str, device: torch.device, precision: Precision) -> ModelSystem:
    checkpoint = read_checkpoint(source)
    model = build_model(checkpoint.config, checkpoint.state, source)
    task = Task(checkpoint.task) if checkpoint.task in set(Task) else None
    return ModelSystem(model, name, device, absolute_source(source), task, precision)


def _open_onnx(source: str, name: str, device: str, precision: Precision) -> OnnxSystem:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device}: ONNX files run on the processor; use auto or cpu.")
    if precision not in ("auto", "float32"):
        raise ConfigError(f"--precision {precision}: ONNX files run in the precision that they have.")
    try:
        return OnnxSystem(source, name)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def distinct_names(sources: Sequence[str]) -> list[str]:
    """File or folder names without suffix; with the folders above where these alone are the same."""
    paths = [Path(source).with_suffix("") if Path(source).is_file() else Path(source) for source in sources]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["-".join(part for part in path.parts[-depth:] if part.strip("/.")) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"The same model is named twice: {', '.join(sources)}.")
