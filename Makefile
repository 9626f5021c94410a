# make demo | test | test-long | bench: each makes .venv from the hash-pinned lock file if it is missing.
PYTHON ?= python3
ARGS ?=

SDKS := shared authorizenet cybersource localstripe

.PHONY: demo web test test-long bench bench-inbound bench-peers check lock sdks system-packages clean

# A stamp, so that a set-up that failed half-way is done again.
.venv/.made: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/.made

.venv: .venv/.made

# The official SDKs of processors, which tests run as processes: an environment for those that
# get along, one each for those that do not. Some come as source: they are built with a pinned
# setuptools, never with one that pip would fetch without a hash.
.venv-sdks/%/.made: tests/sdks/%.lock tests/sdks/build.lock
	$(PYTHON) -m venv --clear .venv-sdks/$*
	.venv-sdks/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes \
	  --requirement tests/sdks/build.lock
	.venv-sdks/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes \
	  --no-build-isolation --use-pep517 --requirement tests/sdks/$*.lock
	@touch $@

sdks: $(SDKS:%=.venv-sdks/%/.made)

# What the scripts that browsers get are built with: pinned by hash, no install script is run.
checkout/node_modules/.made: checkout/package-lock.json checkout/package.json
	npm ci --prefix checkout --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Build them anew, with their inventory: what is committed is what this makes. A gateway starts with
# new ones once they are approved: make web APPROVED_BY="…".
web: .venv/.made checkout/node_modules/.made
	.venv/bin/python -m gateway.checkout.brand_table > checkout/src/brands.json
	npm run --prefix checkout --silent build -- $(if $(APPROVED_BY),--approve "$(APPROVED_BY)")

# Optional: a peer of `make bench`, which leaves its row out without it.
bench-peers: .venv-sdks/mitmproxy/.made

# The story, with a real OpenBao and a real PostgreSQL: `make demo ARGS=--once` ends after it.
demo: .venv/.made
	.venv/bin/panward demo $(ARGS)

# What needs no running server: style, types, directions of imports.
check: .venv/.made checkout/node_modules/.made
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	npm run --prefix checkout --silent check

# Everything that CI runs. Two processes must agree on the order of cases: hence the seed.
test: check sdks
	.venv/bin/coverage erase
	PYTHONHASHSEED=0 .venv/bin/coverage run -m pytest -m "not long" -n 2 --dist loadfile $(ARGS)
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

# Soaks and many repeats: an hour or so.
test-long: .venv/.made sdks
	.venv/bin/python -m pytest -m long $(ARGS)

# The performance table. Load comes from wrk, which `make system-packages` installs.
bench: .venv/.made
	.venv/bin/python -m bench $(ARGS)

# Inbound routes beside a bare reverse proxy and nginx, uploads, and the scanner alone.
bench-inbound: .venv/.made
	.venv/bin/python -m bench.inbound $(ARGS)
	.venv/bin/python -m bench.scanner $(ARGS)

# What only the distribution has (Debian, Ubuntu).
system-packages:
	apt-get update -qq
	apt-get install --yes --quiet --no-install-recommends wrk util-linux strace chromium \
	  nginx haproxy
	command -v npm >/dev/null || apt-get install --yes --quiet --no-install-recommends nodejs npm
	command -v go >/dev/null || apt-get install --yes --quiet --no-install-recommends \
	  golang-go golang-golang-x-mod-dev

# A new lock file, from pyproject.toml; needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --extra embedded --extra demo --group dev pyproject.toml -o requirements.lock
	for name in build mitmproxy $(SDKS); do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate tests/sdks/$$name.in -o tests/sdks/$$name.lock || exit 1; done

clean:
	rm -rf .venv .venv-sdks checkout/node_modules .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
