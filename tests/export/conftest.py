"""The modules of the page, run once for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.export.page_modules import PageModules


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageModules]:
    modules = PageModules(tmp_path_factory.mktemp("page"))
    yield modules
    modules.close()
