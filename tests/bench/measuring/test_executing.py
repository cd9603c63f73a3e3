"""What is said where computed and measured memory of a user's own code are apart."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.measuring.executing import told_apart


@pytest.mark.parametrize(
    ("gap", "words"), [(0.01, None), (-0.01, None), (-0.068, "6.8% of the transient one more"), (0.2, "20.0% of the")]
)
def test_a_gap_that_no_workspace_explains_is_told(gap: float, words: str | None) -> None:
    assert [words in remark for remark in told_apart(gap) if words] == ([True] if words else [])
    assert len(told_apart(gap)) == (words is not None)
