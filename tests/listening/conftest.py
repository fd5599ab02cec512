from __future__ import annotations

import pytest

from polsess.evaluation import SavedEvaluation
from tests.listening.planted import evaluated


@pytest.fixture(scope="session")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> list[SavedEvaluation]:
    return evaluated(tmp_path_factory.mktemp("listening"))
