"""The card of a saved model: front matter for the Hugging Face hub, what was measured, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from polsess.checkpoints.measured import MeasuredResult, hub_index, name_of_corpus, one_cell, results_section
from polsess.models import Network
from polsess.text_tables import markdown

THIS_FOLDER = "path/of/this/folder"
"""The model's name in the lines of code of its card, where nobody knows where it will lie."""


def model_card(
    model: Network,
    *,
    task: str | None,
    license_name: str | None,
    metrics: Mapping[str, float],
    results: Sequence[MeasuredResult] = (),
    provenance: Mapping[str, Any] | None = None,
    half_precision: bool = False,
) -> str:
    """The text of ``README.md``.

    Args:
        model: The model that is saved.
        task: The task, if it was trained for one.
        license_name: The licence as the hub writes it; None leaves it open, and the card says so.
        metrics: Scores by their names.
        results: What was measured of it, corpus by corpus.
        provenance: Origin of the weights; what is known of its keys is told.
        half_precision: Whether the weights are stored in 16 bits.
    """
    pipeline, tag = model.hub_tags
    front = {
        "library_name": "polsess",
        "pipeline_tag": pipeline,
        "tags": [tag, model.model_type],
        **({"license": license_name} if license_name else {}),
        **({"model-index": hub_index(results, model.model_type, pipeline)} if results else {}),
    }
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "architecture": model.model_type,
        "parameters": f"{num_parameters:,}",
        "output": model.output_text,
        "sample rate": f"{model.sample_rate} Hz",
        **({"task": task} if task else {}),
        "licence of the weights": license_name or "not stated",
        **_origin(provenance or {}),
        **{name: f"{value:.4g}" for name, value in metrics.items()},
    }
    table = markdown(("", ""), [(name, str(value)) for name, value in facts.items()])
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {model.model_type}",
        table,
        f"```python\n{model.example_code(THIS_FOLDER)}\n```",
        results_section(results, THIS_FOLDER) if results else _UNMEASURED,
        *([_ROUNDED] if results and half_precision else []),
    ]
    return "\n\n".join(parts) + "\n"


_UNMEASURED = (
    "No evaluation of these weights by this library is recorded here. `polsess evaluate` makes one, and "
    "`polsess convert --evaluation` writes it into this card."
)
_ROUNDED = "The weights of this folder were rounded to 16 bits after that."


def _origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Rows on where the weights came from; files may state anything under these keys."""
    found: dict[str, str] = {}
    if text := _started_from(provenance.get("started_from")):
        found |= text
    config = provenance.get("config")
    if isinstance(config, Mapping) and isinstance(config.get("corpus"), Mapping):
        found["trained on"] = one_cell(name_of_corpus(config["corpus"]))
    converted = provenance.get("converted_from")
    if isinstance(converted, Mapping):
        revision = f" at {converted['revision']}" if converted.get("revision") else ""
        found["converted from"] = one_cell(f"{converted.get('source')}{revision} ({converted.get('format')})")
    averaged = provenance.get("averaged_from")
    if isinstance(averaged, list | tuple):
        found["averaged"] = one_cell(f"mean of the weights of {', '.join(map(str, averaged))}")
    published = provenance.get("published")
    if isinstance(published, Mapping):
        found |= {f"{key}, as its authors state": one_cell(str(value)) for key, value in published.items()}
    return found


def _started_from(started_from: Any) -> dict[str, str]:
    if not isinstance(started_from, Mapping):
        return {}
    source, digests = started_from.get("source"), started_from.get("sha256")
    if not isinstance(source, str) or not isinstance(digests, Mapping):
        return {}
    files = ", ".join(f"{name} {digest}" for name, digest in digests.items())
    return {"started from": one_cell(source), "its SHA-256": one_cell(files)}
