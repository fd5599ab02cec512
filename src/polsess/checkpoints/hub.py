"""Files from the Hugging Face hub, or from its cache when there is no network.

Ids of the catalogue are fetched in the format that it names; any other id must hold this library's
safetensors. A pickle is never taken because safetensors are missing.
"""

from __future__ import annotations

import re
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


def fetch(hub_id: str, revision: str | None = None) -> Path:
    """The folder of a model's files, all of one commit; downloaded only if the cache lacks them.

    Args:
        hub_id: Owner and name.
        revision: A commit, tag or branch; None for the catalogue's, else ``main``.

    Returns:
        The snapshot's folder in the hub's cache.

    Raises:
        CheckpointError: If a file cannot be had; the message says what to do.
    """
    from huggingface_hub import hf_hub_download  # slow to import

    entry = catalogue().get(hub_id)
    files = entry.files if entry else (CONFIG, WEIGHTS)
    wanted = revision or (entry.revision if entry else None) or "main"
    folder = _download(hf_hub_download, hub_id, files[0], wanted).parent
    for name in files[1:]:  # the commit of the first file, so that all are of one
        _download(hf_hub_download, hub_id, name, folder.name)
    return folder


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
        raise CheckpointError(
            f"{where}: no such model on the hub, or it is private (run: hf auth login). "
            "A local folder is given by its path, e.g. ./folder."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise CheckpointError(
            f"{where}: {name} is not in the cache and the hub cannot be reached (or HF_HUB_OFFLINE is set). "
            f"With a network, run once: hf download {hub_id}. As a path, {hub_id} does not exist."
        ) from None
    except errors.EntryNotFoundError:
        raise CheckpointError(_no_file(hub_id, name, where)) from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{where}: {name} could not be fetched ({reason}).") from None


def _no_file(hub_id: str, name: str, where: str) -> str:
    if hub_id in catalogue():
        return f"{where}: the hub holds no {name}; the publication has changed."
    return (
        f"{where}: holds no {name}. Ids that the catalogue does not list must be models saved by this "
        "library; for another toolkit's files, download them yourself and give the folder."
    )
