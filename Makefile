# What people do here, one target each. `make serve` and `make test` set up all they need on a fresh machine.

UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' .ci/uv.txt)
UV := .uv/$(UV_VERSION)/bin/uv
BIN := .venv/bin
PYTHON ?= python3
export UV_PYTHON_DOWNLOADS := never

BENCH_ENVIRONMENTS := $(patsubst bench/environments/%.txt,.venv-bench-%/ready,$(wildcard bench/environments/*.txt))

.DEFAULT_GOAL := help
.PHONY: help serve test unit harness corpus fuzz check audit format bench load regress valgrind lock clean

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

corpus: .corpus/ready  ## fetch images that have harmed decoders before (65 MB), for `make test` to try

fuzz: .venv/ready .venv-ministack/ready  ## ask the API for minutes what it does not expect (FUZZ_SECONDS=300, FUZZ_SEED=a number)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-300} FUZZ_SEED=$${FUZZ_SEED:-$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')} \
		$(BIN)/pytest -s tests/e2e/test_contract.py

audit: .venv/ready  ## look for known vulnerabilities in what is locked (AUDIT_ARGS=--strict: or fail)
	$(BIN)/python .ci/audit.py $(AUDIT_ARGS)

check: .venv/ready  ## lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready .venv-ministack/ready $(BENCH_ENVIRONMENTS) load  ## measure beside others: half an hour, 15 GB (BENCH_ARGS=--quick: minutes)
	$(BIN)/python -m bench $(BENCH_ARGS)

regress: .venv/ready valgrind  ## count the instructions of five key paths against those kept (REGRESS_ARGS=--record: keep)
	$(BIN)/python -m bench.regress $(REGRESS_ARGS)

lock: $(UV)  ## bring the lock file up to date with pyproject.toml
	$(UV) lock

clean:  ## remove what the targets above have set up (no data)
	rm -rf .venv .venv-ministack .venv-bench-* $${XDG_CACHE_HOME:-$$HOME/.cache}/calotype-bench .uv .corpus dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# uv goes to a folder of its own: a system's Python need not allow, or have, virtual environments for that.
$(UV):
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .uv/$(UV_VERSION) \
		--only-binary :all: --require-hashes -r .ci/uv.txt

.corpus/ready: tests/corpus.txt
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes -r tests/corpus.txt -d .corpus
	@touch $@

.venv/ready: $(UV) uv.lock pyproject.toml
	$(UV) sync --quiet --locked --python $(PYTHON)
	@touch $@

# A server that speaks AWS, for the end-to-end tests. Its dependencies are none of ours.
.venv-ministack/ready: $(UV) tests/ministack.txt
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-ministack
	$(UV) pip sync --quiet --require-hashes --python .venv-ministack/bin/python tests/ministack.txt
	@touch $@

# The programs measured beside Calotype, and what draws the plots.
.venv-bench-%/ready: bench/environments/%.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(@D)
	$(UV) pip sync --quiet --require-hashes --python $(@D)/bin/python $<
	@touch $@

load:
	@{ command -v wrk && command -v eatmydata; } >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --no-install-recommends wrk eatmydata </dev/null; } \
		|| { echo "bench drives load with wrk, and leaves syncs out with eatmydata: apt-get install wrk eatmydata" >&2; exit 1; }

# Without it there is nothing to count with: bench.regress says so.
valgrind:
	@command -v valgrind >/dev/null || [ "$$(id -u)" != 0 ] \
		|| { apt-get update -qq && apt-get install -qq --no-install-recommends valgrind; } >/dev/null 2>&1 </dev/null || true
