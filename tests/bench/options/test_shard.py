"""The cells of a shard, and what a shard may not be."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.options import OptionError, RunOptions


def read(**given: str) -> RunOptions:
    return options.read(given, {"latency": 0.1})


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_shards_are_the_whole_run_and_keep_an_architecture_s_cells_together(parts: int) -> None:
    shards = [read(shard=f"{number}/{parts}").selection for number in range(1, parts + 1)]
    whole = shards[0].whole.cells()
    assert sorted(map(str, whole)) == sorted(str(cell) for shard in shards for cell in shard.cells())
    architectures = [{cell.architecture for cell in shard.cells()} for shard in shards]
    assert sum(map(len, architectures)) == 4
    assert all(architectures)
    assert all(shard.is_filtered for shard in shards)


def test_filters_come_before_shards() -> None:
    shard = read(architectures="mobilenet_v2,resnet18", methods="fft", shard="2/2").selection
    assert shard.cells() == [Cell("resnet18", "fft")]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("2", "--shard is '2'; expected I/N, such as 1/3 for the first of three parts"),
        ("0/3", "--shard is '0/3'; expected I/N, such as 1/3 for the first of three parts"),
        ("1/0", "--shard is '1/0'; expected I/N, such as 1/3 for the first of three parts"),
        ("a/b", "--shard is 'a/b'; expected I/N, such as 1/3 for the first of three parts"),
        ("1/2/3", "--shard is '1/2/3'; expected I/N, such as 1/3 for the first of three parts"),
        ("1/9999999999", "--shard is '1/9999999999'; expected I/N, such as 1/3 for the first of three parts"),
        ("4/3", "--shard is '4/3'; expected a part from 1/3 to 3/3"),
        ("1/5", "--shard is '1/5'; expected at most 4 parts here, because the cells of an architecture"),
    ],
)
def test_bad_shards(value: str, complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        read(shard=value)
    assert str(error.value).startswith(complaint)


def test_a_shard_loses_the_cells_of_its_own_architectures_only() -> None:
    """An architecture that the matrix has lost is no shard's: the merged file is what tells."""
    shard = Selection(shard=(1, 4))
    assert [*shard.subjects] == ["resnet18"]
    recorded = [Cell(name, "lora", 2) for name in ("resnet18", "mobilenet_v2", "regnet_y_400mf")]
    assert shard.no_longer_there(recorded, "core") == [Cell("resnet18", "lora", 2)]
    assert shard.whole.no_longer_there(recorded, "core") == recorded
