"""The file that ``--output`` names: why it cannot be written, in the same words by every command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from peft_update_bench.bench.command_error import CommandError


@contextmanager
def writing(path: Path, read: Iterable[Path] = ()) -> Iterator[None]:
    """Within it `path` is written. Raises CommandError where that cannot be done, or would replace a file of those that
    the command has `read`."""
    if path == Path("-"):
        raise CommandError("--output -: expected a file's name, such as /dev/stdout")
    try:
        if path.is_file() and any(one.exists() and path.samefile(one) for one in read):
            raise CommandError(f"--output {path}: is one of the files that are read; expected another")
        yield
    except OSError as error:
        raise CommandError(
            f"--output {path}: {error.strerror}; expected a file in a folder that can be written"
        ) from None
