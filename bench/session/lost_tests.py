"""Which of a baseline's tests a run of users' own tests should have collected, were they still there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
from peft_update_bench.bench.plugin import DESELECTED


def is_narrowed(config: pytest.Config) -> bool:
    """Whether the run is of a part of the tests."""
    folder, root = config.invocation_params.dir.resolve(), config.rootpath.resolve()
    narrowing = (
        config.stash.get(DESELECTED, ()),
        config.option.file_or_dir,
        # Where nothing is named, what lies below the folder in which pytest was started.
        root in folder.parents,
        config.getoption("lf", False),
        *_ignored(config),
    )
    return any(narrowing)


def was_collected(session: pytest.Session) -> Callable[[str], bool]:
    """Says of a test's id whether it would be in this run, if it were still there."""
    config = session.config
    # A file that cannot be imported is an error of its own, and nothing is known of what is in it.
    passes_over = config.getoption("lf", False) or bool(session.testsfailed) or _types_an_expression(config)
    folders = [_place(config, word) for word in config.args if "::" not in word]
    ignored, patterns = _ignored(config)
    deselected = config.stash.get(DESELECTED, set())
    beginnings = tuple(config.getoption("deselect", None) or ())

    def collected(test: str) -> bool:
        file = (config.rootpath / test.partition("::")[0]).resolve()
        way = (file, *file.parents)
        within = any(folder in way for folder in folders)
        is_ignored = any(place in ignored or any(fnmatch(str(place), glob) for glob in patterns) for place in way)
        is_deselected = test in deselected or test.startswith(beginnings)
        return not passes_over and within and not is_ignored and not is_deselected

    return collected


def counted_from(recorded: Iterable[str], tests: Sequence[pytest.Item]) -> tuple[str, pytest.Item, Path] | None:
    """Where none of the `tests` is `recorded` under its id, because the recording's root folder was another: one that
    was, the test that it is now, and that folder. None where some are, or no test is another's."""
    ids = {*recorded}
    if any(test.nodeid in ids for test in tests):
        return None
    for test in tests:
        name, file = test.nodeid.partition("::")[2], test.path.resolve()
        for other in sorted(ids):
            path, _, other_name = other.partition("::")
            parts = Path(path).parts
            is_left = (test.config.rootpath / path).exists()
            if name == other_name and file.parts[-len(parts) :] == parts and not is_left:
                return other, test, file.parents[len(parts) - 1]
    return None


def _place(config: pytest.Config, word: str) -> Path:
    """The folder or file that a word of the command line means, which is there; with ``--pyargs`` it may be the name of
    a module or a package."""
    path = config.invocation_params.dir / word
    if config.option.pyargs and not path.exists() and (spec := find_spec(word)):
        path = Path((spec.submodule_search_locations or [spec.origin or ""])[0])
    return path.resolve()


def _ignored(config: pytest.Config) -> tuple[list[Path], list[str]]:
    """Paths, and patterns of paths, that the command line leaves out."""
    folder = config.invocation_params.dir
    paths = [(folder / word).resolve() for word in config.getoption("ignore", None) or ()]
    return paths, [str(folder / word) for word in config.getoption("ignore_glob", None) or ()]


def _types_an_expression(config: pytest.Config) -> bool:
    """Whether ``-k`` or ``-m`` was typed, also among other letters: nobody knows whether it would admit a test that is
    gone. An empty one, as of a variable that is not set, admits all. Where the project's addopts have one, what it
    leaves out is in no baseline either."""
    # Behind a letter that takes a value, as in -pno:randomly, is no further option.
    typed = (re.match(r"-[^-cnoprW]*?([km])", str(word)) for word in config.invocation_params.args)
    expressions = {"k": config.getoption("keyword", "").lstrip(), "m": config.getoption("markexpr", "")}
    return any(letter and expressions[letter[1]] for letter in typed)
