"""What a mistyped name may have meant."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.options.nearest import did_you_mean, nearest

NAMES = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "lora", "dora", "flops")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("loar", ["lora"]),
        ("Lora", ["lora"]),
        ("mobilenetv2", ["mobilenet_v2"]),
        ("MobileNet V3 Small", ["mobilenet_v3_small"]),
        ("mobilenet_v3", ["mobilenet_v3_small", "mobilenet_v3_large"]),
        ("resnet-18", ["resnet18"]),
        ("flop", ["flops"]),
        ("vgg", []),
        ("", []),
        ("m", []),
    ],
)
def test_nearest(given: str, meant: list[str]) -> None:
    assert nearest(given, NAMES) == meant


def test_as_the_end_of_a_sentence() -> None:
    assert did_you_mean("mobilenet_v3", NAMES) == "; did you mean mobilenet_v3_small or mobilenet_v3_large?"
    assert did_you_mean("vgg", NAMES) == ""
    assert nearest("mobile", NAMES, most=2) == ["mobilenet_v2", "mobilenet_v3_small"]


@pytest.mark.parametrize(
    ("option", "value", "end"),
    [
        ("methods", "lora,dorra", "; did you mean dora?"),
        ("architectures", "MobileNetV2", "; did you mean mobilenet_v2?"),
        ("metrics", "measured-memory", "; did you mean measured_memory?"),
        ("matrix", "ful", "; did you mean full?"),
    ],
)
def test_a_mistyped_option_ends_with_what_was_meant(option: str, value: str, end: str) -> None:
    with pytest.raises(options.OptionError) as error:
        options.read({option: value}, {})
    assert str(error.value).endswith(end)
