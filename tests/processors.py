"""What not every processor can compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def skipped_without_bfloat16() -> Iterator[None]:
    """Skip the test where oneDNN has no recurrent layers in bfloat16, as on processors without AVX-512."""
    try:
        yield
    except RuntimeError as error:
        if "could not create a primitive" not in str(error):
            raise
        pytest.skip("this processor has no recurrent layers in bfloat16")
