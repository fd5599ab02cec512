"""A test as files: an HTML page that opens from disk, names no system and sends nothing; or webMUSHRA's.

webMUSHRA (Schoeffler et al. 2018, https://doi.org/10.5334/jors.187) is a program of International Audio
Laboratories Erlangen with its own licence; only the keys of its configuration are used here.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from polsess.audio import encode_plain_pcm
from polsess.files import atomic_path, write_text, write_texts
from polsess.listening.clips import Pcm
from polsess.listening.key import Key, Kind, Role
from polsess.listening.trials import ListeningTest, Trial
from polsess.schema import ConfigError

PAGE, KEY = "test.html", "key.json"


def save_test(test: ListeningTest, folder: Path, *, overwrite: bool = False) -> None:
    """Write ``test.html`` for the listeners and ``key.json`` for the experimenter.

    Raises:
        FileExistsError: If the folder holds the key of another test, without which its answers are lost.
    """
    key = key_text(test.key)
    target = folder / KEY
    if not overwrite and target.exists() and target.read_text(encoding="utf-8") != key:
        raise FileExistsError(
            f"{target}: is the key of another test; choose another folder, or --overwrite to lose it."
        )
    texts = {folder / PAGE: render(test), target: key}
    write_texts(texts, overwrite=overwrite or target.exists())


def key_text(key: Key) -> str:
    """The key as JSON."""
    return json.dumps(key.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def render(test: ListeningTest) -> str:
    """The page; its title is the only text from a user and is escaped."""
    script = _part("player.js") + _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    slots = {
        "{{title}}": html.escape(test.key.title),
        "{{script digest}}": f"sha256-{digest}",
        "{{style}}": _part("page.css"),
        "{{data}}": _as_script(_data(test)),
        "{{script}}": script,
    }
    head, *rest = _part("page.html").split("{{")
    return head + "".join(_fill(piece, slots) for piece in rest)


def _fill(piece: str, slots: dict[str, str]) -> str:
    """Fill one slot; the inserted text is never searched for further slots."""
    name, _, after = piece.partition("}}")
    return slots["{{" + name + "}}"] + after


def _part(name: str) -> str:
    return (files("polsess.listening") / "assets" / name).read_text(encoding="utf-8")


def _data(test: ListeningTest) -> dict[str, Any]:
    rate = test.key.sample_rate
    return {
        "test": test.key.test,
        "kind": test.key.kind.value,
        "trials": [_trial(trial, rate) for trial in test.trials],
    }


def _trial(trial: Trial, sample_rate: int) -> dict[str, Any]:
    return {
        "id": trial.key.id,
        "training": trial.key.training,
        "reference": None if trial.reference is None else _wav(trial.reference, sample_rate),
        "stimuli": {letter: _wav(samples, sample_rate) for letter, samples in trial.sounds.items()},
    }


def _wav(samples: Pcm, sample_rate: int) -> str:
    return base64.b64encode(encode_plain_pcm(samples, sample_rate)).decode()


def _as_script(data: dict[str, Any]) -> str:
    """JSON that cannot end the element around it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def export_webmushra(test: ListeningTest, folder: Path) -> Path:
    """Write a configuration and its sounds; copy the folder over an installation of webMUSHRA.

    webMUSHRA adds the hidden reference to every page by itself, so it is not among the stimuli.

    Returns:
        The configuration, ``configs/<test>.yaml`` in the folder.

    Raises:
        ConfigError: If the test is of another kind than MUSHRA.
    """
    if test.key.kind is not Kind.MUSHRA:
        raise ConfigError(f"--webmushra: expected a test of kind mushra, got {test.key.kind}.")
    sounds = Path("configs") / "resources" / test.key.test
    pages = [_webmushra_page(trial, sounds) for trial in test.trials]
    for trial, page in zip(test.trials, pages, strict=True):
        _write_wav(folder / page["reference"], trial.reference, test.key.sample_rate)
        for letter, path in page["stimuli"].items():
            _write_wav(folder / path, trial.sounds[letter], test.key.sample_rate)
    target = folder / "configs" / f"{test.key.test}.yaml"
    write_text(target, yaml.safe_dump(_configuration(test, pages), sort_keys=False, allow_unicode=True))
    return target


def _configuration(test: ListeningTest, pages: list[dict[str, Any]]) -> dict[str, Any]:
    counted = [page for page, trial in zip(pages, test.trials, strict=True) if not trial.key.training]
    training = [page for page in pages if page not in counted]
    welcome = (
        "Rate every version from 0 to 100: how close is it to the reference? One of them is the reference."
    )
    return {
        "testname": test.key.title,
        "testId": test.key.test,
        "bufferSize": 2048,
        "stopOnErrors": True,
        "showButtonPreviousPage": False,
        "remoteService": "service/write.php",
        "pages": [
            {"type": "generic", "id": "welcome", "name": "Welcome", "content": welcome},
            *training,
            ["random", *counted],
            {
                "type": "finish",
                "name": "Thank you",
                "content": "Please enter your name or number and send the results.",
                "showResults": False,
                "writeResults": True,
                "questionnaire": [{"type": "text", "label": "Name or number", "name": "listener"}],
            },
        ],
    }


def _webmushra_page(trial: Trial, sounds: Path) -> dict[str, Any]:
    key = trial.key
    stimuli = {
        each.id: (sounds / f"{key.id}-{each.id}.wav").as_posix()
        for each in key.stimuli
        if each.role is not Role.REFERENCE
    }
    return {
        "type": "mushra",
        "id": key.id,
        "name": "Training" if key.training else "How close is it to the reference?",
        "content": "This page does not count." if key.training else "",
        "showWaveform": True,
        "enableLooping": True,
        "reference": (sounds / f"{key.id}-open.wav").as_posix(),
        "createAnchor35": False,
        "createAnchor70": False,
        "stimuli": stimuli,
    }


def _write_wav(target: Path, samples: Pcm | None, sample_rate: int) -> None:
    if samples is not None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(encode_plain_pcm(samples, sample_rate))
