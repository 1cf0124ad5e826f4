"""What is suspicious about the data before anything is trained on it."""

from foveal.audit.leaks import conflicting_duplicates as conflicting_duplicates
from foveal.audit.leaks import told_by as told_by

__all__ = ["conflicting_duplicates", "told_by"]
