"""The card of a saved model: front matter for the Hugging Face hub, and how to use the weights."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from polsess.models import SeparationModel


def model_card(
    model: SeparationModel, *, task: str | None, license_name: str | None, metrics: Mapping[str, float]
) -> str:
    """The text of ``README.md``.

    Args:
        model: The model that is saved.
        task: The PolSESS task, if it was trained for one.
        license_name: The licence as the hub writes it; None leaves it open, and the card says so.
        metrics: Scores by their names.
    """
    front = {
        "library_name": "polsess",
        "pipeline_tag": "audio-to-audio",
        "tags": ["speech-separation" if model.output_sources > 1 else "speech-enhancement", model.model_type],
        **({"license": license_name} if license_name else {}),
    }
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "architecture": model.model_type,
        "parameters": f"{num_parameters:,}",
        "sources": model.output_sources,
        "sample rate": f"{model.sample_rate} Hz",
        **({"task": task} if task else {}),
        "licence of the weights": license_name or "not stated",
        **{name: f"{value:.4g}" for name, value in metrics.items()},
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"
        f"# {model.model_type}\n\n| | |\n|---|---|\n{rows}\n\n"
        "```python\nfrom polsess import load_model\n\n"
        'model = load_model("path/of/this/folder")\nestimates = model(mixture)  # [B, T] -> [B, C, T]\n```\n'
    )
