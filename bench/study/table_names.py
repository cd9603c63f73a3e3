"""The study's tables by name, without the packages that make them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table that the command makes and a document may hold. `takes` says roughly how long, on two idle cores."""

    about: str
    takes: str
    needs_adaptation: bool = False


TABLES = {
    "study-cost": Table("The statements on cost", "30 s"),
    "study-accuracy": Table("The statements on accuracy", "no time", True),
    "study-counts": Table("FLOPs by three counters", "5 s"),
    "study-peaks": Table("Peak memory by both definitions", "5 s"),
    "study-batches": Table("LoRA's peak memory over the batch size", "15 s"),
    "study-savings": Table("Peak memory saved, beside language models", "60 s"),
    "study-cells": Table("Every cell of the adaptation baseline", "no time", True),
    "front": Table("Accuracy against what it costs", "no time", True),
    "front-budgets": Table("The most accurate method within so much memory", "no time", True),
    "methods-resnet18": Table("Every method's cost on ResNet-18", "60 s"),
    "methods-mobilenet_v2": Table("Every method's cost on MobileNetV2", "60 s"),
    "figures-resnet18": Table("Every method's figures on ResNet-18", "5 s"),
    "figures-mobilenet_v2": Table("Every method's figures on MobileNetV2", "5 s"),
    "digits-front": Table("Accuracy against what it costs, of every method on MNIST", "no time"),
    "digits-budgets": Table("The most accurate method within so much memory, of every method on MNIST", "no time"),
    "fashion-accuracy": Table("The statements on accuracy, by two baselines", "no time"),
    "fashion-conditions": Table("Accuracy by what the network was adapted to, on Fashion-MNIST", "no time"),
    "fashion-early": Table("Accuracy of methods that end the backward pass early, on Fashion-MNIST", "no time"),
    "fashion-ranks": Table("Accuracy by rank, on Fashion-MNIST", "no time"),
    "fashion-budgets": Table("The most accurate method within so much memory, on Fashion-MNIST", "no time"),
    "fashion-cells": Table("Every cell of the runs on Fashion-MNIST under Gaussian noise", "no time"),
    "fashion-front": Table("Accuracy against what it costs, on Fashion-MNIST under Gaussian noise", "no time"),
    "fashion-classes-front": Table("Accuracy against what it costs, on unseen classes of Fashion-MNIST", "no time"),
    "fashion-methods-front": Table("As fashion-classes-front, of every method at rank 4", "no time"),
    "fashion-searched-front": Table("As fashion-methods-front, with learning rates searched there", "no time"),
    "fashion-rates": Table("Accuracy on unseen classes of Fashion-MNIST, by where learning rates are from", "no time"),
}
DEFAULT = ("study-cost", "study-accuracy")
