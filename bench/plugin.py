"""The door into pytest: the plugin's entry point, which acts in a run of update benchmarks only.

In any other run it costs nothing: nothing heavy is imported, no option and no fixture is added, no hook acts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parent
PACKAGE = "peft_update_bench"
HOOKS = "peft-update-bench-hooks"


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Bring in the hooks where the run is one of update benchmarks.

    After the conftest files, whose options come first: where one has the name of an option of ours, ours goes by its
    longer name.
    """
    result = yield
    namespace = early_config.known_args_namespace
    given = [word.partition("::")[0] for word in namespace.file_or_dir]
    folder = early_config.invocation_params.dir
    # Values of options that are not known yet stand among them.
    paths = [word for word in given if (folder / word).exists()]
    if not paths and not any(map(_names_the_package, given)):
        paths = [str(early_config.rootpath / name) for name in early_config.getini("testpaths")] or ["."]
    if any(map(_names_the_package, given)) or _lead_here(folder, paths):
        from peft_update_bench.bench import hooks

        # Before the options are known: a project's modules may add metrics, kinds of benchmark, and options of these.
        hooks.import_project_modules(early_config)
        early_config.pluginmanager.register(hooks, HOOKS)
    return result


def _names_the_package(word: str) -> bool:
    """Whether a word after ``--pyargs`` is this package or a module of it."""
    return word == PACKAGE or word.startswith(f"{PACKAGE}.")


def _lead_here(folder: Path, paths: Iterable[str]) -> bool:
    """Whether any path is this folder, within it, or the one that holds it."""
    resolved = [(folder / path).resolve() for path in paths]
    return any(path in (_FOLDER, _FOLDER.parent) or _FOLDER in path.parents for path in resolved)
