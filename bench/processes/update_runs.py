"""Updates done in worker processes, each finished one kept at once, so that an interrupted run continues.

What was kept is used again only for the same updates under the same plan, code, package versions and machine, and only
until a run has had all its results: a whole run always measures.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import TracebackType
from typing import Self

import cpuinfo
import torch
from peft_update_bench.bench.processes.lifeline import end_with_parent
from peft_update_bench.bench.record import installed_versions
from peft_update_bench.fixtures.data import tasks
from peft_update_bench.fixtures.training import adaptation, cache
from peft_update_bench.fixtures.training.adaptation import AdaptationError, Outcome, Plan, Update
from tqdm import tqdm

_CODE = Path(adaptation.__file__).parents[1]


class UpdateRuns:
    """Does `updates`, with `workers` processes of one thread each; with one worker, in this process when asked for.

    Progress bars are drawn within `visibly()`.

    A context manager: leaving it, or `close`, ends the workers, and drops what was kept where every update's outcome
    was handed out.
    """

    def __init__(
        self,
        updates: Sequence[Update],
        plan: Plan,
        cache_folder: Path,
        workers: int,
        visibly: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._visibly = visibly
        self._updates = list(dict.fromkeys(updates))
        self._plan = plan
        self._cache_folder = cache_folder
        self._workers = workers
        self._handed_out: set[Update] = set()
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[Update, Future[Outcome]] = {}
        self._steps_done: Synchronized[int] = get_context("spawn").Value("q", 0)
        self.folder = cache_folder / "unfinished" / _run_digest(plan)
        self.kept = sum(_read(self.folder, update) is not None for update in self._updates)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(wait_for_workers=kind is None)

    def close(self, *, wait_for_workers: bool = True) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=wait_for_workers, cancel_futures=True)
        if self._handed_out >= set(self._updates):
            for update in self._updates:
                _path(self.folder, update).unlink(missing_ok=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def outcomes(self, updates: Sequence[Update]) -> list[Outcome]:
        """The outcomes of `updates`, in their order; waits for them under a progress bar on stderr.

        Raises what :func:`peft_update_bench.fixtures.training.adaptation.run` raises.
        """
        try:
            with self._visibly():
                found = [self._here(u) for u in updates] if self._workers == 1 else self._from_workers(updates)
        except Exception:
            # One that failed is told of, and would fail again. An interrupt is no exception of this kind.
            self._handed_out.update(updates)
            raise
        self._handed_out.update(updates)
        return found

    def _here(self, update: Update) -> Outcome:
        kept = _read(self.folder, update)
        if kept is not None:
            return kept
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with tqdm(desc=_name(update), unit="step", leave=False, disable=None) as bar:
                return _do(update, self._plan, self._cache_folder, self.folder, bar.update)
        finally:
            torch.set_num_threads(threads)

    def _from_workers(self, updates: Sequence[Update]) -> list[Outcome]:
        if self._pool is None:
            self._start()
        wanted = [self._futures[update] for update in updates]
        with tqdm(desc=_name(updates[0]), total=self._steps(), unit="step", leave=False, disable=None) as bar:
            pending: set[Future[Outcome]] = set(wanted)
            while pending:
                pending = wait(pending, timeout=0.5).not_done
                bar.update(self._steps_done.value - bar.n)
        try:
            return [future.result() for future in wanted]
        except BrokenProcessPool:
            raise AdaptationError(
                "a worker process died (killed, or out of memory); expected it to finish its update; "
                "run again to continue, with fewer --workers if memory is short"
            ) from None

    def _start(self) -> None:
        """Give all updates to the workers in order; each network is trained before two of them could want it."""
        self._pool = ProcessPoolExecutor(
            self._workers, mp_context=get_context("spawn"), initializer=_prepare_worker, initargs=(self._steps_done,)
        )
        open_updates = [update for update in self._updates if _read(self.folder, update) is None]
        networks = dict.fromkeys((update.architecture, update.task) for update in open_updates)
        trained = {
            network: self._pool.submit(_pretrain, *network, self._plan, self._cache_folder) for network in networks
        }
        if trained:
            with tqdm(desc="training networks on the source data", unit="step", leave=False, disable=None) as bar:
                pending: set[Future[None]] = set(trained.values())
                while pending:
                    pending = wait(pending, timeout=0.5).not_done
                    bar.update(self._steps_done.value - bar.n)
        with self._steps_done.get_lock():
            self._steps_done.value = (len(self._updates) - len(open_updates)) * self._plan.steps
        for update in self._updates:
            self._futures[update] = self._pool.submit(_in_worker, update, self._plan, self._cache_folder, self.folder)

    def _steps(self) -> int:
        return len(self._updates) * self._plan.steps


def _name(update: Update) -> str:
    rank = "" if update.rank is None else f"-r{update.rank}"
    return f"{update.architecture}-{update.method}{rank}-{update.task}"


def _run_digest(plan: Plan) -> str:
    key = {
        "plan": json.loads(json.dumps(asdict(plan), default=str)),
        "code": cache.source_digest(_CODE),
        "versions": installed_versions(),
        "machine": [platform.machine(), str(cpuinfo.get_cpu_info().get("brand_raw", ""))],
    }
    return cache.digest(key)


def _path(folder: Path, update: Update) -> Path:
    return folder / f"{cache.digest(asdict(update))}.json"


def _read(folder: Path, update: Update) -> Outcome | None:
    """What was kept of `update`; None where nothing was, or where it is damaged."""
    try:
        data = json.loads(_path(folder, update).read_text(encoding="ascii"))
        if data["update"] != asdict(update):
            return None
        return Outcome(**data["outcome"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _do(update: Update, plan: Plan, cache_folder: Path, folder: Path, on_step: Callable[[], object]) -> Outcome:
    outcome = adaptation.run(update, plan, cache_folder, on_step)
    content = json.dumps({"update": asdict(update), "outcome": asdict(outcome)})
    cache.write_atomically(_path(folder, update), content.encode("ascii"))
    return outcome


_steps_done: Synchronized[int] | None = None


def _prepare_worker(steps_done: Synchronized[int]) -> None:
    global _steps_done
    _steps_done = steps_done
    # An interrupt does not reach it: a worker ends its update, which is kept.
    end_with_parent()
    torch.set_num_threads(1)


def _count_step() -> None:
    assert _steps_done is not None
    with _steps_done.get_lock():
        _steps_done.value += 1


def _pretrain(architecture: str, task: str, plan: Plan, cache_folder: Path) -> None:
    data = tasks.load(task, plan.data)
    adaptation.pretrain(architecture, data, plan, cache_folder, _count_step)


def _in_worker(update: Update, plan: Plan, cache_folder: Path, folder: Path) -> Outcome:
    return _read(folder, update) or _do(update, plan, cache_folder, folder, _count_step)
