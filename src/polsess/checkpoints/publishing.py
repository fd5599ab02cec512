"""A saved model put on the Hugging Face hub, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polsess.checkpoints.card import THIS_FOLDER
from polsess.checkpoints.hub import is_hub_id
from polsess.checkpoints.loading import read_checkpoint
from polsess.checkpoints.native import CARD, CONFIG, WEIGHTS
from polsess.checkpoints.unpickling import CheckpointError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd


def push_to_hub(
    folder: str | Path,
    hub_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "Model of polsess",
) -> str:
    """Put a folder of ``save_model`` or ``convert_checkpoint`` on the hub, all files in one commit.

    The lines of code in its card name the id then. A repository of that id is made if there is none; earlier
    files stay in its history. Log in before with ``hf auth login``, or set ``HF_TOKEN``.

    Args:
        folder: Holds ``config.json``, ``model.safetensors`` and the card ``README.md``.
        hub_id: Owner and name, e.g. ``"anna/convtasnet-polsess"``.
        private: Whether a repository that has to be made is seen by its owner only.
        revision: A branch that exists; None for ``main``.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: If the folder holds no model of this library, or the hub refuses it.
    """
    if not is_hub_id(hub_id):
        raise CheckpointError(f"{hub_id}: expected OWNER/NAME, e.g. anna/convtasnet-polsess, and no path.")
    files = _files(Path(folder), hub_id)
    from huggingface_hub import HfApi, errors  # slow to import

    hub = HfApi()
    try:
        hub.create_repo(hub_id, private=private, exist_ok=True)
        made = hub.create_commit(hub_id, files, commit_message=message, revision=revision)
    except errors.LocalTokenNotFoundError:
        raise CheckpointError(f"{hub_id}: log in first: hf auth login, or set HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{hub_id}: the hub has no branch '{revision}'.") from None
    except errors.HfHubHTTPError as error:
        raise CheckpointError(f"{hub_id}: {_reason(error)}") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{hub_id}: could not be put on the hub ({reason}).") from None
    return str(made.commit_url)


def _files(folder: Path, hub_id: str) -> list[CommitOperationAdd]:
    """The files of a folder whose weights are those that its configuration names."""
    from huggingface_hub import CommitOperationAdd

    read = read_checkpoint(folder).format
    if read != "polsess":
        raise CheckpointError(
            f"{folder}: holds files of the format {read}; run polsess convert, and push its folder."
        )
    if not (folder / CARD).is_file():
        raise CheckpointError(f"{folder / CARD}: missing; the hub shows it as the model's card.")
    card = (folder / CARD).read_text(encoding="utf-8").replace(THIS_FOLDER, hub_id)
    contents = {CARD: card.encode(), CONFIG: folder / CONFIG, WEIGHTS: folder / WEIGHTS}
    return [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in contents.items()
    ]


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return "the hub refuses: log in with a token that may write there (hf auth login, or HF_TOKEN)."
    return f"the hub refuses ({' '.join(str(error).split())[:160]})."
