"""The page of a listening test: one HTML file that opens from disk, knows no system and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from polsess.audio import encode_plain_pcm
from polsess.files import write_text
from polsess.listening.key import Key
from polsess.listening.stimuli import Pcm
from polsess.listening.trials import ListeningTest, Trial

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
    write_text(folder / PAGE, render(test))
    write_text(target, key)


def key_text(key: Key) -> str:
    """The key as JSON."""
    return json.dumps(key.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def render(test: ListeningTest) -> str:
    """The page; only its title comes from outside, and that is escaped."""
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
    """Fill one slot, so that what is filled in is never searched for slots."""
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
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
