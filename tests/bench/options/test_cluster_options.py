"""What of --cluster and --on is refused, in a sentence, before a cluster is looked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.options import OptionError
from peft_update_bench.bench.options import cluster as cluster_options
from peft_update_bench.bench.options.cluster import ClusterOptions, read_cluster


@pytest.fixture(autouse=True)
def ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_options, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"cluster": "auto"}, ClusterOptions("auto")),
        ({"cluster": "head:6379", "on": "board_1"}, ClusterOptions("head:6379", "board_1")),
        ({"cluster": "[::1]:6379"}, ClusterOptions("[::1]:6379")),
    ],
)
def test_what_is_asked_for(given: Mapping[str, str], expected: ClusterOptions | None) -> None:
    assert read_cluster(given) == expected


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"on": "board"}, "--on is 'board' without --cluster; expected --cluster auto or HOST:PORT beside it"),
        ({"cluster": "head"}, "--cluster is 'head'; expected auto, or HOST:PORT"),
        ({"cluster": ":6379"}, "--cluster is ':6379'; expected auto, or HOST:PORT"),
        ({"cluster": "head:"}, "--cluster is 'head:'; expected auto, or HOST:PORT"),
        ({"cluster": "ray://head:10001"}, "--cluster is 'ray://head:10001'; expected auto, or HOST:PORT"),
        ({"cluster": "auto", "on": "a board"}, "--on is 'a board'; expected the name of a resource"),
        ({"cluster": "auto", "workers": "2"}, "--workers is '2' beside --cluster; expected one of the two"),
        ({"cluster": "auto", "cell_seconds": "0"}, "--cell-seconds is '0' beside --cluster; expected a limit"),
        ({"cluster": "auto", "device": "cuda"}, "--device is 'cuda' beside --cluster; expected cpu"),
    ],
)
def test_what_is_refused(given: Mapping[str, str], complaint: str) -> None:
    with pytest.raises(OptionError) as refused:
        read_cluster(given)
    assert str(refused.value).startswith(complaint)


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_options, "find_spec", lambda _: None)
    with pytest.raises(
        OptionError, match=r"Ray is not installed; install it: pip install 'peft-update-bench\[cluster\]'"
    ):
        read_cluster({"cluster": "auto"})


@pytest.mark.parametrize("metrics", ["latency", "measured_memory,flops"])
def test_what_is_measured_needs_a_node_that_is_named(metrics: str) -> None:
    given = {"cluster": "auto", "metrics": metrics}
    with pytest.raises(OptionError, match="expected --on LABEL, the node that is timed, or metrics that are computed"):
        options.read(given, {})
    run = options.read({**given, "on": "board"}, {})
    assert run.benchmark.cluster == ClusterOptions("auto", "board")
    assert run.record_command == "pytest --benchmark-save=baseline --cluster auto --on board"


def test_instructions_need_a_node_that_is_named() -> None:
    with pytest.raises(OptionError, match="and --metrics instructions; expected --on LABEL, the node that counts"):
        options.read({"cluster": "auto", "metrics": "instructions"}, {})


def test_adaptation_is_on_no_single_node() -> None:
    with pytest.raises(OptionError, match="--on is given with --metrics adaptation, which takes none"):
        options.read({"cluster": "auto", "on": "board", "metrics": "adaptation"}, {})
