# make demo      the main job: two networks measured before and after a rescaling
# make test      the test suite and the examples of the docstrings
# make deep      slow tests: real networks, many compilations, coverage by simulation, and many examples of each property
# make lint      style and types
# make docs      the documentation, warnings as errors
# make bench     costs, as ratios to one gradient
#
# Each sets up .venv by itself, from Python 3.11 or newer and pip.

PYTHON ?= python3
ENVIRONMENT := .venv
RUN := $(ENVIRONMENT)/bin
INSTALL := $(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# What JAX compiled in one run serves the next.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/$(ENVIRONMENT)/jax-cache
.PHONY: demo test deep lint docs bench clean

demo: $(ENVIRONMENT)/demo
	$(RUN)/invariant-sharpness demo

test: $(ENVIRONMENT)/develop
	$(RUN)/python -m pytest --doctest-modules invariant_sharpness backends/invariant_sharpness_numpy
	$(RUN)/python -m pytest --numprocesses 2 -m "not slow" $(PYTEST_OPTIONS)

deep: $(ENVIRONMENT)/develop
	$(RUN)/python -m pytest --numprocesses 2 -m "slow or hypothesis" --hypothesis-profile deep $(PYTEST_OPTIONS)

lint: $(ENVIRONMENT)/develop
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	PYTHONPATH=backends $(RUN)/lint-imports
	$(RUN)/python docs/_extensions/validate_docstrings.py
	$(RUN)/mypy
	$(RUN)/pyright --pythonpath $(RUN)/python

docs: $(ENVIRONMENT)/develop
	$(RUN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(ENVIRONMENT)/develop
	$(RUN)/python docs/experiments/cost.py

clean:
	rm -rf $(ENVIRONMENT) docs/_build

$(ENVIRONMENT)/bin/python:
	$(PYTHON) -m venv $(ENVIRONMENT)
	$@ -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(ENVIRONMENT)/demo: pyproject.toml constraints.txt | $(ENVIRONMENT)/bin/python
	$(INSTALL) -e '.[demo]'
	touch $@

$(ENVIRONMENT)/develop: pyproject.toml constraints.txt | $(ENVIRONMENT)/bin/python
	$(INSTALL) -e '.[all]' --group dev
	touch $@ $(ENVIRONMENT)/demo
