"""Completion of ``update-bench`` in a shell: a script, which knows commands, options, names and files.

    update-bench completion bash > ~/.local/share/bash-completion/completions/update-bench
    update-bench completion zsh > ~/.zfunc/_update-bench  # a folder of your fpath

The script starts no Python. Write it anew after an update.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import shtab
from peft_update_bench.bench.cells import MATRICES
from peft_update_bench.bench.commands.recommend import devices
from peft_update_bench.fixtures.architecture_names import ARCHITECTURES, FURTHER_ARCHITECTURES
from peft_update_bench.fixtures.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="which one the script is for")


def run(given: argparse.Namespace) -> int:
    """Print the script."""
    from peft_update_bench.bench.__main__ import COMMANDS, build_parser

    parser = build_parser(COMMANDS)
    known = _names()
    for action in _actions(parser):
        _complete(action, known)
    print(shtab.complete(parser, given.shell))
    return 0


def _names() -> Mapping[str, Collection[str]]:
    """The names that an option may be given, by its destination. A user's own are not among them."""
    return {
        "architectures": (*ARCHITECTURES, *FURTHER_ARCHITECTURES),
        "methods": tuple(METHODS),
        "matrix": tuple(MATRICES),
        "device": tuple(devices.names()),
        "unstable": ("fail", "warn"),
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _complete(action: argparse.Action, known: Mapping[str, Collection[str]]) -> None:
    """Say what may stand where `action` takes a value: one of the known names, a folder, or a file."""
    takes_value = action.nargs != 0
    if not takes_value or action.choices:
        return
    if action.dest in known:
        action.choices = known[action.dest]
    elif action.metavar in {"FOLDER", "BASE", "HEAD"}:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.type is Path or str(action.metavar).endswith((".json", "FILE", "PATH")):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
