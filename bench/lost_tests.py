"""Which of a baseline's tests a run of users' own tests should have collected, were they still there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
from _pytest.mark.expression import Expression


def left_out(config: pytest.Config) -> tuple[set[str], bool]:
    """The ids of tests that were deselected, and whether the run is of a part of the tests."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    stats: Mapping[str, Sequence[pytest.Item]] = reporter.stats if reporter is not None else {}
    deselected = {item.nodeid for item in stats.get("deselected", ())}
    narrowing = (config.option.file_or_dir, config.getoption("lf", False), *_ignored(config))
    return deselected, bool(deselected or any(narrowing))


def was_collected(session: pytest.Session) -> Callable[[str], bool]:
    """Says of a test's id whether it would be in this run, if it were still there."""
    config = session.config
    # A file that cannot be imported is an error of its own, and nothing is known of what is in it.
    passes_over = (
        config.getoption("lf", False)
        or not config.pluginmanager.has_plugin("terminalreporter")
        or bool(session.testsfailed)
        or _names_markers(config)
    )
    folders = [(config.invocation_params.dir / word).resolve() for word in config.args if "::" not in word]
    ignored, patterns = _ignored(config)
    deselected, _ = left_out(config)
    beginnings = tuple(config.getoption("deselect", None) or ())

    def collected(test: str) -> bool:
        file = (config.rootpath / test.partition("::")[0]).resolve()
        way = (file, *file.parents)
        within = any(folder in way for folder in folders)
        is_ignored = any(place in ignored or any(fnmatch(str(place), glob) for glob in patterns) for place in way)
        is_deselected = test in deselected or test.startswith(beginnings) or not _is_named(config, test)
        return not passes_over and within and not is_ignored and not is_deselected

    return collected


def _ignored(config: pytest.Config) -> tuple[list[Path], list[str]]:
    """Paths, and patterns of paths, that the command line leaves out."""
    folder = config.invocation_params.dir
    paths = [(folder / word).resolve() for word in config.getoption("ignore", None) or ()]
    return paths, [str(folder / word) for word in config.getoption("ignore_glob", None) or ()]


def _names_markers(config: pytest.Config) -> bool:
    """Whether ``-m`` was typed: of a test that is gone nobody knows the markers.

    Where the project's addopts have it, what it leaves out is in no baseline either.
    """
    usual = config._parser.parse_known_args(config.getini("addopts"))
    return bool(config.option.markexpr != usual.markexpr)


def _is_named(config: pytest.Config, test: str) -> bool:
    """Whether ``-k`` admits a test of this id, by the names that pytest goes by as far as an id has them."""
    if not config.option.keyword:
        return True
    path, *names = test.split("::")
    known = [name.lower() for name in (*PurePosixPath(path).parts, *names)]
    return Expression.compile(config.option.keyword).evaluate(
        lambda word, /, **_: any(word.lower() in name for name in known)
    )
