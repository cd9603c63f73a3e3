"""Users' own networks and methods as options name them: accepted, or refused in one line before the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.options import OptionError, RunOptions

from tests.bench.options.test_options import read
from tests.helpers.user_module import MODULE

REPOSITORY = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("warm_operators")


@pytest.fixture
def mine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a module of the user's own, as the current folder is on the path of a command."""
    broken, script = "import mine\nraise RuntimeError('half done')", "import sys\nsys.exit(0)"
    pytester.makepyfile(mine=MODULE, broken=broken, script=script, unparsable="def")
    monkeypatch.syspath_prepend(str(pytester.path))


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
        ("script:build", "importing 'script' raises SystemExit: 0 (script.py:2)"),
        ("unparsable:build", "importing 'unparsable' raises SyntaxError: "),
        ("mine:bild", "the module 'mine' has no 'bild'"),
        ("mine:NUMBER", "is of type int; expected a callable that takes num_classes by keyword"),
        ("mine:SHARED", "is of type Sequential; expected a callable that takes num_classes by keyword"),
        ("mine:another_signature", "takes (classes); expected a callable that takes num_classes by keyword"),
        ("mine:nothing", "returns NoneType; expected a callable that takes num_classes by keyword and returns a torch"),
        ("mine:failing", "called with num_classes=10 it raises KeyError: 'weights' (mine.py:"),
        ("mine:headless", "expected a Linear or a 1×1 Conv2d with 10 outputs, or a builder that returns a peft"),
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


ENDS = """
import ctypes, os, time
def quits(num_classes): os._exit(0)
def crashes(num_classes): ctypes.string_at(0)
def hangs(num_classes): time.sleep(600)
"""


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("quits", "ended its process with exit code 0"),
        ("crashes", "its process was killed by SIGSEGV in string_at (__init__.py:"),
        ("hangs", "took longer than --cell-seconds 5 and was ended in hangs (ends.py:4)"),
    ],
)
def test_a_network_that_would_take_the_run_with_it_is_refused_in_one_line(
    name: str, complaint: str, pytester: pytest.Pytester
) -> None:
    """The first would end it with exit status 0, where nothing was judged."""
    pytester.makepyfile(ends=ENDS)
    result = pytester.runpytest_inprocess(
        "--pyargs", "peft_update_bench.bench", "-p", "no:cacheprovider", f"--architectures=ends:{name}",
        "--metrics=flops", "--cell-seconds=5",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--architectures is 'ends:{name}': {complaint}" in result.stderr.str()
    assert result.stderr.str().count("\n") == 1


@pytest.mark.parametrize(("size", "words"), [("1", "Kernel size can't be"), ("8", "Output size is too small")])
def test_images_that_are_too_small_are_named_as_such(size: str, words: str, pytester: pytest.Pytester) -> None:
    """Of a user's network before the run, of a built-in one in its cell's verdict."""
    name = "torchvision.models:squeezenet1_1"
    complaint = (
        f"its network cannot take images as small as {size}×{size}: run with images larger than --image-size {size}"
    )
    with pytest.raises(OptionError, match=rf"--architectures is '{name}': {complaint} \(.*{words}.*\)$"):
        read(architectures=name, image_size=size)
    result = pytester.runpytest_inprocess(
        "--pyargs", "peft_update_bench.bench", "-p", "no:cacheprovider", "--architectures=squeezenet1_1",
        "--methods=head", "--metrics=flops", f"--image-size={size}",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"squeezenet1_1-head: {complaint} (*{words}*)"])


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
        (
            "mine:build",
            "is of type function; expected a subclass of peft_update_bench.fixtures.methods.Method, or an instance of ",
        ),
        ("mine:Training", "is the class Training; expected a subclass of peft_update_bench.fixtures.methods.Method"),
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
    assert run.record_command == (
        "pytest --benchmark-save=baseline --image-size 48 "
        "--architectures mine:build,resnet18 --methods fft,mine:Biases,mine:Ranked,mine:INSTANCE"
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


@pytest.mark.usefixtures("mine")
def test_a_command_refuses_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    checkout = str(REPOSITORY)
    assert main(["compare-checkouts", checkout, checkout, "--architectures", "mine:nothing"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("update-bench compare-checkouts: --architectures is 'mine:nothing': returns NoneType")
    assert error.count("\n") == 1
