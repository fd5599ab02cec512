"""Our own folder: ``config.json``, ``model.safetensors`` and a ``README.md`` card, bound by a SHA-256."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from polsess.checkpoints.card import model_card
from polsess.checkpoints.formats import Converted, Reader, register_reader
from polsess.checkpoints.measured import MeasuredResult
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of, without_prefix
from polsess.files import sha256
from polsess.models import Network
from polsess.publication import atomic_folder

SCHEMA_VERSION = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_LIBRARY = "polsess"


def save_model(
    model: Network,
    folder: str | Path,
    *,
    task: str | None = None,
    license_name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    results: Sequence[MeasuredResult] = (),
    half_precision: bool = False,
) -> Path:
    """Write a model as a folder that ``load_model`` and the Hugging Face hub take.

    The folder appears whole or not at all; an older model in it is replaced only at the end.

    Args:
        model: The model.
        folder: Folder that receives the model. It may hold an older model, but nothing else.
        task: The task it was trained for.
        license_name: The licence of the weights as the hub writes it, e.g. ``"cc-by-nc-4.0"``.
        provenance: Origin of the weights: plain data for ``config.json``.
        metrics: Scores by their names, e.g. ``{"SI-SDRi (dB)": 14.7}``; they are printed in the card.
        results: What ``polsess.evaluation.measured_result`` read of evaluations; printed in the card, with
            how to measure it again.
        half_precision: Store weights in 16 bits: half the size, 3 decimal digits.

    Returns:
        The folder.

    Raises:
        CheckpointError: If a weight is not finite (in the stored precision), or the folder holds other files.
    """
    target = Path(folder)
    refuse_other_files(target, (CONFIG, WEIGHTS, CARD))
    constants = {
        key for key, value in model.named_parameters(remove_duplicate=False) if not value.requires_grad
    }
    state = {
        key: stored_tensor(key, value, half_precision and key not in constants)
        for key, value in model.state_dict().items()
    }
    with atomic_folder(target) as temporary:
        save_file(state, temporary / WEIGHTS, metadata={"format": "pt"})
        config = {
            "library_name": _LIBRARY,
            "schema_version": SCHEMA_VERSION,
            "model_type": model.model_type,
            "model": model.config.model_dump(mode="json"),
            "task": task,
            "weights": {"file": WEIGHTS, "sha256": sha256(temporary / WEIGHTS), "half": half_precision},
            "metrics": plain_data(metrics or {}),
            "results": [each.model_dump(mode="json") for each in results],
            "provenance": plain_data(provenance or {}),
        }
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        card = model_card(
            model,
            task=task,
            license_name=license_name,
            metrics=metrics or {},
            results=results,
            provenance=provenance,
            half_precision=half_precision,
        )
        (temporary / CARD).write_text(card, encoding="utf-8")
    return target


def plain_data(value: Any) -> Any:
    """A value as JSON can hold it: other kinds, and numbers that are not finite, become text."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(child) for child in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def is_native_config(content: Any) -> bool:
    """Whether a ``config.json`` is one of ours."""
    return isinstance(content, Mapping) and content.get("library_name") == _LIBRARY


@register_reader
class NativeReader(Reader):
    """``config.json`` and ``model.safetensors`` of this library."""

    format = "polsess"
    rank = 0

    def recognises(self, files: WeightFiles) -> bool:
        named = files.main in (None, CONFIG, WEIGHTS)
        return named and files.has(CONFIG, WEIGHTS) and is_native_config(files.json(CONFIG))

    def near_miss(self, files: WeightFiles) -> str | None:
        if files.main in (None, CONFIG, WEIGHTS) and files.has(CONFIG) != files.has(WEIGHTS):
            there, missing = (CONFIG, WEIGHTS) if files.has(CONFIG) else (WEIGHTS, CONFIG)
            return f"{there} is there, {missing} is missing; a model folder needs both."
        return None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, content = files.folder / CONFIG, files.json(CONFIG)
        if config is not None:
            raise CheckpointError(f"{where}: holds the configuration; leave config out.")
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise CheckpointError(
                f"{where}: schema version {version!r}, this release reads {SCHEMA_VERSION}; "
                "update polsess or convert the model again."
            )
        model, weights = content.get("model"), content.get("weights")
        if not isinstance(model, Mapping) or not isinstance(weights, Mapping):
            raise CheckpointError(f"{where}: the sections model and weights must be mappings.")
        _verify(files.folder / WEIGHTS, weights.get("sha256"))
        notes = {"metrics": content.get("metrics"), **(content.get("provenance") or {})}
        notes |= {"results": content["results"]} if content.get("results") else {}
        return Converted(dict(model), files.safetensors(WEIGHTS), notes, content.get("task"))


def _verify(path: Path, expected: Any) -> None:
    found = sha256(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: SHA-256 is {found}, {CONFIG} says {expected}; the file is damaged or was exchanged."
        )


def stored_tensor(key: str, value: Tensor, half_precision: bool) -> Tensor:
    """A tensor of a state with memory of its own, as safetensors files take it.

    Raises:
        CheckpointError: If it is not finite (in the stored precision).
    """
    value = value.detach().cpu()
    if half_precision and value.is_floating_point():
        value = value.to(torch.float16)
    if value.is_floating_point() and not bool(value.isfinite().all()):
        precision = "16 bits" if half_precision else "the model"
        raise CheckpointError(f"{key}: NaN or infinite values in {precision}; such weights are not saved.")
    return value.clone(memory_format=torch.contiguous_format)


def refuse_other_files(target: Path, names: Collection[str]) -> None:
    """See that nothing else would be lost with a folder that is replaced.

    Raises:
        CheckpointError: If it holds files of other names, or is a file.
    """
    if target.is_dir():
        others = sorted(path.name for path in target.iterdir() if path.name not in names)
        if others:
            raise CheckpointError(f"{target}: holds other files ({others[0]}); choose an empty folder.")
    elif target.exists():
        raise CheckpointError(f"{target}: is a file; choose a folder.")


_KEYS = {"polsess_config", "state_dict"}


@register_reader
class TrainingReader(Reader):
    """``polsess_config`` (plain data with ``model``) and ``state_dict`` with the model under ``model.``."""

    format = "training"

    def recognises(self, files: WeightFiles) -> bool:
        return len(self._names(files)) > 0

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, content = files.only_torch_dict(self._names(files))
        stored = content["polsess_config"]
        if not isinstance(stored, Mapping) or not isinstance(stored.get("model"), Mapping):
            raise CheckpointError(f"{where}: polsess_config has no model section.")
        if config is not None:
            raise CheckpointError(f"{where}: holds its configuration; leave config out.")
        state = without_prefix(state_of(content["state_dict"], where), "model.")
        notes = {key: content[key] for key in ("epoch", "global_step") if isinstance(content.get(key), int)}
        if isinstance(content.get("polsess_origin"), Mapping):
            notes["started_from"] = dict(content["polsess_origin"])
        task = stored.get("task")
        return Converted(
            dict(stored["model"]),
            state,
            {**notes, "config": dict(stored)},
            task if isinstance(task, str) else None,
        )

    def _names(self, files: WeightFiles) -> list[str]:
        return [name for name in files.candidates("*.ckpt") if _is_ours(files.torch_file(name))]


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and content.keys() >= _KEYS
