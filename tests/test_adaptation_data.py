"""Images, tasks, trained networks: from packages, and from small files in the formats that users have."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft_update_bench.fixtures.architectures import build
from peft_update_bench.fixtures.data import corruptions, datasets, tasks
from peft_update_bench.fixtures.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from peft_update_bench.fixtures.data.datasets import DataError
from peft_update_bench.fixtures.data.tasks import DataChoice
from peft_update_bench.fixtures.efficientnet_lite import EfficientNetLite0, imagenet_weights
from peft_update_bench.fixtures.training import cache, pretraining
from peft_update_bench.fixtures.training.pretraining import Pretraining, WeightsError
from PIL import Image
from torch import nn
from torchvision.datasets import CIFAR10


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's files, 100 images each, and CIFAR-10-C's, whose fog is the severity as grey."""
    generator = np.random.default_rng(0)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch() -> dict[str, Any]:
        images = generator.integers(0, 256, (100, 3072), dtype=np.uint8)
        return {"data": images, "labels": [index % 10 for index in range(100)]}

    sums = {}
    for attribute, names in (("train_list", [f"data_batch_{n}" for n in range(1, 6)]), ("test_list", ["test_batch"])):
        sums[attribute] = [[name, write(name, batch())] for name in names]
        monkeypatch.setattr(CIFAR10, attribute, sums[attribute])
    meta = {"filename": "batches.meta", "key": "label_names"}
    meta["md5"] = write("batches.meta", {"label_names": [str(n) for n in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", meta)
    published = tmp_path / "CIFAR-10-C"
    published.mkdir()
    np.save(published / "labels.npy", np.tile(np.arange(100, dtype=np.uint8) % 10, 5))
    fog = np.repeat(np.arange(1, 6, dtype=np.uint8), 100)[:, None, None, None]
    np.save(published / "fog.npy", np.broadcast_to(fog, (500, 32, 32, 3)))
    return tmp_path


@pytest.mark.parametrize(("name", "images"), [("mnist_5k", 5000), ("digits", 1797)])
def test_packaged_images_are_split_without_overlap(name: str, images: int) -> None:
    data = datasets.load(name, 32)
    assert data.pixels.shape == (images, 32, 32, 3)
    assert data.num_classes == 10
    positions = np.concatenate(list(data.splits.values()))
    assert len(positions) == len(np.unique(positions))
    for positions in data.splits.values():
        assert set(data.labels[positions].tolist()) == set(range(10))
    assert data.fingerprint == datasets.load(name, 32).fingerprint


def test_cifar10_takes_source_images_from_its_training_set_only(cifar: Path) -> None:
    data = datasets.load("cifar10", 32, cifar)
    assert {name: len(positions) for name, positions in data.splits.items()} == {
        "source": 500, "update": 50, "validation": 20, "test": 20,
    }  # fmt: skip
    assert data.splits["source"].max() < 500 <= min(data.splits[name].min() for name in ("update", "test"))


def test_cifar10_c_gives_its_own_images_at_the_severity_asked_for(cifar: Path) -> None:
    for severity in (1, 5):
        task = tasks.load("shift", DataChoice("cifar10-c", cifar, corruption="fog", severity=severity))
        grey = (severity / 255 - 0.485) / 0.229
        assert torch.allclose(task.test.images[:, 0], torch.tensor(grey, dtype=torch.float32))
        assert len(task.source_test.images.unique()) > 5, "the source stays clean"


@pytest.mark.parametrize(
    ("file", "damage", "complaint"),
    [
        (
            "cifar-10-batches-py/test_batch",
            None,
            "test_batch: is missing; expected a file of CIFAR-10's",
        ),
        ("cifar-10-batches-py/data_batch_3", b"x", "data_batch_3: is damaged; expected the MD5 sum"),
        ("cifar-10-batches-py/batches.meta", None, "batches.meta: is missing"),
        ("CIFAR-10-C/fog.npy", None, r"fog.npy: is missing; expected an array of shape \(500, 32, 32, 3\)"),
        ("CIFAR-10-C/fog.npy", b"\x93NUMPY", "fog.npy: is damaged"),
        ("CIFAR-10-C/labels.npy", np.zeros(500, np.uint8), "labels.npy: is not that of CIFAR-10's test set"),
        ("CIFAR-10-C/fog.npy", np.zeros((5, 2), np.uint8), r"fog.npy: holds uint8 of shape \(5, 2\); expected"),
    ],
)
def test_a_missing_or_damaged_file_is_named(cifar: Path, file: str, damage: Any, complaint: str) -> None:
    path = cifar / file
    path.unlink()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    elif damage is not None:
        np.save(path, damage)
    with pytest.raises(DataError, match=complaint) as caught:
        tasks.load("shift", DataChoice("cifar10-c", cifar))
    assert "it comes from" in str(caught.value)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two classes of 20 oblong images, as Visual Wake Words has them."""
    for grey, name in ((40, "no_person"), (200, "person")):
        (tmp_path / name).mkdir()
        for index in range(20):
            Image.new("RGB", (50, 40), (grey, index, 0)).save(tmp_path / name / f"{index}.png")
    return tmp_path


def test_a_folder_of_images_is_read_and_cut_to_squares(folders: Path) -> None:
    data = datasets.load("folder", 24, folders)
    assert data.pixels.shape == (40, 24, 24, 3)
    assert {name: len(positions) for name, positions in data.splits.items()} == {
        "source": 24, "update": 8, "validation": 4, "test": 4,
    }  # fmt: skip
    assert [np.unique(data.pixels[data.labels == label][..., 0]).tolist() for label in (0, 1)] == [[40], [200]]


def test_what_is_wrong_with_a_folder_is_said(folders: Path) -> None:
    with pytest.raises(DataError, match="has 2 classes; expected at least 3 for the task unseen"):
        tasks.load("unseen", DataChoice("folder", folders))
    (folders / "person" / "7.png").write_bytes((folders / "person" / "7.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"person/7.png: cannot be read as an image"):
        datasets.load("folder", 24, folders)
    for path in list((folders / "person").iterdir())[9:]:
        path.unlink()
    with pytest.raises(DataError, match="person: has too few images for a validation split; expected at least 10"):
        datasets.load("folder", 24, folders)
    with pytest.raises(DataError, match="nowhere: is no folder; expected a folder for each class"):
        datasets.load("folder", 24, folders / "nowhere")


def test_unseen_leaves_classes_out_of_the_source_and_tests_on_all() -> None:
    task = tasks.load("unseen", DataChoice("digits", image_size=16))
    assert (task.source_classes, task.num_classes, task.new_classes) == (7, 10, 3)
    for part in (task.source, task.source_test, task.source_validation):
        assert set(part.labels.tolist()) == set(range(7))
    for part in (task.update, task.test, task.validation):
        assert set(part.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_repeats_and_an_image_is_independent_of_the_others(corruption: str) -> None:
    images = datasets.load("mnist_5k", 32).pixels[:2]
    seeds = np.array([3, 4])
    both = corrupted(images, corruption, 5, seeds)
    assert np.array_equal(corrupted(images[1:], corruption, 5, seeds[1:]), both[1:])
    assert not np.array_equal(both, images)


def test_severity_orders_the_damage() -> None:
    images = datasets.load("mnist_5k", 32).pixels[:20]
    damage = [
        float(np.abs(corrupted(images, "gaussian_noise", s, np.arange(20)).astype(float) - images).mean())
        for s in SEVERITIES
    ]
    assert damage == sorted(damage)


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "corrupt_tta", None)
    with pytest.raises(DataError, match=r"corrupt-tta cannot be imported .* libgl1"):
        corruptions.corrupted(np.zeros((1, 32, 32, 3), np.uint8), "fog", 5, np.array([0]))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the networks that were trained, not read."""
    trained: list[str] = []
    real = pretraining._trained

    def count(network: Any, *others: Any) -> dict[str, torch.Tensor]:
        trained.append(type(network.module).__name__)
        return real(network, *others)

    monkeypatch.setattr(pretraining, "_trained", count)
    return trained


def test_a_network_is_trained_once_and_again_when_its_file_is_damaged(
    tmp_path: Path, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    task = tasks.load("unseen", DataChoice("digits", image_size=16))
    training = Pretraining(steps=2, batch_size=8)

    def state() -> dict[str, torch.Tensor]:
        return pretraining.pretrained("mobilenet_v3_small", task, "packaged", tmp_path, training).module.state_dict()

    first = state()
    again = state()
    assert len(counted) == 1
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    repaired = state()
    assert len(counted) == 2
    assert f"{path}: is damaged" in caplog.text
    path.write_bytes(content[:1000])
    state()
    assert len(counted) == 3
    for other in (again, repaired):
        assert all(torch.equal(first[name], other[name]) for name in first)
    pretraining.pretrained("mobilenet_v3_small", task, "packaged", tmp_path, Pretraining(steps=1, batch_size=8))
    assert len(counted) == 4, "another training is another file"


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        cache.write_atomically(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_the_extended_head_keeps_what_it_knew() -> None:
    network = build("mobilenet_v3_small", 7)
    before = network.head_module.weight
    assert isinstance(before, nn.Parameter)
    pretraining.extend_head(network, 10)
    head = network.head_module
    assert isinstance(head, nn.Linear)
    assert head.out_features == 10
    assert torch.equal(head.weight[:7], before)
    assert head.weight[7:].std() > 0


def test_efficientnet_lite_has_the_packages_weights_and_recognises_what_they_know() -> None:
    """China.jpg, which scikit-learn ships, shows a palace: 698 in ImageNet's list, or a monastery, 663."""
    from sklearn.datasets import load_sample_image

    network = EfficientNetLite0()
    network.load_state_dict(imagenet_weights(), strict=True)
    photograph = Image.fromarray(load_sample_image("china.jpg")[:, 100:527]).resize((224, 224))
    images = (torch.from_numpy(np.asarray(photograph).copy()).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        best = network.eval()(images).topk(5).indices[0].tolist()
    assert {698, 663} & set(best)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("_bn0.bias"), "the weights lack _bn0.bias"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "the weights have unexpected extra"),
        (lambda weights: weights.update({"_bn0.bias": torch.zeros(3)}), "have another shape of _bn0.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Any, complaint: str) -> None:
    weights = imagenet_weights()
    change(weights)
    with pytest.raises(WeightsError, match=complaint):
        pretraining.load_all_but_head(build("efficientnet_lite0", 10), weights)


def test_every_layer_but_the_head_comes_from_imagenet() -> None:
    network = build("efficientnet_lite0", 10)
    head = network.module.state_dict()["_fc.weight"].clone()
    weights = imagenet_weights()
    pretraining.load_all_but_head(network, weights)
    state = network.module.state_dict()
    assert torch.equal(state["_conv_stem.weight"], weights["_conv_stem.weight"])
    assert torch.equal(state["_fc.weight"], head)
