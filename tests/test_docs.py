"""What the documents show must run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from polsess.models import MODEL_REGISTRY, create_model

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def links(document: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    missing = [link for link in links(document) if not (document.parent / link).exists()]
    assert not missing


def test_the_model_of_the_guide_works(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/adding_a_model.md").read_text(), re.S)
    try:
        (tmp_path / "echo.py").write_text(code)
        runpy.run_path(str(tmp_path / "echo.py"))
        assert create_model("echo", num_sources=3)(torch.ones(1, 10)).shape == (1, 3, 10)
    finally:
        MODEL_REGISTRY.pop("echo", None)
