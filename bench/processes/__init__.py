"""What isolates a cell, what measures in a child, and the workers that train beside each other."""
