"""The door into pytest: the plugin's entry point.

It acts in a run of update benchmarks, and where a test asks for its fixture. In any other run it costs nothing: nothing
heavy is imported, no option is added, no hook acts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).resolve().parent
PACKAGE = "peft_update_bench"
HOOKS = "peft-update-bench-hooks"
FIXTURE = "update_benchmark"
TABLE = "peft-update-bench"
"""Of ``tool`` in pyproject.toml."""

DESELECTED = pytest.StashKey[set[str]]()
"""The ids of the tests that the run leaves out."""

OF_WORKER = "update_benchmark_deselected"
"""Under which a process of pytest-xdist's hands those of its tests to the one that has started it."""

PROCESS = pytest.StashKey[int]()
"""The process that pytest runs in."""

_IS_MATRIX = pytest.StashKey[bool]()
"""Whether the run is one of the matrix."""


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> Generator[None, object, object]:
    """Add the options where the run is one of update benchmarks, and some of them where a project names us.

    After the conftest files, whose options come first: where one has the name of an option of ours, ours goes by its
    longer name.
    """
    result = yield
    namespace = early_config.known_args_namespace
    given = [word.partition("::")[0] for word in namespace.file_or_dir]
    folder = early_config.invocation_params.dir
    # Values of options that are not known yet stand among them.
    paths = [word for word in given if os.path.exists(folder / word)]  # noqa: PTH110 - a long one is no error there
    if not paths and not any(map(_names_the_package, given)):
        # As pytest has it: in its root folder alone.
        usual = early_config.getini("testpaths") if folder == early_config.rootpath else ()
        paths = [str(folder / name) for name in usual] or ["."]
    is_matrix = any(map(_names_the_package, given)) or _lead_here(folder, paths)
    if is_matrix or _names_us(early_config.rootpath):
        from peft_update_bench.bench.session import option_hooks

        if is_matrix:
            option_hooks.look_in_the_current_folder()
        # Before the options are known: a project's modules may add metrics, kinds of benchmark, and options of these.
        option_hooks.import_project_modules(early_config)
        chosen = option_hooks.OptionHooks(None if is_matrix else option_hooks.OF_TESTS)
        early_config.pluginmanager.register(chosen, f"{HOOKS}-options")
    if is_matrix:
        from peft_update_bench.bench.options.number_lists import join_numbers

        # In place: pytest parses this list after this hook.
        args[:] = join_numbers(args)
        early_config.stash[_IS_MATRIX] = True
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Bring in the hooks where the run is one of update benchmarks, and its options can be followed."""
    config.stash[PROCESS] = os.getpid()
    config.addinivalue_line(
        "markers", "update_tolerance(NAME=FRACTION, ...): how much figures of the test's update_benchmark may grow"
    )
    if config.stash.get(_IS_MATRIX, False):
        from peft_update_bench.bench.session import option_hooks

        # What cannot be done is said before anything is imported that takes longer to load than that to say.
        config.stash[option_hooks.RUN] = option_hooks.read_run(config)
        from peft_update_bench.bench.session import end, hooks

        config.pluginmanager.register(end, f"{HOOKS}-session")
        config.pluginmanager.register(hooks, HOOKS)
    elif config.pluginmanager.has_plugin(f"{HOOKS}-options"):
        from peft_update_bench.bench.session import own_tests

        own_tests.choose_storage(config)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_benchmark_compare_machine_info(
    machine_info: object, compared_benchmark: dict[str, Any]
) -> Generator[None, object, object]:
    """Of a file of ours pytest-benchmark says nothing: the gate compares machines, by the parts that the file holds.

    Its warning would also end a run in a folder below the project's, to which it cannot relate the storage.
    """
    if "suite" in compared_benchmark:
        compared_benchmark["machine_info"] = machine_info
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Where processes of pytest-xdist's collect and run the tests, what the baseline has is held in this one."""
    if session.config.pluginmanager.has_plugin("dsession") and _compares(session.config):
        from peft_update_bench.bench.session import own_tests

        own_tests.begin_distributed(session)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None and session.config.pluginmanager.has_plugin(f"{HOOKS}-options"):
        output[OF_WORKER] = sorted(session.config.stash.get(DESELECTED, ()))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Keep what is left out, whether or not a terminal's reporter counts it."""
    for item in items:
        item.config.stash.setdefault(DESELECTED, set()).add(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Read options and baseline where a test asks for the fixture; or where none does any more and a project that names
    us compares, for the baseline may have some."""
    config = session.config
    tests = [item for item in session.items if FIXTURE in getattr(item, "fixturenames", ())]
    compares = _compares(config)
    without_theirs = config.getoption("benchmark_storage", None) is None
    if not (tests or compares) or without_theirs or hasattr(config, "workerinput"):
        return
    from peft_update_bench.bench.session import own_tests

    if tests:
        own_tests.begin(session, tests)
    else:
        own_tests.begin_without_tests(session)


@pytest.fixture
def update_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> Generator[Callable[..., Any], None, None]:
    """Measures an update step of your own, records it, and fails the test where it does not hold its baseline.

    Called once with ``build_step``, which returns an ``UpdateStep``, or ``(step, network, optimizer)`` with a callable
    that does one update. With ``method`` and ``rank`` it measures a method on the network of ``build_step(network)``.
    Returns the record; under ``--benchmark-disable`` the step is only tried, and it returns None.
    """
    from peft_update_bench.bench.session import own_tests

    test = own_tests.OwnTest(request, benchmark)
    yield test.measure
    test.close()


def _compares(config: pytest.Config) -> bool:
    """Whether a project that names us compares its own tests: a run of the matrix has taken the option from
    pytest-benchmark."""
    return bool(config.pluginmanager.has_plugin(f"{HOOKS}-options") and config.getoption("benchmark_compare", None))


def _names_us(root: Path) -> bool:
    """Whether the nearest pyproject.toml has our table, however it is written; one that cannot be parsed, where it
    looks like it."""
    path = next((p for folder in (root, *root.parents) if (p := folder / "pyproject.toml").is_file()), None)
    try:
        text = path.read_text(encoding="utf-8") if path is not None else ""
    except (OSError, ValueError):
        return False
    if TABLE not in text:
        return False
    try:
        tools = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError:
        return f"[tool.{TABLE}" in text
    return isinstance(tools, dict) and TABLE in tools


def _names_the_package(word: str) -> bool:
    """Whether a word after ``--pyargs`` is this package or a module of it."""
    return word == PACKAGE or word.startswith(f"{PACKAGE}.")


def _lead_here(folder: Path, paths: Iterable[str]) -> bool:
    """Whether any path is this folder, within it, or the one that holds it."""
    resolved = [(folder / path).resolve() for path in paths]
    return any(path in (_FOLDER, _FOLDER.parent) or _FOLDER in path.parents for path in resolved)
