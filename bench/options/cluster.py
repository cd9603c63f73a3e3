"""Where cells are computed, updated or measured besides this machine: ``--cluster`` and ``--on``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from peft_update_bench.bench.options.values import OptionError

CLUSTER = "auto or HOST:PORT of a cluster of Ray's that does the work; this machine is a node of it"
ON = "with --cluster: the label of the node on which cells are measured, one at a time"

INSTALL = "pip install 'peft-update-bench[cluster]'"


@dataclass(frozen=True)
class ClusterOptions:
    """A cluster by its address, and the label of the node that measures, where one was named."""

    address: str
    label: str | None = None


def read_cluster(given: Mapping[str, str | None]) -> ClusterOptions | None:
    """What was asked for; None where no cluster was. Raises OptionError."""
    address, label = given.get("cluster"), given.get("on")
    if address is None:
        if label is not None:
            raise OptionError(f"--on is {label!r} without --cluster; expected --cluster auto or HOST:PORT beside it")
        return None
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and "/" not in host and port.isdigit()):
        raise OptionError(f"--cluster is {address!r}; expected auto, or HOST:PORT as ray start --head prints it")
    if label is not None and not label.isidentifier():
        raise OptionError(f"--on is {label!r}; expected the name of a resource, of letters, digits and underscores")
    if given.get("workers") is not None:
        raise OptionError(
            f"--workers is {given['workers']!r} beside --cluster; expected one of the two, because a cluster's nodes "
            "say how many cores they give"
        )
    if given.get("cell_seconds") == "0":
        raise OptionError(
            "--cell-seconds is '0' beside --cluster; expected a limit, because what runs elsewhere is no debugger's"
        )
    if given.get("device") not in (None, "cpu"):
        raise OptionError(f"--device is {given['device']!r} beside --cluster; expected cpu, of which nodes give cores")
    if find_spec("ray") is None:
        raise OptionError(f"--cluster is {address!r}, and Ray is not installed; install it: {INSTALL}")
    return ClusterOptions(address, label)
