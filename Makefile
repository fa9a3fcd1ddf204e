# Everything here works in a fresh clone with nothing but python3 (3.11 or later, with venv and pip).
#
#   make demo [DATA=/path/to/recordings]    from audio to a probed encoder, under 15 minutes on 2 cores
#   make test [EXTRAS=test,parity]          the tests; ends with what was left out
#   make test-slow                          the tests that take minutes
#   make chaos-damage                       500 damaged files of runs, stores, labels and anchors: none is loaded as good
#   make parity                             against transformers, scikit-learn, librosa: a table, in some minutes
#   make probe-all DATA=/path/to/speech [RUNS="RUN ..."]    every probe with its baselines: a table, in hours
#   make bench [DATA=/path/to/recordings]   the CPU table of benchmarks/, peers beside it, on 2 cores in 10 minutes
#   make bench-check [BASE=COMMIT]          whether HEAD is more than 10% slower than BASE, or than where it left main
#   make lint, make clean

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
PYTEST ?=
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-slow chaos-damage parity probe-all bench bench-check lint clean

# With DATA nothing has to speak, so the GPL-3.0 extra is not installed.
demo: $(VENV)/.installed$(if $(DATA),,-demo)
	$(BIN)/jepa-speech demo $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -n $(WORKERS) --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m "not slow" $(PYTEST)

test-slow: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -m slow $(PYTEST)

# Exit code 1 where one of them is. Under 30 minutes on two cores.
chaos-damage: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/chaos.py --damage 500 --json benchmarks/chaos_damage.json --table benchmarks/chaos_damage.md

# Exit code 1 where an error is above its tolerance. On CPU, where float32 products are float32 products.
parity: $(VENV)/.installed-test,parity
	JAX_PLATFORMS=cpu PYTHONPATH=tests $(BIN)/python -m parity.table benchmarks/parity.md

# Goes on where it was stopped. DATA: see benchmarks/probes.py.
probe-all: $(VENV)/.installed
	$(BIN)/python benchmarks/probes.py --data "$(or $(DATA),$(JEPA_SPEECH_DATA))" --work runs/probes $(if $(RUNS),--run $(RUNS))

# Writes benchmarks/cpu.json, cpu.md and cpu_growth.png.
bench: $(VENV)/.installed-test,parity
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/cpu.py $(if $(DATA),--data "$(DATA)")

# Exit code 1 where HEAD is slower, beyond the noise of the run: the rule stands in the file.
bench-check: $(VENV)/.installed
	$(BIN)/python benchmarks/check.py $(if $(BASE),--base "$(BASE)")

# Types: of the packages for Python 3.11. NumPy 2.5, which later Pythons get, has types that mypy 2.4 reads wrongly.
lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if $(BIN)/python -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))"; then $(BIN)/mypy; \
	else echo "types are not checked: that needs Python 3.11 (make lint PYTHON=python3.11)"; fi

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# A stamp says that setup.py has been installed, with these extras, since it last changed.
$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) install --editable ".[$*]"
	touch $@
