"""Shared fixtures. Tests run on CPU; real speech is optional, found through JEPA_SPEECH_DATA."""

import fnmatch
import gc
import os
from pathlib import Path

import pytest
from support.compile_fast import COMPILE_FAST

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Before jax wakes its backend: four pretend devices, so that sharding is exercised everywhere, and programs that
# compile fast, since tests compile much and compute little.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4 {COMPILE_FAST}"
# Operations carry no lines of Python into what is compiled: no test reads them, and they took 6% of the CPU time.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
# Tracing makes many objects that live long, and at Python's own thresholds the collector scans them often: another 6%.
gc.set_threshold(50_000, 20, 20)
# No program is loaded from a cache, whatever the user's environment says: on several pretended devices, those that are
# run collectives in any order (`compilation_cache_of`). It saved two minutes of twenty.
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""
# librosa, the oracle of some features, compiles at its first use and keeps that beside its sources, where two pytest
# workers in a fresh environment would write the same index at once. Each has a folder of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "numba" / WORKER)
os.environ["NUMBA_OPT"] = "0"  # which takes 7 s where it takes 11, and its results are as exact
# Processes that tests start import this checkout, not another one that may be installed.
ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
left_out: list[str] = []


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder of real labelled speech, where one is at hand."""
    folder = os.environ.get("JEPA_SPEECH_DATA", "")
    if not folder:
        pytest.skip("JEPA_SPEECH_DATA is not set: no real speech at hand")
    return Path(folder).resolve()


def pytest_addoption(parser):
    parser.addoption("--strict-skips", action="store_true", help=f"fail on skips not in {ALLOWED_SKIPS.name}")


def pytest_deselected(items):
    left_out.extend(item.nodeid for item in items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Sends what a worker left out to the process that prints the summary; every worker leaves out the same."""
    left_out[:] = getattr(node, "workeroutput", {}).get("left_out", [])


def unlisted_skips(terminal) -> list[str]:
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    allowed = [line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    skipped = [report.nodeid for report in terminal.stats.get("skipped", [])]
    return [node for node in skipped if not any(fnmatch.fnmatchcase(node, pattern) for pattern in allowed)]


def pytest_terminal_summary(terminalreporter, config):
    if left_out:
        terminalreporter.section("left out by -m or -k (`make test-slow` runs slow ones, `make test-slurm` SLURM's)")
        for name in left_out:
            terminalreporter.line(name)
    if config.getoption("strict_skips") and (unlisted := unlisted_skips(terminalreporter)):
        terminalreporter.section(f"skipped, and not in {ALLOWED_SKIPS.name}: this run fails")
        for node in unlisted:
            terminalreporter.line(node)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = left_out
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("strict_skips") and session.exitstatus == 0 and unlisted_skips(terminal):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
