"""Published weights by their ids on the Hugging Face hub: files, format, task, rate, licence, stated score.

Scores and licences are those of the model cards, on the test set that the card names; nothing here was
measured by this library. Licences are of the weights as their authors state them: corpora such as WSJ0 and
WHAM! add conditions of their own (WHAM! noise: non-commercial), which ``license_notes`` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SPEECHBRAIN = ("hyperparams.yaml", "encoder.ckpt", "masknet.ckpt", "decoder.ckpt")
_ASTEROID = ("pytorch_model.bin",)
_THREE_PARTS = ("config.json", "encoder.ckpt", "masknet.ckpt", "decoder.ckpt")
_CORPUS_NOTES = (
    (("WSJ0", "WHAM"), "WSJ0 is licensed by the LDC"),
    (("WHAM", "sep_noisy", "enh_single"), "WHAM!'s noise is CC BY-NC 4.0: treat as non-commercial"),
)
_BENCHMARKS = {
    "WSJ0-2mix": "wsj0-2mix",
    "WSJ0-3mix": "wsj0-3mix",
    "WHAM!": "wham-noisy",
    "WHAM! sep_clean min": "wham-clean",
    "WHAMR!": "whamr",
    "Libri1Mix enh_single min": "libri1mix",
    "Libri2Mix": "libri2mix-clean",
    "Libri2Mix sep_clean min": "libri2mix-clean",
    "Libri2Mix sep_noisy min": "libri2mix-noisy",
    "Libri3Mix": "libri3mix-clean",
    "Libri3Mix sep_clean min": "libri3mix-clean",
    "Libri3Mix sep_noisy min": "libri3mix-noisy",
}
_MIXED = "trained with dynamic mixing"
_NOT_MIXED = "trained without dynamic mixing"
_UNTOLD = "the card does not tell whether mixing was dynamic"


@dataclass(frozen=True)
class Published:
    """One set of weights that somebody published.

    Attributes:
        hub_id: Owner and name on the hub.
        format: The reader of its files.
        files: What must be fetched, all of it.
        model_type: The architecture here.
        task: Separation of speakers, or enhancement of one.
        num_sources: C.
        sample_rate: In Hz.
        license: As the card states it; None where none was found.
        score: Improvement of SI-SDR in dB as the card states it; None where none was found.
        corpus: What it was trained and tested on.
        conditions: How the score came about, as far as the card or its toolkit's documents tell.
        revision: The commit that is loaded when none is asked for; None follows ``main``.
    """

    hub_id: str
    format: str
    files: tuple[str, ...]
    model_type: str
    task: Literal["separation", "enhancement"]
    num_sources: int
    sample_rate: int
    license: str | None
    score: float | None
    corpus: str
    conditions: str = ""
    revision: str | None = None

    @property
    def benchmark(self) -> str | None:
        """The test set that the score is of; None where there is no score. All are whole ``min`` mixtures."""
        return None if self.score is None else _BENCHMARKS[self.corpus]

    @property
    def tolerance_db(self) -> float:
        """How far a score measured again may be away: what the card rounded off, and 0.05 dB.

        Toolkits differ by less than that in what they add against division by zero and in whether they
        subtract means.
        """
        digits = len(str(self.score).partition(".")[2])
        return float(round(0.5 * 10.0**-digits + 0.05, 4))

    @property
    def page(self) -> str:
        """The model card, where licence and score stand."""
        return f"https://huggingface.co/{self.hub_id}"

    @property
    def license_notes(self) -> tuple[str, ...]:
        """What the corpora of the training add to the licence of the weights."""
        return tuple(note for words, note in _CORPUS_NOTES if any(word in self.corpus for word in words))


def _asteroid(
    hub_id: str, model_type: str, num_sources: int, sample_rate: int, score: float | None, corpus: str
) -> Published:
    task: Literal["separation", "enhancement"] = "separation" if num_sources > 1 else "enhancement"
    return Published(
        hub_id,
        "asteroid",
        _ASTEROID,
        model_type,
        task,
        num_sources,
        sample_rate,
        "cc-by-sa-4.0",
        score,
        corpus,
        _NOT_MIXED,
    )


def _speechbrain(
    name: str,
    num_sources: int,
    score: float | None,
    corpus: str,
    conditions: str = "",
    *,
    sample_rate: int = 8000,
) -> Published:
    return Published(
        f"speechbrain/{name}",
        "speechbrain",
        _SPEECHBRAIN,
        name.partition("-")[0],
        "separation" if num_sources > 1 else "enhancement",
        num_sources,
        sample_rate,
        "apache-2.0",
        score,
        corpus,
        conditions,
    )


def _mossformer2(name: str, num_sources: int, corpus: str, license_name: str | None = None) -> Published:
    return Published(
        f"alibabasglab/{name}",
        "clearervoice",
        _THREE_PARTS,
        "mossformer2",
        "separation",
        num_sources,
        8000,
        license_name,
        None,
        corpus,
    )


_ENTRIES = [
    _asteroid("mpariente/ConvTasNet_WHAM_sepclean", "convtasnet", 2, 8000, 16.21, "WHAM! sep_clean min"),
    _asteroid(
        "JorisCos/ConvTasNet_Libri2Mix_sepclean_8k", "convtasnet", 2, 8000, 14.76, "Libri2Mix sep_clean min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri2Mix_sepnoisy_8k", "convtasnet", 2, 8000, 11.94, "Libri2Mix sep_noisy min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri2Mix_sepclean_16k", "convtasnet", 2, 16000, 15.24, "Libri2Mix sep_clean min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri2Mix_sepnoisy_16k", "convtasnet", 2, 16000, 12.55, "Libri2Mix sep_noisy min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri3Mix_sepclean_8k", "convtasnet", 3, 8000, 11.98, "Libri3Mix sep_clean min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri3Mix_sepnoisy_8k", "convtasnet", 3, 8000, 10.39, "Libri3Mix sep_noisy min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri3Mix_sepclean_16k", "convtasnet", 3, 16000, 12.30, "Libri3Mix sep_clean min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri3Mix_sepnoisy_16k", "convtasnet", 3, 16000, 10.28, "Libri3Mix sep_noisy min"
    ),
    _asteroid(
        "JorisCos/ConvTasNet_Libri1Mix_enhsingle_16k",
        "convtasnet",
        1,
        16000,
        11.29,
        "Libri1Mix enh_single min",
    ),
    _asteroid("mpariente/DPRNNTasNet-ks2_WHAM_sepclean", "dprnn", 2, 8000, 19.32, "WHAM! sep_clean min"),
    _asteroid("julien-c/DPRNNTasNet-ks16_WHAM_sepclean", "dprnn", 2, 8000, 18.23, "WHAM! sep_clean min"),
    _asteroid(
        "JorisCos/DPRNNTasNet-ks2_Libri1Mix_enhsingle_16k",
        "dprnn",
        1,
        16000,
        11.27,
        "Libri1Mix enh_single min",
    ),
    _asteroid(
        "JorisCos/DPTNet_Libri1Mix_enhsingle_16k", "dptnet", 1, 16000, 11.38, "Libri1Mix enh_single min"
    ),
    _speechbrain("sepformer-wsj02mix", 2, 22.4, "WSJ0-2mix", _MIXED),
    _speechbrain("sepformer-wsj03mix", 3, 19.8, "WSJ0-3mix", _MIXED),
    _speechbrain("sepformer-wham", 2, 16.3, "WHAM!", _UNTOLD),
    _speechbrain("sepformer-whamr", 2, 13.7, "WHAMR!", _UNTOLD),
    _speechbrain("sepformer-whamr16k", 2, None, "WHAMR! at 16 kHz", sample_rate=16000),
    _speechbrain("sepformer-libri2mix", 2, 20.6, "Libri2Mix", _UNTOLD),
    _speechbrain("sepformer-libri3mix", 3, 19.0, "Libri3Mix", "the card's table; its text says 19.8"),
    _speechbrain("sepformer-wham-enhancement", 1, None, "WHAM!"),
    _speechbrain("sepformer-whamr-enhancement", 1, None, "WHAMR!"),
    _speechbrain("sepformer-wham16k-enhancement", 1, None, "WHAM! at 16 kHz", sample_rate=16000),
    _speechbrain("resepformer-wsj02mix", 2, 18.6, "WSJ0-2mix", _MIXED),
    _mossformer2("mossformer2-librimix-2spk", 2, "Libri2Mix"),
    _mossformer2("mossformer2-wsj0mix-3spk", 3, "WSJ0-3mix", "apache-2.0"),
    _mossformer2("mossformer2-whamr-2spk", 2, "WHAMR!", "mit"),
    Published(
        "alibabasglab/MossFormer2_SS_16K",
        "clearervoice",
        ("last_best_checkpoint", "last_best_checkpoint.pt"),
        "mossformer2",
        "separation",
        2,
        16000,
        None,
        None,
        "not stated",
    ),
]
CATALOGUE = {entry.hub_id: entry for entry in _ENTRIES}
"""Every known publication by its id."""


def list_published() -> list[Published]:
    """The published weights that ``load_model`` knows how to fetch, in the order of their ids."""
    return [CATALOGUE[hub_id] for hub_id in sorted(CATALOGUE)]
