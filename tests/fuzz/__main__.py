"""A coverage-guided fuzzer over what reads text from others: ``pip install atheris && python -m tests.fuzz SECONDS``.

Whatever stands in a baseline or an option, the answer is a value or one sentence of the error that is meant for it. An
exception of any other kind, or a message of several lines, ends the fuzzer with the input that did it. The process ends
with status 0 when the time is up.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(
    include=[
        "peft_update_bench.bench.gate.baseline",
        "peft_update_bench.bench.options",
        "peft_update_bench.bench.record",
        "peft_update_bench.bench.cells",
        "json",
    ]
):
    from peft_update_bench.bench import options
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate import baseline, baseline_file
    from peft_update_bench.bench.gate.baseline import BaselineError
    from peft_update_bench.bench.options import OptionError

from tests.helpers.records import baseline_data, extra_info

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
TEXT_OPTIONS = (
    "matrix", "architectures", "methods", "ranks", "metrics", "batch_size", "image_size", "num_classes", "optimizer",
    "dtype", "threads", "device", "unstable", "cell_seconds",
)  # fmt: skip


def expect_one_sentence(function: Callable[..., object], *args: Any) -> None:
    try:
        function(*args)
    except (BaselineError, OptionError) as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError(f"expected one line: {error}") from error


def any_json(data: atheris.FuzzedDataProvider, depth: int = 0) -> Any:
    kind = data.ConsumeIntInRange(0, 8 if depth < 3 else 6)
    if kind < 4:
        return (None, True, "", 0)[kind]
    if kind == 4:
        return data.ConsumeInt(data.ConsumeIntInRange(1, 9))
    if kind == 5:
        return data.ConsumeFloat()
    if kind == 6:
        return data.ConsumeUnicodeNoSurrogates(12)
    if kind == 7:
        return [any_json(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    return {data.ConsumeUnicodeNoSurrogates(6): any_json(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 3))}


def bytes_as_baseline(data: atheris.FuzzedDataProvider) -> None:
    path = FOLDER / "0001_bytes.json"
    path.write_bytes(data.ConsumeBytes(data.remaining_bytes()))
    expect_one_sentence(baseline.read, path)


def damaged_baseline(data: atheris.FuzzedDataProvider) -> None:
    """A valid baseline in which up to three entries are replaced, removed or added."""
    content: Any = baseline_data(extra_info(), extra_info(Cell("resnet18", "fft")))
    content["commit_info"] = {"id": "0123", "time": "2026-01-01T00:00:00+00:00"}
    content["datetime"] = "2026-01-01T00:00:00"
    for _ in range(data.ConsumeIntInRange(1, 3)):
        inner: Any = content
        while isinstance(inner, dict | list) and inner:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            key = keys[data.ConsumeIntInRange(0, len(keys) - 1)]
            if not isinstance(inner[key], dict | list) or data.ConsumeIntInRange(0, 3) == 0:
                action = data.ConsumeIntInRange(0, 3)
                if action == 0:
                    del inner[key]
                elif action == 1 and isinstance(inner, dict):
                    inner[data.ConsumeUnicodeNoSurrogates(8)] = any_json(data)
                else:
                    inner[key] = any_json(data)
                break
            inner = inner[key]
    path = FOLDER / "0001_damaged.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    expect_one_sentence(baseline.read, path)


def any_options(data: atheris.FuzzedDataProvider) -> None:
    given: dict[str, str | None] = dict.fromkeys(TEXT_OPTIONS)
    for _ in range(data.ConsumeIntInRange(1, 3)):
        name = TEXT_OPTIONS[data.ConsumeIntInRange(0, len(TEXT_OPTIONS) - 1)]
        given[name] = data.ConsumeUnicode(data.ConsumeIntInRange(0, 30))
    expect_one_sentence(options.read, given, {"latency": 0.1})


def any_tolerance(data: atheris.FuzzedDataProvider) -> None:
    override = data.ConsumeUnicode(30)
    expect_one_sentence(options.tolerances, {"latency": 0.1}, [override, f"latency={override}"])
    expect_one_sentence(options.storage_folder, override)


def any_name(data: atheris.FuzzedDataProvider) -> None:
    expect_one_sentence(baseline_file.find, FOLDER, data.ConsumeUnicode(300), "machine")


TARGETS = (bytes_as_baseline, damaged_baseline, damaged_baseline, any_options, any_tolerance, any_name)


def one_input(content: bytes) -> None:
    data = atheris.FuzzedDataProvider(content)
    TARGETS[data.ConsumeIntInRange(0, len(TARGETS) - 1)](data)


def main() -> None:
    words = sys.argv[1:]
    if len(words) != 1 or not words[0].isdigit():
        sys.exit(f"python -m tests.fuzz: given {' '.join(words)!r}; expected a whole number of seconds")
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={words[0]}", "-max_len=1024", "-len_control=0", f"-artifact_prefix={FOLDER}/"],
        one_input,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
