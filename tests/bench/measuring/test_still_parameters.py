"""Parameters that the network itself keeps still are told; an update that does not train fails."""

from __future__ import annotations

import pytest
import torch
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.summary import Summary
from peft_update_bench.bench.measuring import computing
from peft_update_bench.bench.measuring.measurement import NotTrainingError, record_of
from peft_update_bench.bench.measuring.still_parameters import explain, must_train, train
from peft_update_bench.fixtures.methods.fft import FullFineTuning
from peft_update_bench.fixtures.methods.lora import LoRA
from peft_update_bench.fixtures.network import Network
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import Tensor, nn

SMALL = Workload(batch_size=2, image_size=32)


class Residual(nn.Module):
    """A block whose last batch norm starts at zero, as timm's do, and a layer that nothing uses."""

    def __init__(self, num_classes: int, *, zero: bool, spare: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        nn.init.constant_(self.block[1].weight, 0.0 if zero else 1.0)  # type: ignore[arg-type]
        if spare:
            self.spare = nn.Linear(8, 8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        logits: Tensor = self.fc((features + self.block(features)).relu().mean((2, 3)))
        return logits


def zero(num_classes: int) -> nn.Module:
    return Residual(num_classes, zero=True, spare=False)


def one(num_classes: int) -> nn.Module:
    return Residual(num_classes, zero=False, spare=False)


def spare(num_classes: int) -> nn.Module:
    return Residual(num_classes, zero=False, spare=True)


def spare_convolution(num_classes: int) -> nn.Module:
    network = Residual(num_classes, zero=False, spare=False)
    network.add_module("spare", nn.Conv2d(8, 8, 3))
    return network


def both(num_classes: int) -> nn.Module:
    return Residual(num_classes, zero=True, spare=True)


class Deaf(LoRA):
    """Its adapters' output counts nothing, as a scaling of zero makes it."""

    def adapt(self, network: Network, rank: int | None) -> None:
        super().adapt(network, rank)
        for layer in network.module.modules():
            if hasattr(layer, "scaling"):
                layer.scaling["default"] = 0.0  # type: ignore[operator,index]


def remarks(name: str, method: str) -> list[str]:
    cell = Cell(f"tests.bench.measuring.test_still_parameters:{name}", method, None if method == "fft" else 2)
    losses, still = train(build_update_step(cell.architecture, cell.method, cell.rank, SMALL))
    return must_train(cell, SMALL, losses, still)


def test_a_frozen_zero_is_told() -> None:
    (told,) = remarks("zero", "lora")
    assert told.startswith(
        "block.0.lora_B.default.weight did not move, because the frozen block.1.weight is zero and stops the gradient"
    )


@pytest.mark.parametrize(("name", "method"), [("one", "lora"), ("zero", "fft"), ("one", "fft")])
def test_nothing_is_told_where_everything_moves(name: str, method: str) -> None:
    assert remarks(name, method) == []


def test_a_parameter_without_use_is_told() -> None:
    assert remarks("spare", "fft") == [
        "spare.weight and 1 more did not move, because the network's forward pass gives it no gradient"
    ]


class FrozenStem(Residual):
    """Which is used, and gets no gradient."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.stem(images)
        logits: Tensor = self.fc(self.block(features).relu().mean((2, 3)))
        return logits


def frozen_stem(num_classes: int) -> nn.Module:
    return FrozenStem(num_classes, zero=False, spare=False)


def test_a_parameter_that_is_used_without_a_gradient_is_told() -> None:
    told = ["stem.weight and 1 more did not move, because the network's forward pass gives it no gradient"]
    assert remarks("frozen_stem", "fft") == told


def test_an_adapter_of_a_layer_without_use_is_told() -> None:
    told = [
        "spare.lora_A.default.weight and 1 more did not move, because the network's forward pass gives it no gradient"
    ]
    assert remarks("spare_convolution", "lora") == told
    cell = Cell("tests.bench.measuring.test_still_parameters:spare_convolution", "lora", 2)
    assert computing._compute(cell, SMALL, ["flops"])[1] == told


class Normed(Residual):
    """Whose bias a norm takes away again. SGD is too coarse for its gradient, which is rounding."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.block(self.stem(images)).relu().mean((2, 3)))
        return logits


def normed(num_classes: int) -> nn.Module:
    network = Normed(num_classes, zero=False, spare=False)
    nn.init.constant_(network.block[0].bias, 1.0)  # type: ignore[arg-type]
    return network


class Coarse(FullFineTuning):
    """Trains by SGD all but what is left out."""

    left_out = ""

    def optimizer(self, network: Network, _: int | None) -> torch.optim.Optimizer:
        named = network.module.named_parameters()
        return torch.optim.SGD([parameter for name, parameter in named if name != self.left_out], lr=1e-3)


class LeavesOut(Coarse):
    left_out = "stem.weight"


class Attention(nn.Module):
    """Whose softmax takes the keys' bias away."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.query, self.key, self.fc = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        logits: Tensor = self.fc(((self.query(x) @ self.key(x).transpose(1, 2)).softmax(2) @ x).mean(1))
        return logits


@pytest.mark.parametrize(("network", "bias"), [("normed", "block.0.bias"), ("Attention", "key.bias")])
def test_a_bias_that_is_taken_away_again_is_told(network: str, bias: str) -> None:
    assert remarks(network, f"{__name__}:Coarse") == [
        f"{bias} did not move, because the loss is the same whatever its values are, as with a bias that a norm takes "
        "away again"
    ]


def test_a_weight_that_the_loss_depends_on_is_not_excused() -> None:
    with pytest.raises(NotTrainingError, match=r"^updates leave trained parameters as they were: stem\.weight$"):
        remarks("normed", f"{__name__}:LeavesOut")


class ReadsWeights(Residual):
    """As a convolution whose kernel is mixed of several for each image."""

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.conv2d(self.stem(images), self.block[0].weight, padding=1)  # type: ignore[arg-type]
        logits: Tensor = self.fc(features.relu().mean((2, 3)))
        return logits


def reads_weights(num_classes: int) -> nn.Module:
    return ReadsWeights(num_classes, zero=False, spare=False)


def test_an_adapter_of_a_layer_whose_weight_is_read_alone_is_told() -> None:
    why = (
        r"block\.0\.lora_A\.default\.weight and 1 more{}: the network reads the weight of 'block\.0' and does not call "
        "the layer, so that what lora adds to it does nothing; leave it out of its Network's adapted ones$"
    )
    with pytest.raises(NotTrainingError, match="^updates leave trained parameters as they were: " + why.format("")):
        remarks("reads_weights", "lora")
    cell = Cell("tests.bench.measuring.test_still_parameters:reads_weights", "lora", 2)
    written = "^the optimizer's step writes to no memory of " + why.format(", which it trains")
    with pytest.raises(NotTrainingError, match=written):
        computing._compute(cell, SMALL, ["flops"])


@pytest.mark.parametrize("name", ["one", "zero", "both"])
def test_adapters_that_do_nothing_fail(name: str) -> None:
    """Zeros in the network excuse only what moves without them."""
    with pytest.raises(NotTrainingError, match=r"leave trained parameters as they were: stem\.lora_[AB]"):
        remarks(name, "tests.bench.measuring.test_still_parameters:Deaf")


class Root(nn.Module):
    """Of what is negative no number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def negative(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), Root(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))


class Explodes(nn.Conv2d):
    """Whose weights get a gradient as large as none in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.weight.sum() - self.weight.sum().detach()) * 1e38 * 1e38


def exploding(num_classes: int) -> nn.Module:
    return nn.Sequential(Explodes(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))


@pytest.mark.parametrize(
    ("network", "losses", "said"),
    [
        ("negative", [float("nan")], "nan; it begins in '1', a Root, of finite inputs and finite weights"),
        ("exploding", [1.0, float("nan")], "1, nan; it begins in '0', a Explodes, of finite inputs and weights that"),
        ("one", [1.0, float("nan")], "1, nan$"),
        ("one", [3.0, 2.0, 1.0, float("inf")], "3, 2, 1, inf$"),
        ("one", [3.0, 2.0, 1.0, 4.0, float("nan"), float("nan")], "nan after 4 updates, 4 before$"),
        ("one", [float("inf")] * 4, "inf, inf, inf, inf$"),
        ("one", [float("inf")] * 66, "inf, inf, inf, inf and 62 more$"),
    ],
)
def test_a_loss_that_is_not_finite_fails_and_its_layer_is_named(network: str, losses: list[float], said: str) -> None:
    cell = Cell(f"tests.bench.measuring.test_still_parameters:{network}", "fft")
    with pytest.raises(NotTrainingError, match=f"^the loss is not finite: {said}"):
        must_train(cell, SMALL, losses, [])


def test_a_step_of_ones_own_is_not_built_again_where_its_loss_is_not_finite() -> None:
    with pytest.raises(NotTrainingError, match=r"^the loss is not finite: nan$"):
        must_train(Cell("mine:build_step", "own", is_step=True), SMALL, [float("nan")], [])


def test_what_does_not_exist_is_not_explained() -> None:
    cell = Cell("tests.bench.measuring.test_still_parameters:one", "fft")
    assert explain(cell, SMALL, ["fc.weight"]) == ([], ["fc.weight"])


def test_a_remark_stands_in_the_record_and_under_the_table() -> None:
    cell = Cell("resnet18", "lora", 4)
    record = record_of(cell, SMALL, {"remarks": ["layer4 did not move"]})
    assert record.as_extra_info()["remarks"] == ["layer4 did not move"]
    assert Summary([Result(cell, record)]).notes == ["resnet18-lora-r4: layer4 did not move."]
    assert "remarks" not in record_of(cell, SMALL, {}).as_extra_info()
