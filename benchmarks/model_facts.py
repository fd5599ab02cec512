"""Facts of docs/MODELS.md that take minutes: MACs of every preset, and how far goldens are from references.

Counts are of one second of audio at the model's rate. The distance of a golden is the norm of our estimates
minus the reference's over the norm of the reference's, in float32, the largest of its cases.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from polsess import files
from polsess.checkpoints import load_model
from polsess.costs import count_macs
from polsess.models import SeparationModel, create_model, list_models, list_presets, parse_model_config

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden"
STORED = ROOT / "src/polsess/overview/model_facts.json"
TOOLKITS = {
    "ast": "Asteroid",
    "sb": "SpeechBrain",
    "polsess": "the original polsess",
    "mossformer2": "ClearerVoice",
    "tfgridnet": "ESPnet",
    "tfgridnetv2": "ESPnet",
    "dpmamba": "the authors' code",
    "mambatasnet": "the authors' code",
    "sepreformer": "the authors' code",
    "spmamba": "the authors' code",
    "tflocoformer": "the authors' code",
}
"""Whose code computed a golden folder, by the first word of its name."""
UNTOLD: dict[str, dict[str, Any]] = {
    "dpmamba": {"chunk_size": 20, "skip_around_intra": True},
    "mossformer2": {"group_size": 16},
    "mossformer2_whamr_map": {"group_size": 8},
}
"""What the files of a golden folder do not tell about its network."""


def macs_of_presets(name: str) -> dict[str, int]:
    """MACs per second of audio of the default and of every preset; equal configurations are counted once."""
    counted: dict[str, int] = {}
    found = {}
    for preset in (None, *(each for each in list_presets(name) if each != "tiny")):
        config = parse_model_config({"model_type": name} | ({"preset": preset} if preset else {}))
        key = config.model_dump_json()
        if key not in counted:
            with torch.device("meta"):
                counted[key] = round(count_macs(create_model(config)).per_second)
        found[preset or "default"] = counted[key]
    return found


def golden_folders() -> list[Path]:
    """Those that hold a whole network."""
    return [path for path in sorted(GOLDEN.iterdir()) if path.name.partition("_")[0] in TOOLKITS]


def golden_error(folder: Path) -> tuple[str, float]:
    """The architecture of a golden folder and the distance of its estimates, relative."""
    model = load_model(folder, config=UNTOLD.get(folder.name))
    cases = json.loads((folder / "meta.json").read_text())["cases"]
    return model.model_type, max(_distance(model, load_file(folder / case["file"])) for case in cases)


def _distance(model: SeparationModel, tensors: dict[str, torch.Tensor]) -> float:
    expected = tensors["estimate"]
    model.eval()
    found = model(tensors["mixture"]).detach().view(*expected.shape[:-1], -1)[..., : expected.shape[-1]]
    return float((found - expected).norm() / expected.norm())


def parity() -> dict[str, dict[str, float]]:
    """The largest distance of each architecture by whose code it is compared with."""
    found: dict[str, dict[str, float]] = {}
    for folder in golden_folders():
        name, error = golden_error(folder)
        by_toolkit = found.setdefault(name, {})
        toolkit = TOOLKITS[folder.name.partition("_")[0]]
        by_toolkit[toolkit] = max(by_toolkit.get(toolkit, 0.0), float(f"{error:.1e}"))
    return found


def main() -> None:
    """Write the facts; `polsess models --markdown > docs/MODELS.md` then shows them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=STORED)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    facts = {
        "macs_per_second": {name: macs_of_presets(name) for name in list_models()},
        "golden_errors": parity(),
    }
    files.write_text(chosen.out, json.dumps(facts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
