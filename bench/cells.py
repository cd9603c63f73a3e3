"""The matrix: which cells a run measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from peft_update_bench.fixtures.architecture_names import ARCHITECTURES, CORE_ARCHITECTURES
from peft_update_bench.fixtures.imported import imported_names, is_imported
from peft_update_bench.fixtures.methods import takes_rank
from peft_update_bench.fixtures.methods.names import AS_IT_IS, BUILT_IN, PEFT_METHODS, STUDY_METHODS


@dataclass(frozen=True)
class Matrix:
    """Architectures × methods × ranks. `further_ranks` are those that only some methods are also measured at."""

    architectures: tuple[str, ...]
    methods: tuple[str, ...] = STUDY_METHODS
    ranks: tuple[int, ...] = (1, 4, 16)
    further_ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def ranks_of(self, method: str) -> tuple[int | None, ...]:
        """None alone for a method that takes no rank."""
        return (*self.ranks, *self.further_ranks.get(method, ())) if takes_rank(method) else (None,)


MATRICES = {
    "subset": Matrix(("resnet18", "mobilenet_v2"), ranks=(4,)),
    "core": Matrix(CORE_ARCHITECTURES),
    "full": Matrix(ARCHITECTURES, ranks=(1, 2, 4, 8, 16, 32)),
    "peft": Matrix(CORE_ARCHITECTURES, PEFT_METHODS),
    "wide": Matrix(CORE_ARCHITECTURES, tuple(BUILT_IN), further_ranks={"galore": (32, 64, 128)}),
}
"""``subset`` is the adaptation benchmark's default, a network of each kind. ``core`` and ``full`` have the study's
methods, ``peft`` all of that package's, ``wide`` every built-in one, and GaLore also at the ranks at which the study's
figures are found."""


def leaves_out(matrix: str, other: str) -> bool:
    """Whether the matrix `other` has cells that `matrix` is not asked for. False for a name unknown here."""
    if matrix not in MATRICES or other not in MATRICES:
        return False
    return not {*Selection(other).cells()} <= {*Selection(matrix).cells()}


@dataclass(frozen=True)
class Cell:
    """One architecture × method × rank, the unit that is benchmarked. `rank` is None where the method takes none.

    In the adaptation benchmark also × `task`; None elsewhere. In a run of several batch sizes also × `batch_size`; None
    where a run has one, which its workload says.

    Where it `is_step`, a user's own update step stands in the architecture's place: by ``MODULE:NAME``, or by the id of
    the test that builds it. The method is then AS_IT_IS, unless one was asked for on the step's network.
    """

    architecture: str
    method: str
    rank: int | None = None
    task: str | None = None
    is_step: bool = False
    batch_size: int | None = None

    def __str__(self) -> str:
        """The test id: ``resnet18-fft``, ``mobilenet_v2-lora-r4-shift``, ``mypackage.models:build-lora-r4``,
        ``resnet18-fft-b16``.

        No part holds a hyphen, so that the id means one cell only. A step that a test builds has the test's id.
        """
        if self.is_tests:
            return self.architecture
        if self.is_step and self.method == AS_IT_IS:
            return self.architecture
        rank = "" if self.rank is None else f"-r{self.rank}"
        task = "" if self.task is None else f"-{self.task}"
        batch = "" if self.batch_size is None else f"-b{self.batch_size}"
        return f"{self.architecture}-{self.method}{rank}{task}{batch}"

    @property
    def subject(self) -> str:
        """What its figures are shown and timed together with: the architecture, at the cell's batch size."""
        return self.architecture if self.batch_size is None else f"{self.architecture} b{self.batch_size}"

    @property
    def is_tests(self) -> bool:
        """Whether a test of a user's builds its step."""
        return self.is_step and "::" in self.architecture

    @property
    def is_users(self) -> bool:
        """Whether its network or its method is a user's own."""
        return bool(self.users_code)

    @property
    def users_code(self) -> tuple[str, ...]:
        """The names of a user's code that builds it."""
        return imported_names(self.architecture, self.method)

    @property
    def is_in_no_matrix(self) -> bool:
        """Whether only a run that names it has it: a user's own network, method or step, but where a test builds it."""
        return (self.is_users or self.is_step) and not self.is_tests


@dataclass(frozen=True)
class Selection:
    """Which cells were asked for: a matrix, narrowed by filters. None means no filter.

    `tasks` are the adaptation benchmark's; empty for the update benchmark, whose cells have none. `batch_sizes` are
    several that were listed; empty where there is one, which is the workload's and no part of a cell. `steps` are a
    user's own, in the place of architectures; None where the cells are a matrix's. `shard` is (number, of how many): a
    part of the cells, the first part's number being 1.
    """

    matrix: str = "core"
    architectures: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    ranks: tuple[int, ...] | None = None
    tasks: tuple[str, ...] = ()
    steps: tuple[str, ...] | None = None
    shard: tuple[int, int] | None = None
    batch_sizes: tuple[int, ...] = ()

    @property
    def is_filtered(self) -> bool:
        """Whether a part of the matrix is left out. All of a user's own steps that were named are there."""
        if self.shard is not None:
            return True
        if self.steps is not None:
            return False
        return not (self.architectures is None and self.methods is None and self.ranks is None)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The architectures or steps. Those of a shard are every n-th: a subject's cells are timed with one reference,
        and stay together."""
        found = self.steps if self.steps is not None else self.architectures or MATRICES[self.matrix].architectures
        return found if self.shard is None else found[self.shard[0] - 1 :: self.shard[1]]

    @property
    def whole(self) -> Selection:
        """What this is a shard of; itself where it is none."""
        return replace(self, shard=None)

    def cells(self) -> list[Cell]:
        """The cells in the order in which they run: by architecture and batch size, so that neighbours share a
        reference step."""
        are_steps = self.steps is not None
        return [
            Cell(subject, method, rank, task, are_steps, batch_size)
            for subject in self.subjects
            for task in self.tasks or (None,)
            for batch_size in self.batch_sizes or (None,)
            for method in self.methods or self._all_methods
            for rank in self._ranks_of(method)
        ]

    @property
    def _all_methods(self) -> tuple[str, ...]:
        return MATRICES[self.matrix].methods if self.steps is None else (AS_IT_IS,)

    def _ranks_of(self, method: str) -> tuple[int | None, ...]:
        if method == AS_IT_IS or not takes_rank(method):
            return (None,)
        return self.ranks or MATRICES[self.matrix].ranks_of(method)

    def no_longer_there(self, recorded: Iterable[Cell], recorded_matrix: str) -> list[Cell]:
        """The recorded cells that this selection should contain and does not: a baseline's that the matrix has lost.

        A matrix that leaves out what the recorded one has, or a filter that does, loses nothing. Neither does a run
        without a user's own network or method: they are in no matrix, so only a run that names them should have them.
        """
        if leaves_out(self.matrix, recorded_matrix):
            return []
        present = set(self.cells())
        return [cell for cell in recorded if cell not in present and self._admits(cell)]

    def _admits(self, cell: Cell) -> bool:
        if self.shard is not None and cell.architecture not in self.subjects:
            return False
        if self.steps is not None or cell.is_step:
            named = self.steps or ()
            return cell.is_step and cell.architecture in named and cell.method in (self.methods or self._all_methods)
        return (
            self._admits_name(cell.architecture, self.architectures)
            and self._admits_name(cell.method, self.methods)
            and (self.ranks is None or cell.rank is None or cell.rank in self.ranks)
            and (cell.task is None or cell.task in self.tasks)
            and cell.batch_size in (self.batch_sizes or (None,))
        )

    @staticmethod
    def _admits_name(name: str, filtered: tuple[str, ...] | None) -> bool:
        return not is_imported(name) if filtered is None else name in filtered
