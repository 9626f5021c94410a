# make demo | test | test-long | bench: each makes .venv from the hash-pinned lock file if it is missing.
PYTHON ?= python3
ARGS ?=

.PHONY: demo test test-long bench check lock system-packages clean

# A stamp, so that a set-up that failed half-way is done again.
.venv/.made: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/.made

.venv: .venv/.made
