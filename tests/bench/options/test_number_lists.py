"""Ranks and batch sizes typed with commas, with blanks, or with both."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.options.number_lists import join_numbers

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ("--ranks 4 8", "--ranks 4,8"),
        ("--ranks 1 4 16 --methods lora", "--ranks 1,4,16 --methods lora"),
        ("--ranks=4 8", "--ranks=4,8"),
        ("--ranks 4, 8", "--ranks 4,8"),
        ("--ranks 4,8 16", "--ranks 4,8,16"),
        ("--update-ranks 4 8 bench", "--update-ranks 4,8 bench"),
        ("--ranks 4 bench 8", "--ranks 4 bench 8"),
        ("--ranks 4,8", "--ranks 4,8"),
        ("--ranks 4,", "--ranks 4,"),
        ("--ranks 4 -8", "--ranks 4 -8"),
        ("--ranks --methods lora 8", "--ranks --methods lora 8"),
        ("--batch-size 4 8", "--batch-size 4,8"),
        (
            "--batch-size 1 --ranks 4 8 --update-batch-size=1, 16 bench",
            "--batch-size 1 --ranks 4,8 --update-batch-size=1,16 bench",
        ),
        ("--image-size 4 8", "--image-size 4 8"),
        ("--ranks", "--ranks"),
        ("8", "8"),
    ],
)
def test_numbers_after_a_number_of_a_list_belong_to_it(words: str, joined: str) -> None:
    assert join_numbers(words.split()) == joined.split()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [("--ranks", "4", "8"), ("--ranks", "4,8"), ("--update-ranks=4", "8")])
def test_pytest_takes_them(pytester: pytest.Pytester, ranks: tuple[str, ...]) -> None:
    result = pytester.runpytest_inprocess(
        *ranks, REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY, "--collect-only",
        "-q", "-p", "no:cacheprovider", "--architectures", "resnet18", "--methods", "lora", "--metrics", "flops",
    )  # fmt: skip
    collected = [line.partition("[")[2] for line in result.outlines if "test_update[" in line]
    assert collected == ["resnet18-lora-r4]", "resnet18-lora-r8]"]


def test_a_command_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["savings", "--ranks", "4", "8", "0"])
    assert stopped.value.code == 2
    assert "argument --ranks: given '0', expected a whole number" in capsys.readouterr().err, "the third is a rank too"
