"""A run as a page that a person reads and a table for a pull request: ``update-bench report``."""
