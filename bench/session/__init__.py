"""A run of pytest that measures updates: its hooks, what it holds while it lasts, and what it tells at its end."""
