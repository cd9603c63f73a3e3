"""Updates done beside each other by an executor, each finished one kept at once (``unfinished.py``): under the plan,
the images, the code, a user's own included, the package versions and the kind of machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
from peft_update_bench.bench.processes.executor import Done, Executor, Task
from peft_update_bench.bench.processes.machine_kind import kind_of_machine
from peft_update_bench.bench.record import all_versions
from peft_update_bench.bench.record.made_on import MadeOn
from peft_update_bench.bench.unfinished import Unfinished
from peft_update_bench.fixtures import digests
from peft_update_bench.fixtures.data import tasks
from peft_update_bench.fixtures.files import users_cache
from peft_update_bench.fixtures.imported import imported_names
from peft_update_bench.fixtures.training import adaptation, pretraining
from peft_update_bench.fixtures.training.adaptation import Outcome, Update
from peft_update_bench.fixtures.training.plan import Plan
from tqdm import tqdm

_CODE = Path(adaptation.__file__).parents[1]

_RETRIES = 2
"""How often an update is begun anew whose process was ended from outside."""


@dataclass(frozen=True)
class Found:
    """An update's outcome, and the machine of a cluster that found it; None is this one."""

    outcome: Outcome
    made_on: MadeOn | None


class UpdateRuns:
    """Does `updates` by the executor that `start` returns, which is asked for when the first outcome is.

    Trained networks are in `cache_folder`, on each machine; None is the user's cache folder there. `kind` is the kind
    of machine that does the updates, where it is not this one's. Progress bars are drawn within `visibly()`.

    A context manager: leaving it, or `close`, ends what is under way. What was kept stays until `forget`.
    """

    def __init__(
        self,
        updates: Sequence[Update],
        plan: Plan,
        cache_folder: Path | None,
        start: Callable[[], Executor],
        visibly: Callable[[], AbstractContextManager[object]] = nullcontext,
        kind: str | None = None,
    ) -> None:
        self._visibly = visibly
        self._updates = list(dict.fromkeys(updates))
        self._plan = plan
        self._cache_folder = cache_folder
        self._start_executor = start
        self._executor: Executor | None = None
        self._futures: dict[Update, Future[Found]] = {}
        self._code = self._users_code()
        conditions = _conditions(plan, kind)
        self._suites_code = conditions["code"]
        self._unfinished = Unfinished(cache_folder or users_cache(), conditions, self._keys())
        self.folder = self._unfinished.folder
        kept = {update: found for update in self._updates if (found := self._read(update)) is not None}
        self.kept = len(kept)
        for update in self._updates:
            self._futures[update] = Future()
            if update in kept:
                self._futures[update].set_result(kept[update])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._executor is not None:
            self._executor.close()

    def forget(self) -> None:
        """Drop what was kept, where every outcome was handed out."""
        self._unfinished.forget()

    def found(self, updates: Sequence[Update]) -> list[Found]:
        """What came of `updates`, in their order; waits for them under a progress bar of all of the run's, on stderr.

        Raises MeasurementError.
        """
        wanted = [self._futures[update] for update in updates]
        with self._visibly():
            self._wait(wanted, _name(updates[0]))
            found = [future.result() for future in wanted]
        self._unfinished.hand_out(*updates)
        return found

    def outcomes(self, updates: Sequence[Update]) -> list[Outcome]:
        """As :meth:`found`, without the machines."""
        return [found.outcome for found in self.found(updates)]

    def _wait(self, wanted: Sequence[Future[Found]], name: str) -> None:
        if all(future.done() for future in wanted):
            return
        if self._executor is None:
            self._executor = self._start_executor()
            self._submit_all(self._executor)
        futures = list(self._futures.values())
        with tqdm(desc=name, total=len(futures), unit="update", leave=False, disable=None) as bar:
            pending = set(wanted)
            while pending:
                pending = wait(pending, timeout=0.5).not_done
                bar.update(sum(future.done() for future in futures) - bar.n)

    def _submit_all(self, executor: Executor) -> None:
        """Have each network trained once, and its updates done when it is."""
        open_updates = [update for update in self._updates if not self._futures[update].done()]

        def network(update: Update) -> tuple[str, str]:
            return update.architecture, update.task

        for (architecture, task), group in groupby(sorted(open_updates, key=network), key=network):
            arguments = (architecture, task, self._plan, self._cache_folder, self._code.get(architecture))
            (trained,) = executor.submit(Task(train, arguments, _RETRIES, users_code=imported_names(architecture)))
            trained.add_done_callback(partial(self._submit, executor, list(group)))

    def _submit(self, executor: Executor, updates: Sequence[Update], trained: Future[Done[TrainedNetwork]]) -> None:
        """Have the updates of a network done, in the order of the run."""
        if error := trained.exception():
            for update in updates:
                self._futures[update].set_exception(error)
            return
        network = trained.result().result
        executor.share(network.name, network.content)
        for update in sorted(updates, key=self._updates.index):
            arguments = (update, self._plan, self._cache_folder, self._code.get(update.architecture))
            (done,) = executor.submit(
                Task(
                    do_update,
                    arguments,
                    _RETRIES,
                    (network.name,),
                    self._cache_folder,
                    imported_names(update.architecture, update.method),
                )
            )
            done.add_done_callback(partial(self._keep, update))

    def _keep(self, update: Update, done: Future[Done[Outcome]]) -> None:
        """Called once, when an update has ended."""
        try:
            found = Found(done.result().result, done.result().made_on)
            where = None if found.made_on is None else found.made_on.model_dump()
            if self._is_code_unchanged():
                with suppress(OSError):  # that it cannot be kept is no reason to lose it
                    self._unfinished.keep(update, {"outcome": asdict(found.outcome), "made_on": where})
        except Exception as error:  # it is raised where the outcome is asked for
            self._futures[update].set_exception(error)
        else:
            self._futures[update].set_result(found)

    def _is_code_unchanged(self) -> bool:
        """An update's process imports the code when it starts: once edited, nobody knows which an update ran."""
        return digests.of_folders(_CODE) == self._suites_code and self._users_code() == self._code

    def _users_code(self) -> dict[str, str]:
        names = (name for update in self._updates for name in (update.architecture, update.method))
        return digests.by_users_name(names)

    def _keys(self) -> dict[Update, dict[str, Any]]:
        """Each update, with the code of whatever of it is a user's."""
        return {
            update: asdict(update) | {"code": [self._code.get(name) for name in (update.architecture, update.method)]}
            for update in self._updates
        }

    def _read(self, update: Update) -> Found | None:
        """What was kept of `update`, where anything whole was."""
        try:
            kept = self._unfinished.find(update)
            return kept and Found(Outcome(**kept["outcome"]), kept["made_on"] and MadeOn(**kept["made_on"]))
        except (KeyError, TypeError, ValueError):
            return None


def _name(update: Update) -> str:
    rank = "" if update.rank is None else f"-r{update.rank}"
    return f"{update.architecture}-{update.method}{rank}-{update.task}"


def _conditions(plan: Plan, kind: str | None) -> dict[str, Any]:
    return {
        "plan": json.loads(json.dumps(asdict(plan), default=str)),
        "images": plan.data.data_root and digests.of_files(plan.data.data_root),
        "code": digests.of_folders(_CODE),
        "versions": all_versions(),
        "machine": kind or kind_of_machine(),
    }


@dataclass(frozen=True)
class TrainedNetwork:
    """The file of a network in the folder for them."""

    name: str
    content: bytes


def train(
    architecture: str, task: str, plan: Plan, cache_folder: Path | None, code_digest: str | None = None
) -> TrainedNetwork:
    """Train the network of an architecture and a task, or find it trained. The function of a task.

    `code_digest` is what the run knows a user's own code by: an update elsewhere finds the network by it.
    """
    torch.set_num_threads(1)
    folder = cache_folder or users_cache()
    _, path = pretraining.pretrained(architecture, tasks.load(task, plan.data), plan, folder, code_digest)
    return TrainedNetwork(path.name, path.read_bytes())


def do_update(update: Update, plan: Plan, cache_folder: Path | None, code_digest: str | None = None) -> Outcome:
    """The function of an update's task."""
    torch.set_num_threads(1)
    return adaptation.run(update, plan, cache_folder or users_cache(), code_digest)
