"""What papers and repositories report of each architecture: scores with their conditions, licences, formats.

Nothing here was measured by this library. Numbers of different rows compare only where corpus, metric and
dynamic mixing are the same; a source that quotes others says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["SI-SNRi", "SI-SNR", "SDR"]

_PAPER = "the paper"
_TABLES = "comparison tables of later papers"
_ASTEROID = "Asteroid's results"
_SPEECHBRAIN = "SpeechBrain's results"
_AUTHORS = "the authors' repository"
_WHAM_CLEAN = "WHAM! sep_clean (= WSJ0-2mix)"


@dataclass(frozen=True)
class Score:
    """One published number.

    Attributes:
        corpus: The test set; 8 kHz, the shorter of the utterances (min), unless it says otherwise.
        value: In dB.
        size: Which configuration; ``""`` where the source has one only.
        sdri: Improvement of SDR in dB beside it, where stated.
        dynamic_mixing: Whether training mixed on the fly (up to 2 dB more); None if the source is silent.
        source: Where it stands.
        metric: An improvement over the mixture (SI-SNRi) or an absolute value.
        preset: Which configuration here has that size, where ``size`` is not its name.
    """

    corpus: str
    value: float
    size: str = ""
    sdri: float | None = None
    dynamic_mixing: bool | None = False
    source: str = _PAPER
    metric: Metric = "SI-SNRi"
    preset: str = ""


@dataclass(frozen=True)
class Literature:
    """What is known of one architecture elsewhere.

    Attributes:
        licenses: Of the reference code and of weights; the code here is this library's own.
        formats: Formats of ``load_model`` with weights of this architecture, besides our own.
        scores: Published numbers.
        notes: What to know before comparing.
        paper: First author and year of the architecture's paper.
    """

    licenses: str
    formats: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()
    paper: str = ""


_CSV = "the authors' files of every utterance, averaged here"


def _sizes(values: dict[str, tuple[float, float]]) -> tuple[Score, ...]:
    return tuple(
        Score("WSJ0-2mix", value, size, sdri, dynamic_mixing=True, source=_CSV)
        for size, (value, sdri) in values.items()
    )


LITERATURE: dict[str, Literature] = {
    "blstm": Literature(
        "no public reference weights; the code is this library's own",
        notes=("A baseline that is quick to train; it has no published counterpart to compare with.",),
        paper="Kolbaek 2017",
    ),
    "convtasnet": Literature(
        "code: Asteroid MIT, SpeechBrain Apache-2.0; weights: see the list of checkpoints",
        ("asteroid", "speechbrain", "original"),
        (
            Score("WSJ0-2mix", 15.3, "paper, 5.05 M", 15.6, preset="default"),
            Score(_WHAM_CLEAN, 16.2, "default", 16.5, source=_ASTEROID),
            Score("WSJ0-2mix", 14.8, "convtasnet-wsj02mix", source=_SPEECHBRAIN, dynamic_mixing=None),
            Score("WHAM!", 12.7, source=_TABLES),
            Score("WHAMR!", 8.3, source=_TABLES),
            Score("Libri2Mix", 13.0, "trained on train-100", source=_TABLES),
            Score("Libri2Mix", 14.7, "trained on train-360", source=_TABLES),
        ),
        (
            "SpeechBrain's network has no skip path, so that its weights and the paper's are not the same "
            "architecture; both are configurations of this class.",
        ),
        paper="Luo 2019",
    ),
    "dprnn": Literature(
        "code: Asteroid MIT, SpeechBrain Apache-2.0; weights: see the list of checkpoints",
        ("asteroid", "speechbrain", "original"),
        (
            Score("WSJ0-2mix", 18.8, "paper, kernel 2", 19.0, preset="paper"),
            Score("WSJ0-2mix", 15.9, "kernel 16", preset="default"),
            Score(
                _WHAM_CLEAN,
                19.3,
                "kernel 2, 3.65 M",
                19.5,
                source=_ASTEROID,
                preset="DPRNNTasNet-ks2_WHAM_sepclean",
            ),
            Score(
                _WHAM_CLEAN,
                18.2,
                "kernel 16, 3.65 M",
                source=_ASTEROID,
                preset="DPRNNTasNet-ks16_WHAM_sepclean",
            ),
            Score(
                "WSJ0-2mix",
                18.5,
                "dprnn-wsj02mix, 14.6 M",
                source=_SPEECHBRAIN,
                dynamic_mixing=None,
                preset="dprnn-wsj02mix",
            ),
            Score("WHAM!", 13.7, source=_TABLES),
            Score("WHAMR!", 10.3, source=_TABLES),
            Score("Libri2Mix", 16.1, source=_TABLES),
        ),
        ("Asteroid's published weights are wider (3.65 M) than the paper's network (2.6 M).",),
        paper="Luo 2020",
    ),
    "dptnet": Literature(
        "code: the authors' has no licence; Asteroid MIT",
        ("asteroid",),
        (
            Score("WSJ0-2mix", 20.2, "paper", 20.6, source=_TABLES),
            Score("WHAM!", 14.9, source=_TABLES),
            Score("WHAMR!", 11.2, source=_TABLES),
            Score("Libri2Mix", 16.7, source=_TABLES),
        ),
        (
            "20.6 dB, often quoted as SI-SNRi, is the authors' SDR.",
            "The default is Asteroid's class (8.53 M); the paper's size is the preset `paper`.",
        ),
        paper="Chen 2020",
    ),
    "lstmtasnet": Literature(
        "code: Asteroid MIT",
        ("asteroid",),
        (
            Score(_WHAM_CLEAN, 16.8, "whamr", source=_ASTEROID),
            Score("WHAM!", 13.7, "whamr", source=_ASTEROID),
            Score("WHAMR!", 11.0, "whamr, noisy and reverberant", source=_ASTEROID),
            Score(_WHAM_CLEAN, 14.2, source="WHAMR!'s authors, quoted by Asteroid"),
        ),
        paper="Luo 2018",
    ),
    "mambatasnet": Literature(
        "code: the authors' is GPL-3.0 and was not used; the weights state no licence of their own",
        ("mamba-tasnet",),
        _sizes({"l": (23.65, 23.81), "m": (22.44, 22.61), "s": (21.44, 21.63), "xs": (19.04, 19.26)}),
        paper="Jiang 2024",
    ),
    "dpmamba": Literature(
        "code: the authors' is GPL-3.0 and was not used; the weights state no licence of their own",
        ("mamba-tasnet",),
        _sizes({"l": (23.42, 23.58), "m": (22.56, 22.74), "s": (21.39, 21.59), "xs": (19.17, 19.39)}),
        ("The abstract of the first version claims 24.4 dB for the large size; the files above give 23.4.",),
        paper="Jiang 2024",
    ),
    "mossformer2": Literature(
        "code: ClearerVoice-Studio Apache-2.0, alibabasglab/MossFormer2 MIT; weights: see the checkpoints",
        ("clearervoice",),
        (
            Score("WSJ0-2mix", 24.1, dynamic_mixing=True, source=_TABLES, preset="default"),
            Score("WHAM!", 18.1, dynamic_mixing=True, source=_TABLES),
            Score("WHAMR!", 17.0, dynamic_mixing=True, source=_TABLES),
            Score("Libri2Mix", 21.7, dynamic_mixing=True, source=_TABLES),
        ),
        paper="Zhao 2024",
    ),
    "resepformer": Literature(
        "code and weights: SpeechBrain Apache-2.0",
        ("speechbrain", "original"),
        (
            Score("WSJ0-2mix", 18.6, "resepformer-wsj02mix", dynamic_mixing=True, source=_SPEECHBRAIN),
            Score("WHAM!", 14.1, dynamic_mixing=None, source=_TABLES),
        ),
        paper="Della Libera 2022",
    ),
    "sepformer": Literature(
        "code and weights: SpeechBrain Apache-2.0",
        ("speechbrain", "original"),
        (
            Score("WSJ0-2mix", 20.4, sdri=20.5, source=_TABLES, preset="default"),
            Score("WSJ0-2mix", 22.4, "sepformer-wsj02mix", 22.6, dynamic_mixing=True, source=_SPEECHBRAIN),
            Score("WSJ0-3mix", 17.6, source=_SPEECHBRAIN),
            Score("WSJ0-3mix", 19.8, "sepformer-wsj03mix", dynamic_mixing=True, source=_SPEECHBRAIN),
            Score("WHAM!", 16.3, "sepformer-wham", dynamic_mixing=None, source=_SPEECHBRAIN),
            Score("WHAMR!", 14.0, dynamic_mixing=True, source=_SPEECHBRAIN),
            Score("Libri2Mix", 20.4, "trained on train-360", dynamic_mixing=True, source=_SPEECHBRAIN),
        ),
        (
            "22.4 dB is with dynamic mixing; tables that set it beside networks trained without it flatter "
            "this one by 2 dB.",
            "The 16.5 dB on Libri2Mix in later tables are not comparable with the 20.4 dB here.",
        ),
        paper="Subakan 2021",
    ),
    "sepreformer": Literature(
        "code: Apache-2.0 (dmlguq456/SepReformer)",
        ("sepreformer",),
        (
            Score("WSJ0-2mix", 23.8, "base", 23.9, source=_AUTHORS),
            Score("WHAM!", 17.6, "base", 18.0, source=_AUTHORS),
            Score("Libri2Mix", 21.7, "base", 22.1, source=_AUTHORS),
            Score("WSJ0-2mix", 25.1, "large", dynamic_mixing=True, source=_TABLES),
            Score("WSJ0-2mix", 22.4, "the authors' T, 3.7 M", 22.6, source=_AUTHORS),
            Score("WSJ0-2mix", 23.0, "the authors' S, 4.5 M", 23.1, source=_AUTHORS),
            Score("WSJ0-2mix", 24.2, "the authors' M, 17.3 M", 24.4, source=_AUTHORS),
        ),
        ("Parameters here count the heads of the auxiliary losses; the authors' 14.2 M do not.",),
        paper="Shin 2024",
    ),
    "skim": Literature(
        "code: SpeechBrain and ESPnet Apache-2.0",
        ("speechbrain",),
        (
            Score("WSJ0-2mix", 18.1, "skim-wsj02mix", dynamic_mixing=True, source=_SPEECHBRAIN),
            Score("WSJ0-2mix", 18.45, "ESPnet, 5.9 M", dynamic_mixing=None, source="ESPnet", metric="SDR"),
            Score(
                "WSJ0-2mix", 13.92, "ESPnet, causal", dynamic_mixing=None, source="ESPnet", metric="SI-SNR"
            ),
        ),
        paper="Li 2022",
    ),
    "spmamba": Literature(
        "code: Apache-2.0 (JusperLee/SPMamba)",
        ("look2hear",),
        (
            Score("WSJ0-2mix", 22.5, "wsj0_2mix", 22.7, source=_AUTHORS),
            Score("WHAM!", 17.4, "wham", 17.6, source=_AUTHORS),
            Score("WHAMR!", 16.6, sdri=15.2, source=_TABLES),
            Score("Libri2Mix", 19.9, "libri2mix", 20.4, source=_AUTHORS),
            Score("Echo2Mix, 16 kHz", 15.3, "echo2mix", 16.1, source=_AUTHORS),
        ),
        (
            "Released weights are those of Libri2Mix and Echo2Mix only.",
            "The 2.42 dB over TF-GridNet of its abstract are on the authors' reverberant set; on WSJ0-2mix "
            "TF-GridNet is ahead.",
        ),
        paper="Li 2024",
    ),
    "sudormrf": Literature(
        "code: Asteroid MIT; the authors' programs have a licence of their own and were not read",
        ("asteroid",),
        (
            Score("WSJ0-2mix", 19.5, "improved-u36-bases2048-wsj02mix", dynamic_mixing=None, source=_AUTHORS),
            Score("WSJ0-2mix", 17.3, "improved-u16-bases512-wsj02mix", dynamic_mixing=None, source=_AUTHORS),
            Score("WHAMR!", 13.5, "improved-u36-bases4096-whamr", dynamic_mixing=None, source=_AUTHORS),
            Score("WHAMR!", 12.1, "improved-u16-bases2048-whamr", dynamic_mixing=None, source=_AUTHORS),
            Score("WHAM!", 13.7, dynamic_mixing=None, source=_TABLES),
            Score("Libri2Mix", 14.0, dynamic_mixing=None, source=_TABLES),
        ),
        paper="Tzinis 2020",
    ),
    "tfgridnet": Literature(
        "code: ESPnet Apache-2.0; weights: ESPnet's model zoo",
        ("espnet",),
        (
            Score("WSJ0-2mix", 23.5, "wsj0_2mix", 23.6),
            Score("WHAMR!", 17.1, sdri=15.8, source=_TABLES),
            Score("WHAM!", 16.9, sdri=17.2, source="rerun by SPMamba's authors"),
            Score("Libri2Mix", 19.8, sdri=20.1, source="rerun by SPMamba's authors"),
        ),
        paper="Wang 2023",
    ),
    "tflocoformer": Literature(
        "code and weights: Apache-2.0 (merlresearch/tf-locoformer)",
        ("espnet",),
        (
            Score("WSJ0-2mix", 23.64, "medium", source=_AUTHORS, metric="SI-SNR"),
            Score("WSJ0-2mix", 25.1, "large", 25.2, dynamic_mixing=True, source=_TABLES),
            Score("WSJ0-2mix", 22.0, "small", source=_TABLES),
            Score("WSJ0-2mix", 22.8, "small", dynamic_mixing=True, source=_TABLES),
            Score("Libri2Mix", 22.1, "libri2mix", 22.2, source=_TABLES),
            Score("WHAMR!", 18.5, "whamr", 16.9, source=_TABLES),
            Score("WHAMR!", 17.4, "whamr_small", 15.9, source=_TABLES),
        ),
        paper="Saijo 2024",
    ),
}
"""By the architecture's name. A new architecture needs no entry: its module and registry fill the tables."""
