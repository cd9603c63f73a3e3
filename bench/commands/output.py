"""The file that ``--output`` names: why it cannot be written, in the same words by every command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.fixtures.files import unwritable


@contextmanager
def writing(path: Path, read: Iterable[Path] = ()) -> Iterator[None]:
    """Within it `path` is written. Raises CommandError where that cannot be done, or would replace a file of those that
    the command has `read`."""
    refuse_unwritable(path, read)
    try:
        yield
    except OSError as error:
        raise _unwritten(path, error.strerror) from None


def refuse_unwritable(path: Path, read: Iterable[Path] = ()) -> None:
    """As :func:`writing`, for all that is known before: what is to be written may take minutes, or hours."""
    if path == Path("-"):
        raise CommandError("--output -: expected a file's name, such as /dev/stdout")
    if path.is_file() and any(one.exists() and path.samefile(one) for one in read):
        raise CommandError(f"--output {path}: is one of the files that are read; expected another")
    if why := unwritable(path):
        raise _unwritten(path, why)


def _unwritten(path: Path, why: str | None) -> CommandError:
    return CommandError(f"--output {path}: {why}; expected a file in a folder that can be written")
