"""What a new baseline changes: between two recordings, and as the text that git compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell

from tests.helpers.records import FFT, LATENCY, LORA, VERSIONS, baseline_data, changed, extra_info, write

DORA = Cell("resnet18", "dora", 4)


def recording(path: Path, *infos: dict[str, Any], **top: Any) -> Path:
    return write(path, {**baseline_data(*infos), **top})


def diff(capsys: pytest.CaptureFixture[str], *paths: Path) -> list[str]:
    assert main(["diff", *map(str, paths)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


def test_nothing_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (recording(tmp_path / name, extra_info(FFT), extra_info(LORA)) for name in ("1.json", "2.json"))
    assert diff(capsys, old, new) == [
        f"{old} → {new}",
        "commit: none, as before",
        "machine: A CPU, 2 cores, as before",
        "packages: galore-torch 1.0, peft 0.21.2, python 3.11.7, torch 2.14.1, torchvision 0.29.1, as before",
        "2 cells in both",
        "",
        "The same in every cell: parameters.total, parameters.trainable, parameters.statistics, flops.forward, "
        "flops.backward, flops.optimizer, flops.optimizer_elementwise, flops.elementwise, memory.peak, "
        "memory.first_peak, measured_memory.allocator_peak, measured_memory.rss_peak, latency.relative, "
        "latency.wall_relative, growth.flops_image, growth.flops_image_large, growth.flops_fixed, "
        "growth.elementwise_image, growth.bytes_image, growth.bytes_image_large, growth.bytes_fixed, "
        "growth.flops_larger_image, growth.bytes_larger_image, result.stored_bytes, result.resume_bytes, "
        "result.inference_flops, result.inference_peak, result.merged_flops, result.merged_peak, "
        "first_step.seconds, stats.median.",
    ]


@pytest.mark.parametrize("word", ["unversioned", "unknown"])
def test_pytest_benchmarks_words_for_no_commit_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    old, new = (recording(tmp_path / f"{n}.json", extra_info(FFT), commit_info={"id": word}) for n in (1, 2))
    assert diff(capsys, old, new)[1] == "commit: none, as before"


def test_names_in_a_file_reach_the_terminal_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Terminal sequences and line breaks, in whatever is read: ``report`` and ``merge --compare`` read alike."""
    odd = "a\x1b[2J\n\u202eb"
    machine, commit = {"cpu": {"brand_raw": odd, "count": 2}}, {"id": odd}
    infos = [
        extra_info(
            Cell(odd, "fft"), versions={**VERSIONS, odd: odd}, gpu=odd, **changed("flops", backward=n, total=n + 1000)
        )
        for n in (2000, 2001)
    ]
    old, new = (
        recording(tmp_path / f"{n}.json", info, machine_info=machine, commit_info=commit)
        for n, info in enumerate(infos)
    )
    for words in (["diff", old, new], ["diff", old], ["report", new, "--compare", old, "--no-claims"]):
        assert main([*map(str, words)]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert all(line.isprintable() for line in said.out.split("\n"))
        assert "a\\x1b" in said.out


def test_what_moved_is_told_by_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mildest and the worst cell, how many moved, and how each was judged."""
    versions = {**VERSIONS, "peft": "0.14.0"}
    old = recording(tmp_path / "1.json", extra_info(FFT), extra_info(LORA), extra_info(DORA))
    new = recording(
        tmp_path / "2.json",
        extra_info(FFT, versions=versions),
        extra_info(LORA, versions=versions, **changed("flops", forward=1100, total=3100)),
        extra_info(DORA, versions=versions, **changed("flops", forward=1900, total=3900)),
        commit_info={"id": "0123456789abcdef", "time": "2026-11-25T12:00:00+00:00"},
    )
    lines = diff(capsys, old, new)
    assert lines[1:5] == [
        "commit: none → 012345678, 2026-11-25 12:00 UTC",
        "machine: A CPU, 2 cores, as before",
        "packages: peft 0.21.2 → peft 0.14.0",
        "3 cells in both",
    ]
    head, _, row = lines[6:9]
    assert head.split("  ")[0] == "figure"
    assert [word for word in row.split("  ") if word] == [
        "flops.forward", "2 of 3", "+10.0 % resnet18-lora-r4", "+90.0 % resnet18-dora-r4", "2 regressed",
    ]  # fmt: skip
    assert "flops.forward" not in lines[-1]


def test_cells_that_came_and_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = [Cell("resnet18", "dora", rank) for rank in (1, 2, 4, 8)]
    old = recording(tmp_path / "1.json", extra_info(FFT), extra_info(LORA))
    new = recording(tmp_path / "2.json", extra_info(FFT), *map(extra_info, ranks))
    assert diff(capsys, old, new)[4:7] == [
        "1 cell in both",
        "4 cells new: resnet18 × dora × r1, r2, r4, r8",
        "1 cell no longer there: resnet18-lora-r4",
    ]
    assert "the cell" not in diff(capsys, old, new)[-1], "which is in one of the two alone"


def test_packages_are_compared_whatever_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved baselines have them sorted, the file that --benchmark-json writes has not."""
    orders = ({**VERSIONS, "peft": "0.20"}, dict(sorted(VERSIONS.items())))
    old, new = (
        recording(tmp_path / f"{number}.json", extra_info(FFT, versions=versions))
        for number, versions in enumerate(orders)
    )
    assert "packages: peft 0.20 → peft 0.21.2" in diff(capsys, old, new)
    assert any(line.startswith("packages: ") and line.endswith(", as before") for line in diff(capsys, new, new))


def test_measured_figures_of_another_machine_are_shown_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = recording(tmp_path / "1.json", extra_info(FFT))
    machine = {"cpu": {"brand_raw": "Another", "count": 8}}
    new = recording(
        tmp_path / "2.json", extra_info(FFT, **changed("measured_memory", rss_peak=8000)), machine_info=machine
    )
    lines = diff(capsys, old, new)
    assert "machine: A CPU, 2 cores → Another, 8 cores" in lines
    (row,) = (line for line in lines if line.startswith("measured_memory.rss_peak"))
    assert row.split("  ")[-1].strip() == "1 not comparable"
    assert "+300.0 % resnet18-fft" in row


def test_a_ratio_to_another_reference_has_no_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timed = [
        {**LATENCY, "reference": name, "relative": r} for name, r in (("calibration", 0.8), ("calibration-2", 0.805))
    ]
    old, new = (
        recording(tmp_path / f"{number}.json", extra_info(FFT, latency=latency)) for number, latency in enumerate(timed)
    )
    (row,) = (line for line in diff(capsys, old, new) if line.startswith("latency.relative"))
    assert row.endswith("1 missing (timed against calibration-2, the baseline against calibration)")
    assert row.split()[1:6] == ["1", "of", "1", "–", "–"]


def test_figures_that_a_recording_has_lost_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As where it was made with fewer metrics: no cell has moved, and nothing would judge them any more."""
    old = recording(tmp_path / "1.json", extra_info(FFT), extra_info(LORA))
    new = recording(tmp_path / "2.json", extra_info(FFT), extra_info(LORA, memory=None, latency=None))
    (line,) = (line for line in diff(capsys, old, new) if line.startswith("No longer there, so that nothing"))
    assert "memory.peak" in line
    assert "latency.relative" in line
    assert line.endswith("stats.median.")
    assert "measured_memory" not in line
    assert not any(line.startswith("No longer") for line in diff(capsys, old, old))


def test_another_workload_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = recording(tmp_path / "1.json", extra_info(**changed("workload", batch_size=8)))
    new = recording(tmp_path / "2.json", extra_info())
    assert main(["diff", str(old), str(new)]) == 2
    assert "another workload" in capsys.readouterr().err


def test_one_recording_is_text_with_a_figure_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = diff(capsys, recording(tmp_path / "1.json", extra_info(LORA)))
    assert lines[:4] == ["commit none", "machine A CPU, 2 cores", "package galore-torch 1.0", "package peft 0.21.2"]
    assert "workload batch 1 of 3×224×224, 10 classes, AdamW, float32, 1 thread, cpu" in lines
    assert "matrix core" in lines
    assert "resnet18-lora-r4 flops.forward 1,000 FLOPs" in lines
    assert "resnet18-lora-r4 latency.relative 0.800 ×" in lines
    assert lines[-1] == "resnet18-lora-r4 stats.median 50.00 ms"
    assert not any("optimizer_refresh" in line for line in lines), "what was not measured is absent"


def test_a_file_that_is_no_recording_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """git asks for every file of the history; what cannot be read must not end its output."""
    path = tmp_path / "1.json"
    path.write_text("{\n")
    assert main(["diff", str(path)]) == 0
    said = capsys.readouterr()
    assert said.out == "{\n"
    assert "is not complete JSON" in said.err
    # A pipe, as of diff <(git show HEAD:FILE), has it once.
    reading, writing = os.pipe()
    os.write(writing, b"{\n")
    os.close(writing)
    assert main(["diff", f"/dev/fd/{reading}"]) == 0
    os.close(reading)
    assert capsys.readouterr().out == "{\n"
    assert main(["diff", str(tmp_path / "nowhere.json")]) == 2
    assert capsys.readouterr().err == (
        f"update-bench diff: {tmp_path / 'nowhere.json'}: cannot be read: No such file or directory\n"
    )


def test_sentences_fit_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (recording(tmp_path / name, extra_info(FFT), extra_info(LORA)) for name in ("1.json", "2.json"))
    piped = diff(capsys, old, new)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = diff(capsys, old, new)
    # A file's name is there to be copied, and is never broken.
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert " ".join(lines).split() == " ".join(piped).split()


def test_git_shows_only_what_moved(tmp_path: Path) -> None:
    """With the driver that .gitattributes names."""

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    git("init")
    git("config", "diff.update-bench.textconv", f"{sys.executable} -m peft_update_bench.bench diff")
    attributes = Path(__file__).parents[3] / ".gitattributes"
    (tmp_path / ".gitattributes").write_text(attributes.read_text())
    (tmp_path / "baselines").mkdir()
    path = recording(tmp_path / "baselines" / "0001_a.json", extra_info(FFT), extra_info(LORA))
    git("add", ".")
    moved = {**LATENCY, "relative": 0.805}
    path.write_text(json.dumps(baseline_data(extra_info(FFT), extra_info(LORA, latency=moved)), indent=3))
    shown = [line for line in git("diff", "-U0").splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert shown == ["-resnet18-lora-r4 latency.relative 0.800 ×", "+resnet18-lora-r4 latency.relative 0.805 ×"]
