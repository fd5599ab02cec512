"""The card of a saved model: front matter for the Hugging Face hub, and how to use the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from polsess.models import Network
from polsess.text_tables import markdown


def model_card(
    model: Network,
    *,
    task: str | None,
    license_name: str | None,
    metrics: Mapping[str, float],
    started_from: Any = None,
) -> str:
    """The text of ``README.md``.

    Args:
        model: The model that is saved.
        task: The task, if it was trained for one.
        license_name: The licence as the hub writes it; None leaves it open, and the card says so.
        metrics: Scores by their names.
        started_from: The weights that a fine-tuned model was started from: ``source`` and ``sha256`` by file.
    """
    pipeline, tag = model.hub_tags
    front = {
        "library_name": "polsess",
        "pipeline_tag": pipeline,
        "tags": [tag, model.model_type],
        **({"license": license_name} if license_name else {}),
    }
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "architecture": model.model_type,
        "parameters": f"{num_parameters:,}",
        "output": model.output_text,
        "sample rate": f"{model.sample_rate} Hz",
        **({"task": task} if task else {}),
        "licence of the weights": license_name or "not stated",
        **_origin(started_from),
        **{name: f"{value:.4g}" for name, value in metrics.items()},
    }
    table = markdown(("", ""), [(name, str(value)) for name, value in facts.items()])
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"
        f"# {model.model_type}\n\n{table}\n\n"
        f"```python\n{model.example_code}\n```\n"
    )


def _origin(started_from: Any) -> dict[str, str]:
    if not isinstance(started_from, Mapping):
        return {}
    source, digests = started_from.get("source"), started_from.get("sha256")
    if not isinstance(source, str) or not isinstance(digests, Mapping):
        return {}
    files = ", ".join(f"{name} {digest}" for name, digest in digests.items())
    return {"started from": _one_cell(source), "its SHA-256": _one_cell(files)}


def _one_cell(text: str) -> str:
    """Text from a file, so that it cannot leave its cell of a Markdown table."""
    return " ".join(re.sub(r"[|<>`\[\]]", " ", text).split())
