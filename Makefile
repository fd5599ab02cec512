# `make demo` and `make test` need nothing but python3 >= 3.11: they make their own environment.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check -q

.PHONY: help demo test check slow release-check clean

help:
	@echo "make demo           separate mixtures of real voices with the default model: sounds, a picture, scores"
	@echo "make test           run the test suite (a few minutes)"
	@echo "make check          run ruff, ruff format and mypy strict"
	@echo "make slow           run the long tests that are not part of make test"
	@echo "make release-check  compare generated documents with the code; test the lowest versions of all packages"
	@echo "make clean          remove the environment and the outputs of these commands"

demo: .venv/.installed
	$(BIN)/polsess demo --out demo

test: .venv/.developing
	$(BIN)/python -m pytest -q

check: .venv/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: .venv/.developing
	$(BIN)/python -m pytest -q -m slow

release-check: .venv/.developing
	$(BIN)/python -m pytest -q -m release
	.ci/lowest_versions

clean:
	rm -rf .venv demo separated .pytest_cache .mypy_cache .ruff_cache

.venv/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 >= 3.11 is needed")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.created pyproject.toml constraints.txt
	@echo "installing into .venv (a minute or two) ..."
	$(PIP) install -c constraints.txt -e '.[plots]'
	@touch $@

# pesq has no wheels: without a C compiler its scores are reported as missing.
.venv/.developing: .venv/.created pyproject.toml constraints.txt
	@echo "installing into .venv with the development tools (a few minutes) ..."
	$(PIP) install -c constraints.txt -e '.[dev]'
	@$(PIP) install -c constraints.txt pesq 2>/dev/null || echo "pesq not installed (it needs a C compiler); PESQ will be missing"
	@touch $@ .venv/.installed
