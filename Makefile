# What people do here, one target each. `make serve` and `make test` set up all they need on a fresh machine.

UV_VERSION := 0.13.9
UV := .uv/$(UV_VERSION)/bin/uv
BIN := .venv/bin
PYTHON ?= python3
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help serve test unit harness check format bench lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: .venv/ready  ## set up, then serve on the embedded default (http://127.0.0.1:8000, data in calotype-data/)
	@exec $(BIN)/calotype serve

test: .venv/ready .venv-ministack/ready  ## set up, then run all tests
	$(BIN)/pytest $(PYTEST_ARGS)

unit: .venv/ready  ## run the unit tests: no I/O, seconds
	$(BIN)/pytest tests/unit -q

harness: .venv/ready  ## run the state machine for minutes (HARNESS_SCALE=100: 100 times what `make test` does)
	HARNESS_SCALE=$${HARNESS_SCALE:-20} $(BIN)/pytest tests/harness

check: .venv/ready  ## lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready  ## measure speed and memory on this machine
	$(BIN)/python -m bench

lock: $(UV)  ## bring the lock file up to date with pyproject.toml
	$(UV) lock

clean:  ## remove what the targets above have set up (no data)
	rm -rf .venv .venv-ministack .uv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# uv goes to a folder of its own: a system's Python need not allow, or have, virtual environments for that.
$(UV):
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .uv/$(UV_VERSION) uv==$(UV_VERSION)

.venv/ready: $(UV) uv.lock pyproject.toml
	$(UV) sync --quiet --locked --python $(PYTHON)
	@touch $@

# A server that speaks AWS, for the end-to-end tests. Its dependencies are none of ours.
.venv-ministack/ready: $(UV) tests/ministack.txt
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-ministack
	$(UV) pip sync --quiet --require-hashes --python .venv-ministack/bin/python tests/ministack.txt
	@touch $@
