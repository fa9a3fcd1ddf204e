# All targets work in a fresh clone and need only python3 (3.11 or later, with venv and pip).
#
#   make demo [DATA=/path/to/recordings]    from audio to a probed encoder, under 15 minutes on 2 cores
#   make test [EXTRAS=test,parity]          the tests; the summary names skipped ones
#   make test-slow                          the tests that take minutes
#   make test-slurm                         the SLURM scripts on a SLURM of two nodes here, in under 30 minutes
#   make test-gcloud                        launch/tpu_pod.sh with the real gcloud, in 10 minutes; no account is needed
#   make chaos-damage                       500 damaged files of runs, stores, labels, anchors: none may load wrongly
#   make parity                             comparison with transformers, scikit-learn, librosa: a table, in minutes
#   make probe-all DATA=/path/to/speech [RUNS="RUN ..."]    every probe with its baselines: a table, in hours
#   make bench [DATA=/path/to/recordings]   the CPU table of benchmarks/ with peers, on 2 cores in 10 minutes
#   make bench-long                         rows that take minutes each, in 7 minutes
#   make bench-check [BASE=COMMIT]          whether HEAD is over 10% slower than BASE (default: its origin on main)
#   make lint, make clean

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
PYTEST ?=
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-slow test-slurm test-gcloud chaos-damage parity probe-all bench bench-long bench-check lint clean

# With DATA no speech is synthesised, so the GPL-3.0 extra is not installed.
demo: $(VENV)/.installed$(if $(DATA),,-demo)
	$(BIN)/jepa-speech demo $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -n $(WORKERS) --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -m "not slow" $(PYTEST)

test-slow: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -m "slow and not slurm" $(PYTEST)

# Needs SLURM and MUNGE (Debian: slurm-wlm, munge), but no root and no configuration: it starts and stops its own daemons.
test-slurm: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -m slurm tests/slurm $(PYTEST)

test-gcloud: $(VENV)/.installed-$(EXTRAS)
	@command -v gcloud >/dev/null || \
	{ echo "gcloud is not on this machine; install Google's package google-cloud-cli (cloud.google.com/sdk)" >&2; exit 1; }
	$(BIN)/python -m pytest -m gcloud tests/cli/test_tpu_pod.py $(PYTEST)

# Exit code 1 if one is loaded wrongly. Takes under 30 minutes on two cores.
chaos-damage: $(VENV)/.installed
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/chaos.py --damage 500 --json benchmarks/chaos_damage.json --table benchmarks/chaos_damage.md

# Exit code 1 if an error is above its tolerance. On CPU, because GPUs may round float32 products to fewer bits.
parity: $(VENV)/.installed-test,parity
	JAX_PLATFORMS=cpu PYTHONPATH=tests $(BIN)/python -m parity.table benchmarks/parity.md

# Resumes after an interruption. DATA: see benchmarks/probes.py.
probe-all: $(VENV)/.installed
	$(BIN)/python benchmarks/probes.py --data "$(or $(DATA),$(JEPA_SPEECH_DATA))" --work runs/probes $(if $(RUNS),--run $(RUNS))

# Writes benchmarks/cpu.json, cpu.md and cpu_growth.png.
bench: $(VENV)/.installed-test,parity
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/cpu.py $(if $(DATA),--data "$(DATA)")

# Writes cpu.json and cpu.md into benchmarks/long/.
bench-long: $(VENV)/.installed-test,parity
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/cpu.py --only embedding --out benchmarks/long

# Exit code 1 if HEAD is slower beyond the noise of the run; benchmarks/check.py has the rule.
bench-check: $(VENV)/.installed
	$(BIN)/python benchmarks/check.py $(if $(BASE),--base "$(BASE)")

# mypy runs only on Python 3.11: later versions get NumPy 2.5, whose types mypy 2.4 misreads.
lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if $(BIN)/python -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))"; then $(BIN)/mypy; \
	else echo "types are not checked: that needs Python 3.11 (make lint PYTHON=python3.11)"; fi

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# A stamp file records that these extras have been installed since setup.py last changed.
$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) install --editable ".[$*]"
	touch $@
