"""The sound of a job as a file of this machine: fetched from a store, and cut out where a part is wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from polsess.audio import AudioError, AudioFormat, AudioReader, AudioWriter
from polsess.inference.manifests import Excerpt
from polsess.object_storage import fetched, shown
from polsess.system_errors import check_space
from polsess.text_tables import counted

_BLOCK = 1 << 20


@contextmanager
def sound_of(source: Path, excerpt: Excerpt | None = None) -> Iterator[Path]:
    """A sound file for the time of the block; errors within it name the source.

    Args:
        source: A file, or an object of a store.
        excerpt: The part that is wanted; None for all.

    Raises:
        AudioError: If the source cannot be used, or the part lies outside of it.
        OSError: If it cannot be fetched, or the disk is full.
    """
    with ExitStack() as stack:
        part = file = stack.enter_context(fetched(source))
        if excerpt is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="polsess-"))
            part = Path(folder, source.name).with_suffix(".wav")
        try:
            if excerpt is not None:
                _cut(file, excerpt, part)
            yield part
        except AudioError as error:
            if error.path not in (file, part) or error.path == source:
                raise
            raise AudioError(shown(source), error.cause) from None
        except (ValueError, RuntimeError) as error:
            text = str(error).replace(str(part), shown(source))
            if text == str(error):
                raise
            raise type(error)(text) from None


def _cut(file: Path, excerpt: Excerpt, target: Path) -> None:
    with AudioReader(file) as reader:
        info = reader.info
        start = round(excerpt.start_seconds * info.sample_rate)
        length = info.num_samples - start
        if excerpt.seconds is not None:
            length = round(excerpt.seconds * info.sample_rate)
        # Lists round their times; what lies beyond the end by less than a hundredth of a second is no error.
        if start + length - info.num_samples <= info.sample_rate // 100:
            length = min(length, info.num_samples - start)
        if not 0 < length <= info.num_samples - start:
            raise AudioError(file, f"is {info.duration_seconds:g} s long; asked for the part {excerpt}.")
        channels = excerpt.channels or tuple(range(info.num_channels))
        if max(channels) >= info.num_channels:
            raise AudioError(
                file, f"has {counted(info.num_channels, 'channel')}; asked for channel {max(channels)}."
            )
        check_space(target.parent, 4 * length * len(channels))
        reader.seek(start)
        form = AudioFormat("wav", "32f")
        with AudioWriter(target, info.sample_rate, len(channels), length, form, False, target) as writer:
            for begin in range(0, length, _BLOCK):
                writer.write(reader.read(min(_BLOCK, length - begin))[list(channels)])
