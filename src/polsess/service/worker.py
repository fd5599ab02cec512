"""A worker process: it loads the models once, then separates what waits in the store until it is told to end.

Lines on stdin: ``wake`` (something waits), ``drain`` (end after the work at hand); its end means that the
server is gone. Lines of JSON on stdout: ``ready``, ``changed`` with a job, ``ended`` with how it went.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from polsess.allocator import tune_allocator
from polsess.audio import AudioError, AudioFormat, Samples
from polsess.checkpoints import load_model
from polsess.devices import pick_device
from polsess.diarization.settings import parse_speakers
from polsess.inference.hearing import Listeners
from polsess.inference.long_form import HEARING_SHARE, LongFormSeparator
from polsess.inference.network import Estimator
from polsess.inference.outputs import SeparatedFile, output_paths
from polsess.inference.separator import open_listeners
from polsess.inference.timeline_files import TimelineFiles, parse_formats
from polsess.inference.torch_networks import TorchEstimator, usual_batch
from polsess.precision import choose_precision
from polsess.schema import parse
from polsess.service.batching import SharedEstimator
from polsess.service.pictures import draw_pictures
from polsess.service.places import Places
from polsess.service.settings import JobOptions, ServiceConfig
from polsess.service.store import File, Store

Tell = Callable[..., None]
_REPORT_SECONDS = 0.25
_LOOK_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0


class Abandoned(Exception):
    """The claim on a recording is gone: its job was deleted, or the process was given up."""


class SharedSeparator(LongFormSeparator[Samples]):
    """A separator whose networks others use at the same time.

    Args:
        estimator: The network that separates.
        listeners: Those that say how many talk and whose voice it is.
        **options: As of ``LongFormSeparator``.
    """

    def __init__(self, estimator: SharedEstimator, listeners: Listeners, **options: Any) -> None:
        super().__init__(estimator.output_sources, **options)
        self._shared, self._loaded = estimator, listeners

    def _estimator(self) -> Estimator:
        return self._shared

    def _listeners(self) -> Listeners:
        return self._loaded

    def _given_back(self, sources: Samples) -> Samples:
        return sources


class Models:
    """The networks of the process."""

    def __init__(self, config: ServiceConfig) -> None:
        self.device = pick_device(config.device)
        cuda = self.device.type == "cuda"
        self.lanes = config.lanes or (8 if cuda else 2)
        self._segment_seconds = config.segment_seconds
        self._estimators = {name: self._open(source, config) for name, source in config.models.items()}
        named = config.listeners
        self._named_listeners = {
            option: Path(value).name for option, value in named.items() if option in config.model_fields_set
        }
        self._listeners = open_listeners(self.device, **named)

    def _open(self, source: str, config: ServiceConfig) -> SharedEstimator:
        model = load_model(source).to(self.device).eval()
        dtype = choose_precision(config.precision, model.inference_dtype, self.device)
        batch_size = config.batch_size or usual_batch(model, self.device)
        return SharedEstimator(TorchEstimator(model, self.device, dtype), batch_size)

    @property
    def passes(self) -> tuple[int, int]:
        """Passes through all networks so far, and rows in them."""
        every = self._estimators.values()
        return sum(each.passes for each in every), sum(each.rows for each in every)

    def separator(self, options: JobOptions) -> SharedSeparator:
        """A separator with a client's options."""
        estimator = self._estimators[options.model or next(iter(self._estimators))]
        separator = SharedSeparator(
            estimator,
            self._listeners,
            segment_seconds=self._segment_seconds,
            channels=options.channels,
            batch_size=estimator.batch_size,
            gate=options.gate,
            num_speakers=parse_speakers(options.speakers),
        )
        separator.named_listeners = self._named_listeners
        return separator


class Lane:
    """Separates one recording after the other.

    Args:
        models: The networks.
        store: The jobs.
        places: Their files.
        worker: Name of the process.
        tell: Sends a line to the server.
    """

    def __init__(self, models: Models, store: Store, places: Places, worker: str, tell: Tell) -> None:
        self._models, self._store, self._places = models, store, places
        self._worker, self._tell = worker, tell

    def work(self) -> bool:
        """Separate what waits next; False if nothing does."""
        claimed = self._store.claim(self._worker)
        if claimed is None:
            return False
        file, options = claimed
        self._tell("changed", job=file.job)
        begin, error, results = time.time(), None, []
        attempt = self._places.output(file.job, file.place).with_name(f"{file.place}.{self._worker}")
        try:
            results = self._separate(file, parse(JobOptions, options), attempt)
        except Abandoned:
            shutil.rmtree(attempt, ignore_errors=True)
            return True
        except Exception as problem:  # whatever a hostile recording does, it is told to its owner
            shutil.rmtree(attempt, ignore_errors=True)
            source = self._places.input(file.job, file.place, file.stored)
            error = _explain(problem, file.name, source, self._places.folder)
        if self._end(file, results, error):
            self._tell(
                "ended",
                job=file.job,
                place=file.place,
                error=error,
                sound_seconds=file.seconds,
                work_seconds=round(time.time() - begin, 3),
                passes=self._models.passes,
            )
        return True

    def _separate(self, file: File, options: JobOptions, attempt: Path) -> list[dict[str, Any]]:
        """Separate a recording into a folder of this attempt, which becomes the folder of the results."""
        source = self._places.input(file.job, file.place, file.stored)
        target = self._places.output(file.job, file.place)
        separator, last = self._models.separator(options), 0.0

        def report(stage: str, share: float) -> None:
            nonlocal last
            now = time.monotonic()
            if share >= 1 or now - last >= _REPORT_SECONDS:
                last = now
                if not self._store.report(file.number, self._worker, stage, share):
                    raise Abandoned
                self._tell("changed", job=file.job)

        def progress(share: float) -> None:
            listening = separator.gate != "never" and share < HEARING_SHARE
            report("listening" if listening else "separating", 0.97 * share)

        stem = Path(file.stored).stem
        form = AudioFormat(options.format, options.bits)

        def targets(names: Sequence[str]) -> list[Path]:
            return output_paths(attempt, "{track}_{speaker}.{ext}", stem, names, options.format)

        done = separator.separate_file(
            source,
            targets,
            audio_format=form,
            timeline_files=TimelineFiles(attempt / stem, parse_formats(options.timeline)),
            overwrite=True,
            progress=progress,
        )
        report("drawing", 0.98)
        pictures = [attempt / f"{stem}_{name}.png" for name in ("mixture", *done.names)]
        draw_pictures([source, *done.paths], pictures)
        results = _describe(done, pictures)
        shutil.rmtree(target, ignore_errors=True)
        attempt.rename(target)
        return results

    def _end(self, file: File, results: list[dict[str, Any]], error: str | None) -> bool:
        """Say how a recording ended; on a full disk, once there is room again."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._store.finish(file.number, self._worker, results, error)
            except Exception:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)


def _describe(done: SeparatedFile, pictures: Sequence[Path]) -> list[dict[str, Any]]:
    """The files of a result: their names, kinds and sizes, and for tracks the speaker."""
    entries = [("track", speaker, path) for speaker, path in zip(done.names, done.paths, strict=True)]
    entries += [("timeline", "", path) for path in done.timeline_paths]
    entries += [
        ("picture", name, path) for name, path in zip(("mixture", *done.names), pictures, strict=True)
    ]
    return [
        {
            "name": path.name,
            "kind": kind,
            "speaker": speaker,
            "bytes": path.stat().st_size,
            "precision": done.precision,
        }
        for kind, speaker, path in entries
    ]


def _explain(error: Exception, name: str, source: Path, folder: Path) -> str:
    """An error in one line, by the name that the client knows and without places of this machine."""
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return f"{name}: no space is left on the disk of the service; send it again later."
    if isinstance(error, AudioError):
        return f"{name}: {error.cause}"[:500]
    text = " ".join((str(error) or type(error).__name__).split())
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror[0].lower() + error.strerror[1:]
    text = text.removeprefix(f"{source}: ").replace(str(folder), "")
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return f"{name}: {kind}{text}"[:500]


def _loop(lane: Lane, bell: threading.Condition, draining: threading.Event) -> None:
    while not draining.is_set():
        try:
            if lane.work():
                continue
        except (
            Exception
        ) as error:  # the database may be locked or the disk full; what was claimed is put back
            print(f"lane: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        with bell:
            bell.wait(_LOOK_SECONDS)


def main() -> None:
    """Run the process; its one argument is its settings."""
    given: Mapping[str, Any] = json.loads(sys.argv[1])
    config = parse(ServiceConfig, given["config"])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr
    lock, bell, draining = threading.Lock(), threading.Condition(), threading.Event()

    def tell(event: str, **fields: Any) -> None:
        with lock:
            answers.write(json.dumps({"event": event, **fields}) + "\n")
            answers.flush()

    tune_allocator()
    torch.set_num_threads(max(1, torch.get_num_threads() // config.workers))
    places = Places(config.folder)
    store, models = Store(places.database), Models(config)
    lanes = [
        threading.Thread(
            target=_loop,
            args=(Lane(models, store, places, given["worker"], tell), bell, draining),
            daemon=True,
        )
        for _ in range(models.lanes)
    ]
    for lane in lanes:
        lane.start()
    tell("ready", device=str(models.device), lanes=models.lanes)
    for line in sys.stdin:
        if line.strip() == "drain":
            draining.set()
            threading.Thread(target=_leave_after, args=(lanes,), daemon=True).start()
        with bell:
            bell.notify_all()
    os._exit(0)


def _leave_after(lanes: Sequence[threading.Thread]) -> None:
    for lane in lanes:
        lane.join()
    os._exit(0)


if __name__ == "__main__":
    main()
