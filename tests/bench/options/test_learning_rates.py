"""``--learning-rates FILE``: what a search wrote, and what is said of any other file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.options import OptionError, RunOptions


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rates.json"


def read(file: Path, methods: str) -> RunOptions:
    given = {"metrics": "adaptation", "data": "digits", "architectures": "resnet18", "methods": methods, "ranks": "4"}
    run = options.read({**given, "learning_rates": str(file)}, {})
    run.benchmark.check_run(run)
    return run


def test_the_rates_are_the_runs_and_the_run_is_repeated_with_them(file: Path) -> None:
    file.write_text(json.dumps({"chosen": {"fft": 0.01, "lora": 1, "head": 0.5}}))
    benchmark = read(file, "fft,lora").benchmark
    assert isinstance(benchmark, AdaptationBenchmark)
    rates = benchmark.adaptation.learning_rates
    assert rates is not None
    assert rates.of == {"fft": 0.01, "lora": 1.0, "head": 0.5}
    assert f"--learning-rates {file}" in benchmark.repeat


@pytest.mark.parametrize(
    ("searched", "methods", "missing"),
    [
        (["fft"], "fft,lora,lora", "lora"),
        (["lora"], "lora", "fft"),
        ([], "dora,lora", "fft,dora,lora"),
    ],
)
def test_every_method_and_full_fine_tuning_need_one(
    file: Path, searched: list[str], methods: str, missing: str
) -> None:
    file.write_text(json.dumps({"chosen": dict.fromkeys(searched, 0.01)}))
    with pytest.raises(OptionError) as raised:
        read(file, methods)
    assert str(raised.value) == (
        f"--learning-rates {file} has no rate of {missing.replace(',', ', ')}; expected one of each method of the run, "
        "and of fft, whose gain sets the target: search for it, with the options that the file was written with "
        f"(update-bench search --methods {missing} --output {file})"
    )


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"chosen": 1}', b'{"chosen": {"fft": "fast"}}', b'{"chosen": {"fft": null}}']
)
def test_what_no_search_wrote_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    expected = f"--learning-rates '{file}' is no search's result; expected a file that update-bench search --output"
    with pytest.raises(OptionError, match=re.escape(expected)):
        read(file, "fft")


@pytest.mark.parametrize(("rate", "told"), [("0", "0.0"), ("-0.1", "-0.1"), ("NaN", "nan"), ("1e999", "inf")])
def test_a_rate_that_learns_nothing_is_refused(file: Path, rate: str, told: str) -> None:
    file.write_text(f'{{"chosen": {{"fft": {rate}}}}}')
    with pytest.raises(OptionError, match=f"says {re.escape(told)} of fft; expected a number above 0$"):
        read(file, "fft")


def test_what_cannot_be_read_is_refused(file: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "lost.json", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(
            OptionError, match=f"^--learning-rates '{re.escape(str(path))}' cannot be read \\({why}\\);"
        ):
            read(path, "fft")
    file.write_bytes(b"\xff")
    with pytest.raises(OptionError, match=r"cannot be read \(not UTF-8\)"):
        read(file, "fft")
