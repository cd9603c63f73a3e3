"""The benchmarks: the matrix of cells, the tests that measure them, and the gate that judges the records."""
