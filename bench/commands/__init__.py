"""What is no test, each command a module: see ``bench/__main__.py``."""
