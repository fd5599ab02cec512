"""Published weights by their ids: the reader of ``catalogue.yaml``.

Licences are of the weights as their authors state them: corpora such as WSJ0 and WHAM! add conditions of
their own, which ``license_notes`` names.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from polsess.schema import Schema, parse
from polsess.yaml_files import read_yaml

Hub = Literal["huggingface", "modelscope", "github"]
_HUBS: dict[Hub, tuple[str, str]] = {  # page of an id, and the command that fetches its files
    "huggingface": ("https://huggingface.co/{}", "hf download {}"),
    "modelscope": ("https://modelscope.cn/models/{}", "modelscope download --model {} --local_dir FOLDER"),
    "github": ("https://github.com/{}", "git clone https://github.com/{} FOLDER"),
}


class Published(Schema):
    """One set of weights that somebody published."""

    hub_id: str
    """Owner and name on the hub."""
    hub: Hub = "huggingface"
    """Where the id is. Only the Hugging Face hub's files are fetched; ``download`` says how others are."""
    format: str
    """The reader of its files."""
    files: tuple[str, ...]
    """The files to fetch, all of them, of one folder."""
    model_type: str
    """The architecture here."""
    num_sources: int = Field(ge=1)
    """C, the number of estimates."""
    sample_rate: int = Field(default=8000, ge=1)
    """In Hz."""
    license: str | None = None
    """As the card states it; None where none was found."""
    license_notes: tuple[str, ...] = ()
    """Conditions that the corpora of the training add to the licence of the weights."""
    score: float | None = None
    """Improvement of SI-SDR in dB as the card states it; None where none was found."""
    si_snr: float | None = None
    """SI-SNR of the estimates in dB, where the card states that instead of an improvement."""
    corpus: str
    """Data of training and test."""
    benchmark: str | None = None
    """The test set of the score, whole ``min`` mixtures; None without a score or a reader of that set."""
    conditions: str = ""
    """Conditions of the score, as far as the card or its toolkit's documents state it."""
    revision: str | None = None
    """The commit that is loaded when none is asked for; None follows ``main``."""

    @property
    def task(self) -> Literal["separation", "enhancement"]:
        """Separation of speakers, or enhancement of one."""
        return "separation" if self.num_sources > 1 else "enhancement"

    @property
    def tolerance_db(self) -> float:
        """Largest difference of a score that is measured again: the card's rounding, and 0.05 dB.

        Toolkits differ by less than that in what they add against division by zero and in whether they
        subtract means.
        """
        digits = len(str(self.score).partition(".")[2])
        return float(round(0.5 * 10.0**-digits + 0.05, 4))

    @property
    def experiment(self) -> str:
        """The folder of the files within the publication; empty where they lie at its top."""
        return self.files[0].rpartition("/")[0]

    @property
    def stated_score(self) -> str:
        """The score as its authors state it, with its conditions; empty where none was found."""
        if self.score is None and self.si_snr is None:
            return ""
        score = f"SI-SDRi {self.score:g} dB" if self.score is not None else f"SI-SNR {self.si_snr:g} dB"
        return f"{score} ({self.conditions or 'conditions not stated'})"

    @property
    def page(self) -> str:
        """The model card, which states licence and score."""
        return _HUBS[self.hub][0].format(self.hub_id)

    @property
    def download(self) -> str:
        """The command that downloads the files."""
        return _HUBS[self.hub][1].format(self.hub_id)


class _Note(Schema):
    words: tuple[str, ...]
    note: str


class _Toolkit(Schema):
    """Publications of one format; its other keys are theirs where they state none."""

    format: str
    hub: Hub = "huggingface"
    files: tuple[str, ...] = ()
    license: str | None = None
    conditions: str = ""
    publications: dict[str, dict[str, Any]]


class _Catalogue(Schema):
    license_notes: tuple[_Note, ...]
    benchmarks: dict[str, str]
    toolkits: tuple[_Toolkit, ...]


@functools.cache
def catalogue() -> dict[str, Published]:
    """Every known publication by its id."""
    path = Path(str(files("polsess.checkpoints"))) / "catalogue.yaml"
    content = parse(_Catalogue, read_yaml(path), path.name)
    found: dict[str, Published] = {}
    for toolkit in content.toolkits:
        shared = toolkit.model_dump(exclude={"publications"})
        for hub_id, stated in toolkit.publications.items():
            corpus = str(stated.get("corpus", ""))
            inferred = {
                "hub_id": hub_id,
                "license_notes": [
                    each.note for each in content.license_notes if any(word in corpus for word in each.words)
                ],
                "benchmark": content.benchmarks.get(corpus) if "score" in stated else None,
            }
            found[hub_id] = parse(Published, {**shared, **stated, **inferred}, f"{path.name}: {hub_id}")
    return found


def list_published() -> list[Published]:
    """The published weights that ``load_model`` reads, in the order of their ids."""
    return [each for _, each in sorted(catalogue().items())]
