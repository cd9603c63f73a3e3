"""Users' own networks and methods in runs: recorded, compared and gated, and what is found only there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.user_module import MODULE

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

Suite = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    """``pytest bench`` in a folder that has `mine.py`; the suite itself puts that folder on the path."""
    pytester.makepyfile(mine=MODULE)

    def run(*options: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess(
            REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY,
            "-p", "no:cacheprovider", "--benchmark-storage=file://baselines", "--benchmark-quiet", "--image-size=64",
            *options,
        )  # fmt: skip

    return run


def text(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines + result.errlines)


def test_saved_and_compared(suite: Suite, pytester: pytest.Pytester) -> None:
    """The gate knows own cells as it knows the others, and names the change that it finds."""
    options = ("--metrics=flops,memory", "--architectures=mine:build,squeezenet1_1", "--methods=lora,mine:Biases")
    suite(*options, "--ranks=4", "--benchmark-save=baseline").assert_outcomes(passed=4)
    path = pytester.path / "baselines" / "0001_baseline.json"
    saved = json.loads(path.read_text())
    names = [entry["name"] for entry in saved["benchmarks"]]
    assert names[:2] == ["test_update[mine:build-lora-r4]", "test_update[mine:build-mine:Biases]"]
    result = suite(*options, "--ranks=4", "--benchmark-compare")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["mine:build-mine:Biases *FLOPs * KiB *ok", "4 cells, against *: 4 ok"])
    saved["benchmarks"][0]["extra_info"]["parameters"]["trainable"] -= 1
    path.write_text(json.dumps(saved))
    result = suite(*options, "--ranks=4", "--benchmark-compare")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["mine:build-lora-r4 does not hold its baseline*", "*parameters.trainable regressed*"])


@pytest.mark.usefixtures("few_rounds")
def test_every_metric_of_an_own_network_and_method(suite: Suite, pytester: pytest.Pytester) -> None:
    """The child process that measures memory finds the module too; what it imports is not the update's memory."""
    result = suite("--architectures=mine:build", "--methods=mine:Biases", "--benchmark-save=baseline")
    result.assert_outcomes(passed=1)
    saved = json.loads((pytester.path / "baselines" / "0001_baseline.json").read_text())
    info = saved["benchmarks"][0]["extra_info"]
    assert {"flops", "memory", "measured_memory", "latency"} <= set(info)
    assert info["measured_memory"]["rss_peak"] < 20 * 2**20


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ("--architectures=mine:Training", "--methods=fft"),
            "mine:Training-fft: KeyError: 'auxiliary' (at `raise",
        ),
        (("--architectures=mine:described", "--methods=lora"), "lora-r4: Sequential has no layer for lora's adapters"),
        (
            ("--architectures=resnet18", "--methods=mine:Raising"),
            'LookupError: no such layer (at `raise LookupError("no such layer")`, mine.py:',
        ),
        (("--architectures=mine:build", "--methods=mine:Frozen"), "mine:Frozen: adapt left no parameter to train"),
        (
            ("--architectures=mine:build", "--methods=mine:Returning"),
            "mine:Returning: adapt returns a Sequential, which is lost; expected None, because it changes",
        ),
        (
            ("--architectures=mine:build", "--methods=mine:WithoutOptimizer"),
            "mine:WithoutOptimizer: optimizer returns a NoneType; expected a torch.optim.Optimizer over what adapt",
        ),
        (
            ("--architectures=mine:build", "--methods=mine:NeedsAClosure"),
            "mine:NeedsAClosure: optimizer returns LBFGS, whose step calls the loss by itself; expected one whose step",
        ),
    ],
)
def test_what_is_found_later_fails_the_cell_in_a_sentence(
    suite: Suite, options: tuple[str, ...], complaint: str
) -> None:
    result = suite("--metrics=flops,memory", "--ranks=4", *options)
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    assert complaint in text(result)
    assert "Traceback" not in text(result)


def test_an_own_method_that_trains_nothing_fails(suite: Suite) -> None:
    result = suite("--metrics=measured_memory", "--architectures=mine:build", "--methods=mine:Still")
    result.assert_outcomes(failed=1)
    assert "updates leave trained parameters as they were" in text(result)


def test_an_own_network_that_reads_values_is_computed_from_a_real_step(suite: Suite) -> None:
    suite("--metrics=flops,memory", "--architectures=mine:ReadsValues", "--methods=fft").assert_outcomes(passed=1)


CUMULATING = """
from torch import nn


class Cumulating(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 64, 3, stride=2), nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.stem(x).sigmoid().flatten(2).cumprod(2).mean(2))
"""


def test_an_own_network_whose_growth_cannot_be_known_says_why(suite: Suite, pytester: pytest.Pytester) -> None:
    """The memory of its step is not what tensors show, and that of larger batches and images is known from them."""
    pytester.makepyfile(cumulating=CUMULATING)
    result = suite("--architectures=cumulating:Cumulating", "--methods=fft,head", "--metrics=flops,memory,growth")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*cumulating:Cumulating-fft: *how it grows is not known, because *"])


def test_what_an_own_network_warns_of_is_no_failure(suite: Suite) -> None:
    suite("--metrics=flops", "--architectures=mine:Warns", "--methods=fft").assert_outcomes(passed=1)


def test_a_refused_network_ends_the_run_before_it_starts(suite: Suite) -> None:
    result = suite("--architectures=mine:nothing")
    assert result.ret == 4
    errors = [line for line in text(result).splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "--architectures is 'mine:nothing': returns NoneType" in errors[0]
    assert "Traceback" not in text(result)


def test_a_timm_network_by_its_own_name(suite: Suite) -> None:
    pytest.importorskip("timm", reason="timm is not installed; README's example needs it")
    options = ("--architectures=timm.models:lcnet_050", "--methods=fft,lora,galore", "--ranks=4")
    suite(*options, "--metrics=flops,memory").assert_outcomes(passed=3)
