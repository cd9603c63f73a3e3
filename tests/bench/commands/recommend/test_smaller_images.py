"""Where nothing fits: the largest image with which something would."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.recommend.budget import Costs, Limit, answer
from peft_update_bench.bench.commands.recommend.smaller import find_smaller
from peft_update_bench.bench.metrics import budgets

from tests.helpers import records
from tests.helpers.recommending import HEAD, LORA, Ask, costing


def shrinking(cell: Cell, pixels: int) -> Costs:
    """A cell whose memory grows with its image: 1000 bytes of weights, and one a pixel."""
    return Costs(cell, {"memory": 1000 + pixels**2, "flops": pixels**2, "flash": 1})


@pytest.mark.parametrize(
    ("memory", "pixels", "fits"),
    [
        (1000 + 192**2, 192, True), (1000 + 192**2 - 1, 160, True), (1000 + 64**2, 64, True),
        (1000 + 32**2, 32, True), (1000 + 32**2 - 1, 32, False),
    ],
)  # fmt: skip
def test_the_largest_image_that_fits(memory: int, pixels: int, fits: bool) -> None:
    limits = [Limit(budgets()["memory"], memory)]
    found = answer([shrinking(HEAD, 224), shrinking(LORA, 224)], limits, None)
    (told,) = find_smaller(found, 224, shrinking)
    assert (told.cell, told.pixels, told.fits) == (HEAD, pixels, fits)
    if fits:
        assert told.sentence == f"A smaller image fits: resnet18-head at {pixels}×{pixels} (computed)."
    else:
        need = "1 Byte more memory (+0%)"
        assert told.sentence == f"No smaller image helps resnet18-head: at 32×32 it would still need {need} (computed)."


def test_smaller_images_are_not_tried_where_they_cannot_help() -> None:
    def never(*_: object) -> Costs:
        raise AssertionError("nothing is to be computed")

    flash = answer([shrinking(HEAD, 224)], [Limit(budgets()["flash"], 0.5)], None)
    assert find_smaller(flash, 224, never) == []
    memory = answer([shrinking(HEAD, 32)], [Limit(budgets()["memory"], 1)], None)
    assert find_smaller(memory, 32, never) == []


def test_images_too_small_for_the_network_do_not_end_the_search() -> None:
    """As of batch norm, which needs more than one value for each channel: MobileNetV2 takes no image of 32 pixels."""

    def picky(cell: Cell, pixels: int) -> Costs | str:
        return shrinking(cell, pixels) if pixels > 64 else "ValueError: too small"

    def ask(memory: int, pixels: int = 224) -> str:
        found = answer([shrinking(HEAD, pixels)], [Limit(budgets()["memory"], memory)], None)
        (told,) = find_smaller(found, pixels, picky)
        return told.sentence

    assert ask(1000 + 160**2) == "A smaller image fits: resnet18-head at 160×160 (computed)."
    assert ask(1000 + 96**2) == "A smaller image fits: resnet18-head at 96×96 (computed)."
    still = "No smaller image helps resnet18-head: at 96×96 it would still need 1 Byte more memory (+0%) (computed)."
    assert ask(1000 + 96**2 - 1) == still
    assert ask(1, 64) == "No smaller image helps resnet18-head: at 32×32 ValueError: too small"


def test_a_device_that_nothing_fits_is_told_of_a_smaller_image(ask: Ask, tmp_path: Path) -> None:
    """Computed for real: ResNet-18's head takes 49.4 MiB at 224 pixels, less than 45 at 128."""
    path = records.write(
        tmp_path / "mine.json",
        records.baseline_data(costing(HEAD, peak=50 * 2**20, flops=10**9, trained=1, relative=None)),
    )
    status, output, errors = ask("--memory=45MiB", "--methods=head", f"--baseline={path}")
    assert status == 1
    assert "No cell fits.\n\nA smaller image fits: resnet18-head at 128×128 (computed)." in output
    assert "trying resnet18-head at 128×128" in errors


def test_a_network_that_takes_no_small_image_is_told_of_a_smaller_one(ask: Ask) -> None:
    """Computed for real: at 32×32 and batch 1 batch norm of ResNet-18 has one value for each channel, and raises."""
    status, output, errors = ask("--memory=1.5MiB", "--methods=fft", "--image-size=64")
    assert status == 1
    assert "trying resnet18-fft at 32×32" in errors
    reason = "a norm in train mode has one value per channel, of which no statistics can be taken"
    assert f"No smaller image helps resnet18-fft: at 32×32 {reason}" in output
