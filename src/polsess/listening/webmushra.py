"""The same trials for webMUSHRA (Schoeffler et al. 2018, https://doi.org/10.5334/jors.187).

webMUSHRA is a program of International Audio Laboratories Erlangen under a licence of its own; nothing of it
is in here, only the keys of its configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from polsess.audio import encode_plain_pcm
from polsess.files import atomic_path, write_text
from polsess.listening.key import Kind, Role
from polsess.listening.stimuli import Pcm
from polsess.listening.trials import ListeningTest, Trial
from polsess.schema import ConfigError


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
    pages = [_page(trial, sounds) for trial in test.trials]
    for trial, page in zip(test.trials, pages, strict=True):
        _write(folder / page["reference"], trial.reference, test.key.sample_rate)
        for letter, path in page["stimuli"].items():
            _write(folder / path, trial.sounds[letter], test.key.sample_rate)
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


def _page(trial: Trial, sounds: Path) -> dict[str, Any]:
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


def _write(target: Path, samples: Pcm | None, sample_rate: int) -> None:
    if samples is not None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(encode_plain_pcm(samples, sample_rate))
