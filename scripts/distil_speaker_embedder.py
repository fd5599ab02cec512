"""Train a small speaker embedder to place voices as a larger one does, and to tell its own speakers apart.

    python scripts/distil_speaker_embedder.py TEACHER distil.yaml FOLDER

The teacher is an ONNX file as ``load_embedder`` takes it, or a speaker embedder of this package.
It hears clean pieces at its own rate, at several speeds, which are other voices to it. The student hears
them at its own rate through microphones and rooms, with noise and another voice behind. Its loss is the
cosine to the teacher's embedding, centred and reduced to the student's dimensions by principal components,
and the additive angular margin softmax over the speakers at each speed, whose weights begin as the
teacher's means. As time goes on the second counts for more. ``distil.yaml`` holds the settings of
``Distillation``, e.g.::

    metadata: data/speech/metadata.csv
    noise: [{source: data/noise/clips, snr_range_db: [3, 25], probability: 0.5}]
    rooms: {source: data/rir, probability: 0.3, target: reverberant}
    model: {model_type: resnet}

The folder holds ``last.pt`` with the whole state, from which the same command goes on, and in the end
``student``, a folder for ``load_model``.

Shapes: N pieces, T samples, B batch, D dimensions, K classes, one for each speaker at each speed.
"""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.audio import Samples
from polsess.checkpoints import load_embedder, save_model
from polsess.data.base import Split
from polsess.data.clip_store import read_clip
from polsess.data.corpora.clips import list_clips
from polsess.data.mixing import change_speed, colour, rms
from polsess.data.surroundings import NoiseConfig, RoomConfig, Surroundings
from polsess.losses import angular_margin_loss
from polsess.models import SpeakerEmbedder, create_model
from polsess.schema import Schema, parse

_PIECE_SECONDS = 3.5
_MARGIN, _SCALE = 0.2, 30.0
_RAMPED = 5000
"""A step from which margin, weights of the losses and average are what they stay."""
_NEAR_SPEEDS = 0.1
"""Speeds of one speaker that differ by less are neither the same class nor another."""


class Distillation(Schema):
    """Data and length of a run."""

    metadata: Path
    noise: tuple[NoiseConfig, ...] = ()
    rooms: RoomConfig | None = None
    model: dict[str, Any]
    speeds: tuple[float, ...] = (1.0, 0.93, 1.08)
    steps: int = Field(default=3600, ge=1)
    batch_size: int = Field(default=64, ge=2)
    crop_seconds: tuple[float, float] = (0.8, 2.6)
    learning_rate: float = Field(default=3e-3, gt=0)
    begin: Path | None = None
    """A ``last.pt`` of the same data whose average the run begins with; nothing is ramped up then."""
    seed: int = 0


class Pieces:
    """What the teacher said of every piece of every clip at every speed."""

    def __init__(self, config: Distillation, teacher: SpeakerEmbedder) -> None:
        clips = list_clips(config.metadata, Split.TRAIN)
        speakers = sorted({clip.label for clip in clips})
        self.rate = teacher.sample_rate
        self.samples: list[Samples] = []
        classes, embeddings = [], []
        for number, speed in enumerate(config.speeds):
            for clip in clips:
                sound = read_clip(clip.path, self.rate)
                sound = change_speed(sound, round(1000 * speed), self.rate, self.rate)
                count = max(1, round(len(sound) / self.rate / _PIECE_SECONDS))
                for piece in np.array_split(sound, count):
                    self.samples.append(piece)
                    classes.append(speakers.index(clip.label) * len(config.speeds) + number)
                    with torch.no_grad():
                        embeddings.append(teacher(torch.from_numpy(piece)[None])[0].numpy())
            print(f"speed {speed}: {len(self.samples)} pieces", flush=True)
        self.classes = np.array(classes)
        self.num_classes = len(speakers) * len(config.speeds)
        self.embeddings = np.stack(embeddings)
        speeds = np.tile(config.speeds, len(speakers))
        people = np.repeat(np.arange(len(speakers)), len(config.speeds))
        near = np.abs(speeds / speeds[:, None] - 1) < _NEAR_SPEEDS
        self.ambiguous = (people == people[:, None]) & near & ~np.eye(len(people), dtype=bool)
        self.of_class = [np.flatnonzero(self.classes == one) for one in np.unique(self.classes)]


def targets(embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """The teacher's embeddings ``[N, D']``, centred, in ``dimensions`` principal components: ``[N, D]``."""
    centred = _unit(embeddings - embeddings.mean(0))
    components = np.linalg.svd(centred, full_matrices=False)[2][:dimensions]
    return _unit(centred @ components.T).astype(np.float32)


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    norms: NDArray[Any] = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return vectors / norms


class Drawing:
    """Batches of pieces as the student hears them."""

    def __init__(self, config: Distillation, pieces: Pieces, rate: int) -> None:
        self._config, self._pieces, self._rate = config, pieces, rate
        self._surroundings = Surroundings(config.noise, config.rooms, Split.TRAIN, rate)

    def batch(self, step: int) -> tuple[Tensor, NDArray[np.int64]]:
        """Waveforms ``[B, T]`` and the numbers of their pieces ``[B]``, fixed by seed and step."""
        random = np.random.default_rng((self._config.seed, step))
        length = round(random.uniform(*self._config.crop_seconds) * self._rate)
        groups = random.choice(len(self._pieces.of_class), self._config.batch_size)
        indices = np.array([random.choice(self._pieces.of_class[group]) for group in groups])
        sounds = [self._heard(random, self._cut(random, index, length)) for index in indices]
        return torch.from_numpy(np.stack(sounds)), indices

    def _cut(self, random: np.random.Generator, index: int, length: int) -> Samples:
        piece, rate = self._pieces.samples[index], self._pieces.rate
        needed = -(-length * rate // self._rate) + 8  # resampling may come out a few samples short
        piece = piece if len(piece) >= needed else np.resize(piece, needed)
        start = int(random.integers(len(piece) - needed + 1))
        return change_speed(piece[start : start + needed], 1000, rate, self._rate)[:length]

    def _heard(self, random: np.random.Generator, voice: Samples) -> Samples:
        coloured = colour(voice, 4.0 if random.random() < 0.5 else 0.0, random)
        scene = self._surroundings.surround(random, coloured[None])
        sound = scene.voices[0] + scene.noise
        if random.random() < 0.2:  # another voice, well behind this one
            other = self._cut(random, int(random.integers(len(self._pieces.samples))), len(voice))
            level = rms(sound).item() / max(rms(other).item(), 1e-6) * 10 ** (-random.uniform(6, 20) / 20)
            sound = sound + other * np.float32(level)
        return sound.astype(np.float32)


class Student(nn.Module):
    """The network and the directions of its classes."""

    def __init__(
        self, network: SpeakerEmbedder, means: NDArray[np.float32], ambiguous: NDArray[np.bool_]
    ) -> None:
        super().__init__()
        self.network = network
        self.directions = nn.Parameter(torch.from_numpy(means) + 0.01 * torch.randn(means.shape))
        self.ambiguous = torch.from_numpy(ambiguous)

    def forward(self, sounds: Tensor, target: Tensor, classes: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The mean cosine distance to the teacher and the softmax loss."""
        with torch.autocast(sounds.device.type, torch.bfloat16):
            embeddings = self.network.embed_speech(sounds)
        softmax = angular_margin_loss(
            embeddings,
            self.directions,
            classes,
            scale=_SCALE,
            margin=_MARGIN * min(1.0, max(0.0, (step - 500) / 1000)),
            ambiguous=self.ambiguous,
        )
        return (1 - F.cosine_similarity(embeddings.float(), target)).mean(), softmax


def train(config: Distillation, teacher: SpeakerEmbedder, folder: Path) -> SpeakerEmbedder:
    """Train a student, or go on where ``last.pt`` ends; the average of its weights is returned."""
    torch.manual_seed(config.seed)
    network = create_model(config.model, kind=SpeakerEmbedder)
    pieces = Pieces(config, teacher)
    wanted = targets(pieces.embeddings, network.dimensions)
    means = np.zeros((pieces.num_classes, network.dimensions), np.float32)
    np.add.at(means, pieces.classes, wanted)
    student = Student(network, _unit(means).astype(np.float32), pieces.ambiguous)
    average = copy.deepcopy(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=0.02)
    drawing, first, last = Drawing(config, pieces, network.sample_rate), 0, folder / "last.pt"
    if config.begin is not None:
        for module in (student, average):
            module.load_state_dict(torch.load(config.begin, weights_only=True)["average"])
    if last.exists():
        state = torch.load(last, weights_only=True)
        student.load_state_dict(state["student"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, config.steps):
        rate = (
            config.learning_rate
            * min(1, (step + 1) / 200)
            * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-5
        sounds, indices = drawing.batch(step)
        ramp = step if config.begin is None else _RAMPED
        distance, softmax = student.train()(
            sounds, torch.from_numpy(wanted[indices]), torch.from_numpy(pieces.classes[indices]), ramp
        )
        loss = 4 * (1 - 0.75 * min(1, ramp / 1500)) * distance + min(1, 0.1 + ramp / 1000) * softmax
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        _follow(average, student, min(0.998, (ramp + 1) / (ramp + 10)))
        if (step + 1) % 100 == 0 or step + 1 == config.steps:
            print(f"step {step + 1}: distance {distance:.3f}, softmax {softmax:.2f}", flush=True)
            torch.save(
                {
                    "student": student.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                },
                last.with_suffix(".tmp"),
            )
            last.with_suffix(".tmp").replace(last)
    return average.network.eval()


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move an average towards the present weights."""
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def main() -> None:
    """Read the arguments, train, write the student."""
    if len(sys.argv) != 4:
        raise SystemExit("usage: python scripts/distil_speaker_embedder.py TEACHER SETTINGS.yaml FOLDER")
    teacher, settings, folder = load_embedder(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    config = parse(Distillation, yaml.safe_load(settings.read_text()), str(settings))
    folder.mkdir(parents=True, exist_ok=True)
    save_model(train(config, teacher, folder), folder / "student", half_precision=True)


if __name__ == "__main__":
    main()
