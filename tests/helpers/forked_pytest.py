"""Pytest in a process of its own, forked from the tests': what takes ten seconds to import is there already."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import warnings
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

import pytest


def start_pytest(folder: Path, *arguments: str) -> tuple[BaseProcess, TextIO]:
    """The process that runs ``pytest`` with `arguments` in `folder`, and what it writes to stdout and stderr."""
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(writing, folder, arguments))
    with warnings.catch_warnings():
        # From Python 3.12 on, of any fork beside threads: those of the tests are idle.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    os.close(writing)
    return process, os.fdopen(reading)


def ended(process: BaseProcess, output: TextIO, seconds: float = 60.0) -> tuple[int, str]:
    """The exit status, negative for a signal, and the rest of the output; the process ends within `seconds`."""
    with closing(output):
        rest = output.read()
    process.join(seconds)
    assert process.exitcode is not None, "it has closed its output and goes on"
    return process.exitcode, rest


def _run(writing: int, folder: Path, arguments: tuple[str, ...]) -> None:
    # The tests may run where interrupts are ignored, as in the background of a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard in (1, 2):
        os.dup2(writing, standard)
    os.close(writing)
    # What the tests' own capturing has put there is not for this process.
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w"), line_buffering=True) for number in (1, 2))
    os.chdir(folder)
    status = pytest.main(list(arguments))
    sys.stdout.flush()
    sys.exit(int(status))
