"""Files from the Hugging Face hub, or from its cache when there is no network; and models put there.

Ids of the catalogue are fetched in the format that it names. Of any other id the files of the first known
layout are taken, this library's safetensors before all others, and the commit is printed.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from polsess.checkpoints.catalogue import catalogue
from polsess.checkpoints.native import CONFIG, WEIGHTS
from polsess.checkpoints.unpickling import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(source: str | Path) -> bool:
    """Whether a source is an id rather than a path: ``owner/name``, and no such path exists."""
    return isinstance(source, str) and _HUB_ID.fullmatch(source) is not None and not Path(source).exists()


def fetch(hub_id: str, revision: str | None = None) -> tuple[Path, str]:
    """The folder of a model's files, and their commit; downloaded only if the cache lacks them.

    Args:
        hub_id: Owner and name.
        revision: A commit, tag or branch; None for the catalogue's, else ``main``.

    Returns:
        The folder in the hub's cache that holds the files, all of one commit, and that commit.

    Raises:
        CheckpointError: If a file cannot be had; the message says what to do.
    """
    entry = catalogue().get(hub_id)
    if entry is not None and entry.hub != "huggingface":
        place = " or ".join(f"FOLDER/{name}" for name in entry.files) if entry.experiment else "FOLDER"
        raise CheckpointError(
            f"{hub_id} is not on the Hugging Face hub but at {entry.page}; run: {entry.download} "
            f"and give {place}."
        )
    from huggingface_hub import hf_hub_download  # slow to import

    wanted = revision or (entry.revision if entry else None) or "main"
    files = entry.files if entry else _layout(hf_hub_download, hub_id, wanted)
    first = _download(hf_hub_download, hub_id, files[0], wanted)
    commit = first.parents[files[0].count("/")].name
    for name in files[1:]:  # the commit of the first file, so that all are of one
        _download(hf_hub_download, hub_id, name, commit)
    if entry is None and wanted != commit:
        warnings.warn(
            f"{hub_id} is not in the catalogue; loaded commit {commit}. Pin it with revision.",
            stacklevel=2,
        )
    return first.parent, commit


def _layout(download: Callable[..., str], hub_id: str, revision: str) -> tuple[str, ...]:
    """The files of the first layout whose first file the hub holds, ours first."""
    layouts = dict.fromkeys(
        each.files for each in catalogue().values() if each.hub == "huggingface" and not each.experiment
    )
    known = [(WEIGHTS, CONFIG), *layouts]
    absent: CheckpointError | None = None
    for files in known:
        try:
            _download(download, hub_id, files[0], revision)
        except _NoFileError as error:
            absent = absent or error
        else:
            return files
    names = ", ".join(dict.fromkeys(files[0] for files in known))
    raise AbsentError(
        f"{absent} None of {names} is there; for other files, download them and name the folder."
    )


class AbsentError(CheckpointError):
    """The hub holds no such model, or cannot be asked."""


class _NoFileError(AbsentError):
    """The hub, or the cache when there is no network, holds no such file."""


def _download(download: Callable[..., str], hub_id: str, name: str, revision: str) -> Path:
    from huggingface_hub import errors

    where = f"{hub_id} at '{revision}'"
    try:
        return Path(download(hub_id, name, revision=revision))
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{where}: the hub has no such revision.") from None
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{where}: access is restricted; ask for it on the model's page, then run: hf auth login."
        ) from None
    except errors.RepositoryNotFoundError:
        raise AbsentError(
            f"{where}: no such model on the hub, or it is private (run: hf auth login). "
            "A local folder is given by its path, e.g. ./folder."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise _NoFileError(
            f"{where}: {name} is not in the cache and the hub cannot be reached (or HF_HUB_OFFLINE is set). "
            f"With a network, run once: hf download {hub_id}{_option(revision)}. "
            f"As a path, {hub_id} does not exist."
        ) from None
    except errors.EntryNotFoundError:
        raise _NoFileError(f"{where}: the hub holds no {name}; the publication has changed.") from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{where}: {name} could not be fetched ({reason}).") from None


def _option(revision: str) -> str:
    return "" if revision == "main" else f" --revision {revision}"
