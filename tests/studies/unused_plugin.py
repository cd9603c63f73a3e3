"""What the plugin costs test suites that do not use it: ``python -m tests.studies.unused_plugin``.

The tests that NumPy's wheel brings of its polynomials, 604 that nobody here wrote, are run with the plugin
installed and with ``-p no:peft-update-bench``, in turn, 20 times each. What is compared is what each run reports and
the CPU seconds of its whole process; the interval of the difference is by Student's t, of pairs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory

from scipy import stats

PAIRS = 20
SUITE = ("--pyargs", "numpy.polynomial", "-p", "no:cacheprovider", "-q")
WITHOUT = ("-p", "no:peft-update-bench")


def run(*words: str) -> tuple[str, float]:
    """What a run reports, without its time, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", *SUITE, *words]
        # Idle threads of OpenBLAS spin, and their time would be most of what differs.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"exit {done.returncode}: {done.stdout.splitlines()[-1].partition(' in ')[0]}", seconds


def main() -> None:
    pairs = []
    reports = set()
    for number in range(PAIRS):
        # Whichever comes first finds the caches as the other left them.
        order = ((), WITHOUT) if number % 2 else (WITHOUT, ())
        found = {words: run(*words) for words in order}
        reports |= {report for report, _ in found.values()}
        pairs.append((found[()][1], found[WITHOUT][1]))
    differences = [with_it - without for with_it, without in pairs]
    half = stats.t.ppf(0.975, PAIRS - 1) * stdev(differences) / PAIRS**0.5
    print("; ".join(sorted(reports)))
    print(f"with {median(pair[0] for pair in pairs):.3f} CPU s, without {median(pair[1] for pair in pairs):.3f}")
    print(f"difference {mean(differences):+.3f} s, 95 % interval ± {half:.3f} ({PAIRS} pairs)")


if __name__ == "__main__":
    main()
