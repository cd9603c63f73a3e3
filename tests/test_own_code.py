"""Users' own networks and methods, through the options and the commands that name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cells import Cell, Selection
from bench.options import OptionError, RunOptions
from tests.test_options import read

REPOSITORY = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("warm_operators")

MODULE = '''
import torch
from torch import nn

from fixtures.architectures import Network, convolutional
from fixtures.methods import Method


def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )


def described(num_classes):
    """Its head comes first, where a description by convention does not find it."""
    module = nn.Sequential(nn.Linear(3, num_classes), nn.Linear(num_classes, num_classes, bias=False))
    return Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), module), "2.0", (), ("2.1",))


def on_cpu(num_classes):
    """Made of values, which the meta device has not."""
    network = build(num_classes)
    network.load_state_dict({name: torch.ones(value.shape) for name, value in network.state_dict().items()})
    assert network[0].weight.sum().item() == 8 * 3 * 9
    return network


def ready(num_classes):
    with torch.device("cpu"):
        return build(num_classes)


class ReadsValues(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.network = build(num_classes)

    def forward(self, images):
        return self.network(images if images.mean().item() < 9 else -images)


class Training(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.network = build(num_classes)

    def forward(self, images):
        if self.training:
            raise KeyError("auxiliary")
        return self.network(images)


class Warns(Training):
    def forward(self, images):
        import warnings
        warnings.warn("deprecated", FutureWarning)
        return self.network(images)


def another_signature(classes): ...
def nothing(num_classes): ...
def failing(num_classes): raise KeyError("weights")
def headless(num_classes): return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 99))
def unpooled(num_classes): return nn.Conv2d(3, num_classes, 1)
def images_of_32(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
def misnamed(num_classes): return Network(build(num_classes), "head", (), ())
def no_weights(num_classes): return Network(build(num_classes), "5", (), ())
def flat(num_classes): return Network(build(num_classes), "6", (), ("1",))


class Tuples(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(*build(num_classes))

    def forward(self, images):
        return (super().forward(images),)


SHARED = build(10)
def shared(num_classes): return SHARED
NUMBER = 3


class Biases(Method):
    """Trains the biases and the head."""

    def adapt(self, network, rank):
        for name, parameter in network.module.train().named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
        network.head_module.requires_grad_(True)


class Ranked(Biases):
    takes_rank = True


INSTANCE = Ranked()


class Unfinished(Method): ...


class Needy(Biases):
    def __init__(self, rate): ...


class Breaking(Biases):
    def __init__(self): raise OSError("no table")


class OneArgument(Method):
    def adapt(self, network): ...


class Frozen(Method):
    def adapt(self, network, rank):
        network.module.requires_grad_(False)


class Still(Biases):
    def adapt(self, network, rank):
        super().adapt(network, rank)
        self.learning_rate = 0.0


class Raising(Method):
    def adapt(self, network, rank):
        raise LookupError("no such layer")
'''


@pytest.fixture
def mine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a module of the user's own, as the current folder is on the path of a command."""
    pytester.makepyfile(mine=MODULE, broken="import mine\nraise RuntimeError('half done')", unparsable="def")
    monkeypatch.syspath_prepend(str(pytester.path))


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


def small(**given: str) -> RunOptions:
    return read(image_size="48", **given)


@pytest.mark.parametrize("name", ["build", "described", "on_cpu", "ready", "ReadsValues", "Training"])
@pytest.mark.usefixtures("mine")
def test_a_network_is_accepted(name: str) -> None:
    assert small(architectures=f"resnet18,mine:{name}").selection.architectures == ("resnet18", f"mine:{name}")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mine:", "expected MODULE:NAME, such as mypackage.models:build"),
        (":build", "expected MODULE:NAME"),
        ("mine:build-it", "expected MODULE:NAME"),
        ("mine::build", "expected MODULE:NAME"),
        ("mïne:build", "expected MODULE:NAME"),
        ("nine:build", "there is no module 'nine' in the current folder or elsewhere on Python's path"),
        ("nine.models:build", "there is no module 'nine'"),
        ("broken:build", "importing 'broken' raises RuntimeError: half done (broken.py:2)"),
        ("unparsable:build", "importing 'unparsable' raises SyntaxError: "),
        ("mine:bild", "the module 'mine' has no 'bild'"),
        ("mine:NUMBER", "is of type int; expected a callable that takes num_classes by keyword"),
        ("mine:another_signature", "takes (classes); expected a callable that takes num_classes by keyword"),
        ("mine:nothing", "returns NoneType; expected a callable that takes num_classes by keyword and returns a torch"),
        ("mine:failing", "called with num_classes=10 it raises KeyError: 'weights' (mine.py:"),
        ("mine:headless", "expected a Linear or a 1×1 Conv2d with 10 outputs, or a builder that returns a fixtures."),
        ("mine:shared", "returns the same module at each call; expected a new one"),
        ("mine:unpooled", "returns torch.float32 of shape (1, 10, 48, 48); expected logits of shape (1, 10)"),
        ("mine:Tuples", "its network returns tuple; expected logits (1, 10)"),
        ("mine:images_of_32", "its network does not take images of 1×3×48×48: RuntimeError: mat1 and mat2 shapes"),
        ("mine:misnamed", "its Network names 'head' as head; expected the name of a module of Sequential"),
        ("mine:no_weights", "its head '5' has no parameters; expected a layer to train"),
        ("mine:flat", "its projected layer '1' has no weight of two or more dimensions"),
    ],
)
@pytest.mark.usefixtures("mine")
def test_a_network_is_refused_in_one_line(name: str, complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        small(architectures=name)
    assert str(error.value).startswith(f"--architectures is {name!r}: ")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("mine")
def test_a_network_takes_the_size_that_it_is_for() -> None:
    assert read(architectures="mine:images_of_32", image_size="32").selection.architectures
    for size in ("31", "33"):
        with pytest.raises(OptionError, match=f"images of 1×3×{size}×{size}"):
            read(architectures="mine:images_of_32", image_size=size)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mine:Nowhere", "the module 'mine' has no 'Nowhere'"),
        ("mine:build", "is of type function; expected a subclass of fixtures.methods.Method, or an instance of one"),
        ("mine:Training", "is the class Training; expected a subclass of fixtures.methods.Method"),
        ("mine:Unfinished", "does not define adapt(network, rank)"),
        ("mine:Needy", "takes (rate); expected a class that is made without arguments"),
        ("mine:Breaking", "raises OSError: no table (mine.py:"),
        ("mine:OneArgument", "takes (network); expected adapt(network, rank)"),
    ],
)
@pytest.mark.usefixtures("mine")
def test_a_method_is_refused_in_one_line(name: str, complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        small(methods=f"fft,{name}")
    assert str(error.value).startswith(f"--methods is {name!r}: ")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("mine")
def test_cells_of_own_networks_and_methods() -> None:
    run = small(architectures="mine:build,resnet18", methods="fft,mine:Biases,mine:Ranked,mine:INSTANCE", ranks="4")
    assert [str(cell) for cell in run.selection.cells()][:4] == [
        "mine:build-fft", "mine:build-mine:Biases", "mine:build-mine:Ranked-r4", "mine:build-mine:INSTANCE-r4",
    ]  # fmt: skip
    assert run.repeat == (
        "--image-size 48 --architectures mine:build,resnet18 --methods fft,mine:Biases,mine:Ranked,mine:INSTANCE"
    )


OWN = Cell("mine:build", "lora", 2)


@pytest.mark.parametrize(
    ("selection", "lost"),
    [
        (Selection(), []),
        (Selection(methods=("lora",)), []),
        (Selection(architectures=("resnet18",)), []),
        (Selection(architectures=("mine:build",), methods=("fft",)), []),
        (Selection(architectures=("mine:build",), methods=("lora",), ranks=(1, 4)), []),
        (Selection(architectures=("mine:build",), methods=("lora",)), [OWN]),
        (Selection(architectures=("mine:build",), ranks=(1,)), []),
    ],
)
def test_only_a_run_that_names_an_own_network_can_lose_its_cells(selection: Selection, lost: list[Cell]) -> None:
    assert selection.no_longer_there([OWN], "core") == lost


def test_saved_and_compared(suite: Suite, pytester: pytest.Pytester) -> None:
    """The gate knows own cells as it knows the others, and names the change that it finds."""
    options = ("--metrics=flops,memory", "--architectures=mine:build,resnet18", "--methods=lora,mine:Biases")
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
        (("--architectures=mine:ReadsValues", "--methods=fft"), "mine:ReadsValues-fft: forward pass, the network"),
        (("--architectures=mine:described", "--methods=lora"), "lora-r4: Sequential has no layer for a lora adapter"),
        (
            ("--architectures=resnet18", "--methods=mine:Raising"),
            'LookupError: no such layer (at `raise LookupError("no such layer")`, mine.py:',
        ),
        (("--architectures=mine:build", "--methods=mine:Frozen"), "ValueError: optimizer got an empty param"),
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


def test_what_an_own_network_warns_of_is_no_failure(suite: Suite) -> None:
    suite("--metrics=flops", "--architectures=mine:Warns", "--methods=fft").assert_outcomes(passed=1)


def test_a_refused_network_ends_the_run_before_it_starts(suite: Suite) -> None:
    result = suite("--architectures=mine:nothing")
    assert result.ret == 4
    errors = [line for line in text(result).splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "--architectures is 'mine:nothing': returns NoneType" in errors[0]
    assert "Traceback" not in text(result)


@pytest.mark.usefixtures("mine")
def test_a_command_refuses_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    checkout = str(REPOSITORY)
    assert main(["compare-checkouts", checkout, checkout, "--architectures", "mine:nothing"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m bench compare-checkouts: --architectures is 'mine:nothing': returns NoneType")
    assert error.count("\n") == 1


def test_a_timm_network_by_its_own_name(suite: Suite) -> None:
    pytest.importorskip("timm", reason="timm is not installed; README's example needs it")
    options = ("--architectures=timm.models:lcnet_050", "--methods=fft,lora,galore", "--ranks=4")
    suite(*options, "--metrics=flops,memory").assert_outcomes(passed=3)
