"""Finds spots in small images: where they are, and of which kind."""
