"""Options: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.cells import Cell, Selection, leaves_out
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.bench.options import OptionError, RunOptions
from peft_update_bench.fixtures.architectures import ARCHITECTURES
from peft_update_bench.fixtures.methods.names import BUILT_IN, STUDY_METHODS

from tests.helpers.null_byte import NULL_BYTE


def read(**given: str) -> RunOptions:
    return options.read(given, {"latency": 0.1})


def test_the_default_is_the_core_matrix_under_the_studys_workload() -> None:
    run = read()
    cells = run.selection.cells()
    assert len(cells) == len(set(cells)) == 4 * (3 + 3 * 3)
    assert {cell.rank for cell in cells} == {None, 1, 4, 16}
    assert not run.selection.is_filtered
    assert run.metrics == ("flops", "memory", "measured_memory", "latency", "result", "first_step")
    assert run.workload.as_record() == {
        "batch_size": 1, "image_size": 224, "num_classes": 10, "optimizer": "AdamW", "dtype": "float32", "threads": 1,
        "device": "cpu",
    }  # fmt: skip


def test_the_full_matrix() -> None:
    cells = read(matrix="full").selection.cells()
    assert len(cells) == len(ARCHITECTURES) * (3 + 3 * 6)
    assert {cell.rank for cell in cells} == {None, 1, 2, 4, 8, 16, 32}


def test_ids() -> None:
    assert str(Cell("mobilenet_v2", "lora", 4)) == "mobilenet_v2-lora-r4"
    assert str(Cell("resnet18", "fft")) == "resnet18-fft"


def test_filters_narrow_and_keep_the_order_given() -> None:
    run = read(architectures="mobilenet_v2,resnet18", methods="lora, fft", ranks="8,2,8")
    assert [str(cell) for cell in run.selection.cells()] == [
        "mobilenet_v2-lora-r8", "mobilenet_v2-lora-r2", "mobilenet_v2-fft",
        "resnet18-lora-r8", "resnet18-lora-r2", "resnet18-fft",
    ]  # fmt: skip
    assert run.selection.is_filtered


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("architectures", "resnet19", "--architectures is 'resnet19'; expected one of resnet18, mobilenet_v2"),
        ("architectures", "", "--architectures is ''"),
        ("matrix", "", "--matrix is ''; expected one of subset, core"),
        ("unstable", "", "--unstable is ''; expected one of fail, warn"),
        ("remember", "", "--remember is ''; expected one of yes, no"),
        ("methods", "lora,qlora", "--methods is 'qlora'; expected one of fft, head, bn_head, lora, dora, galore"),
        ("ranks", "0", "--ranks is '0'; expected a whole number of at least 1"),
        ("ranks", "-1", "--ranks is '-1'"),
        ("ranks", "1.5", "--ranks is '1.5'"),
        ("ranks", "4,", "--ranks is ''"),
        ("ranks", "４", "--ranks is"),
        ("metrics", "speed", "--metrics is 'speed'; expected one of flops, memory, measured_memory, latency"),
        ("matrix", "huge", "--matrix is 'huge'; expected one of subset, core, full"),
        ("batch_size", "0", "--batch-size is '0'; expected a whole number of at least 1"),
        ("image_size", "big", "--image-size is 'big'"),
        ("image_size", "1" * 10, "--image-size has 10 digits; expected at most 9"),
        ("ranks", "1" * 5000, "--ranks has 5000 digits; expected at most 9"),
        ("cell_seconds", "soon", "--cell-seconds is 'soon'; expected a whole number of at least 1, or 0 for no limit"),
        ("cell_seconds", "-1", "--cell-seconds is '-1'; expected a whole number of at least 1, or 0 for no limit"),
        ("threads", "-2", "--threads is '-2'"),
        ("num_classes", "0", "--num-classes is '0'; expected a whole number of at least 1"),
        ("optimizer", "adam", "--optimizer is 'adam'; expected one of adamw, adamw-foreach, adamw-fused, sgd, sgd-f"),
        ("dtype", "float64", "--dtype is 'float64'; expected one of float32, bfloat16, float16, autocast"),
        (
            "optimizer",
            "sgd",
            "--optimizer is 'sgd', and galore cannot do without an optimizer of its own; expected "
            "--methods fft,head,bn_head,lora,dora",
        ),
        ("device", "tpu", "--device is 'tpu'; expected one of cpu, cuda"),
        ("unstable", "pass", "--unstable is 'pass'; expected one of fail, warn"),
    ],
)
def test_bad_values(name: str, value: str, complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        read(**{name: value})
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_cuda_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptionError, match="no CUDA device"):
        read(device="cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert read(device="cuda").workload.device == "cuda"


def test_tolerances() -> None:
    assert options.tolerances({}) == default_tolerances()
    overridden = options.tolerances({"latency": 0.15, "rss_peak": 0}, ["latency=0.2"])
    assert overridden == {**default_tolerances(), "latency": 0.2, "rss_peak": 0.0}


@pytest.mark.parametrize("override", ["latency", "speed=0.1", "latency=-0.1", "latency=10", "latency=nan", "latency=a"])
def test_bad_tolerances(override: str) -> None:
    with pytest.raises(OptionError, match=r"^--tolerance"):
        options.tolerances({"latency": 0.1}, [override])


def test_a_latency_tolerance_of_nothing() -> None:
    with pytest.raises(OptionError, match="the tolerance latency is 0; expected a fraction above 0"):
        options.tolerances({"latency": 0.1}, ["latency=0"])


def test_a_bad_tolerance_table_names_the_file() -> None:
    with pytest.raises(OptionError, match=r"tolerance latency in pyproject\.toml is 'wide'"):
        options.tolerances({"latency": "wide"}, [])


def test_the_command_that_repeats_a_run() -> None:
    saving = "pytest --benchmark-save=baseline"
    assert read().record_command == saving
    run = read(batch_size="8", threads="2", matrix="full")
    assert run.record_command == f"{saving} --batch-size 8 --threads 2 --matrix full"
    # A baseline is of a whole matrix, and of what is named and in none.
    assert read(methods="lora,fft", architectures="resnet18").record_command == saving
    assert read(methods="lora,loha").record_command == f"{saving} --methods lora,loha"
    assert read(methods="lora,loha", matrix="wide").record_command == f"{saving} --matrix wide"
    assert read(ranks="16").record_command == saving
    assert read(ranks="2,16").record_command == f"{saving} --ranks 2,16", "a baseline without them would lose its cells"
    assert read(architectures="efficientnet_lite0").record_command == f"{saving} --architectures efficientnet_lite0"


class TestWorkload:
    @pytest.mark.parametrize(
        ("typed", "name"),
        [("sgd", "SGD"), ("AdamW-Fused", "AdamW-fused"), ("momentum", "momentum"), ("adamw", "AdamW")],
    )
    def test_optimizers(self, typed: str, name: str) -> None:
        run = read(optimizer=typed, methods="fft,lora")
        assert run.workload.optimizer == name
        assert run.workload.as_record()["optimizer"] == name
        assert (f"--optimizer {name}" in run.record_command) == (name != "AdamW")

    def test_dtype_and_classes(self) -> None:
        run = read(dtype="autocast", num_classes="1000")
        assert (run.workload.dtype, run.workload.num_classes) == ("autocast", 1000)
        assert run.record_command == "pytest --benchmark-save=baseline --num-classes 1000 --dtype autocast"

    def test_methods_that_bring_an_optimizer(self) -> None:
        assert read(optimizer="adamw").selection == Selection()
        with pytest.raises(
            OptionError, match=r"^--optimizer is 'sgd', and galore, fira, lora_plus, lora_fa cannot .*--meth"
        ):
            read(optimizer="sgd", matrix="wide")
        with pytest.raises(
            OptionError, match=r"lora_fa cannot do without an optimizer of its own; expected no --optim"
        ):
            read(optimizer="sgd", methods="lora_fa")

    @pytest.mark.parametrize("option", ["num_classes", "optimizer", "dtype"])
    def test_adaptation_has_its_own(self, option: str) -> None:
        value = {"num_classes": "3", "optimizer": "sgd", "dtype": "bfloat16"}[option]
        with pytest.raises(OptionError, match=f"^--{option.replace('_', '-')} is given beside --metrics adaptation"):
            read(metrics="adaptation", methods="fft", **{option: value})

    @pytest.mark.parametrize("option", ["num_classes", "optimizer", "dtype"])
    def test_a_users_step_has_its_own(self, option: str) -> None:
        value = {"num_classes": "3", "optimizer": "sgd", "dtype": "bfloat16"}[option]
        with pytest.raises(OptionError, match=f"^--{option.replace('_', '-')} is given beside --steps"):
            read(steps="json:loads", **{option: value})


@pytest.mark.parametrize("location", ["baselines", "file://baselines"])
def test_storage_folder(location: str) -> None:
    assert str(options.storage_folder(location)) == "baselines"


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("elasticsearch+http://host/index", "; expected a folder, because the gate reads files only"),
        ("file:/baselines", "; expected a folder by its path, alone or behind file://"),
        ("", "; expected a folder, or no --benchmark-storage"),
        (__file__, ", which is a file; expected a folder"),
        (f"{__file__}/below", ", which cannot be used ([Errno 20] Not a directory: "),
        ("~/baselines", ", in which nothing replaces ~; expected a folder by its path"),
        ("file://$HOME/baselines", ", in which nothing replaces $; expected a folder by its path"),
        ("a\0b", f", which cannot be used ({NULL_BYTE}); expected a folder"),
        ("a" * 300, ", which cannot be used ([Errno 36] File name too long: "),
    ],
)
def test_storage_that_is_no_folder(location: str, complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        options.storage_folder(location)
    assert str(error.value).startswith(f"--benchmark-storage is {location!r}{complaint}")


class TestMatrices:
    def methods(self, matrix: str) -> dict[str, None]:
        return dict.fromkeys(cell.method for cell in Selection(matrix).cells())

    def test_those_of_the_baselines_are_the_studys(self) -> None:
        for matrix, cells in (("subset", 12), ("core", 48), ("full", 189)):
            assert len(Selection(matrix).cells()) == cells
            assert tuple(self.methods(matrix)) == STUDY_METHODS

    def test_peft_has_that_packages(self) -> None:
        assert {"lora", "dora", "loha", "ia3"} < self.methods("peft").keys()
        assert not {"fft", "galore", "bitfit"} & self.methods("peft").keys()

    def test_wide_has_all_and_galores_higher_ranks(self) -> None:
        assert tuple(self.methods("wide")) == tuple(BUILT_IN)
        ranks = {method: {c.rank for c in Selection("wide").cells() if c.method == method} for method in BUILT_IN}
        assert ranks["galore"] == {1, 4, 16, 32, 64, 128}
        assert ranks["loha"] == ranks["lora"] == {1, 4, 16}
        assert ranks["bitfit"] == {None}

    def test_ranks_that_were_asked_for_are_all_there_is(self) -> None:
        assert {cell.rank for cell in Selection("wide", methods=("galore",), ranks=(2,)).cells()} == {2}

    @pytest.mark.parametrize(
        ("matrix", "other", "answer"),
        [
            ("subset", "core", True), ("core", "subset", False), ("core", "core", False), ("core", "full", True),
            ("core", "peft", True), ("peft", "core", True), ("core", "wide", True), ("wide", "core", False),
            ("wide", "peft", False), ("full", "wide", True), ("wide", "full", True), ("core", "none", False),
        ],
    )  # fmt: skip
    def test_what_one_leaves_out_of_another(self, matrix: str, other: str, answer: bool) -> None:
        assert leaves_out(matrix, other) == answer

    @pytest.mark.parametrize("methods", ["loha,bitfit", "last_layers"])
    def test_any_method_can_be_named_in_any_matrix(self, methods: str) -> None:
        assert {cell.method for cell in read(methods=methods).selection.cells()} == {*methods.split(",")}


CORE = Selection()
LOST = Cell("resnet18", "lora", 2)
HEAD = Cell("resnet18", "head")


@pytest.mark.parametrize(
    ("selection", "matrix", "lost"),
    [
        (CORE, "core", [LOST]),
        (CORE, "full", []),
        (Selection(matrix="full"), "core", []),
        (Selection(methods=("lora",)), "core", [LOST]),
        (Selection(methods=("fft",)), "core", []),
        (Selection(architectures=("mobilenet_v2",)), "core", []),
        (Selection(ranks=(4,)), "core", []),
        (Selection(matrix="peft"), "core", []),
        (Selection(matrix="wide"), "core", [LOST]),
        (CORE, "wide", []),
        (CORE, "unknown", [LOST]),
    ],
)
def test_cells_that_a_run_has_lost(selection: Selection, matrix: str, lost: list[Cell]) -> None:
    assert selection.no_longer_there([LOST, HEAD], matrix) == lost


def test_a_baseline_holds_what_runs_may_name() -> None:
    """How a step grows takes as long as all else that is computed: a run measures it where it is named."""
    limits = {"latency": 0.1}
    usual, saving = read().metrics, options.read({}, limits, records_baseline=True).metrics
    assert "growth" not in usual
    assert [name for name in saving if name not in usual] == ["growth"]
    assert options.read({"metrics": "flops"}, limits, records_baseline=True).metrics == ("flops",)
