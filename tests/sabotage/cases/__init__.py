"""What each fault must do to the gate: which metrics alarm, in which cells, by how much, and that all else is quiet.

Changes are fractions of the baseline. Where a change follows from the fault it is exact up to rounding, and the reason
stands beside it; elsewhere the range is about a fifth to either side of what the fault does to this network, so that a
gate which sees a tenth or ten times of it fails.
"""

from tests.sabotage.cases.case import Case, Instrument, Range
from tests.sabotage.cases.computed import COMPUTED
from tests.sabotage.cases.executed import ADAPTATION, LATENCY, MEASURED
from tests.sabotage.cases.lasting import LASTING

__all__ = ["ADAPTATION", "COMPUTED", "LASTING", "LATENCY", "MEASURED", "Case", "Instrument", "Range"]
