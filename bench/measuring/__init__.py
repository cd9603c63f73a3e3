"""From a cell to its record: what each metric's row names as its function, and what puts their results together."""
