"""What is suspicious about the data before anything is trained on it."""

from foveal.audit.channels import odd_channels as odd_channels
from foveal.audit.duplicates import alike as alike
from foveal.audit.duplicates import lookalikes as lookalikes
from foveal.audit.leaks import conflicting_duplicates as conflicting_duplicates
from foveal.audit.leaks import telltales as telltales
from foveal.audit.leaks import told_by as told_by

__all__ = [
    "alike",
    "conflicting_duplicates",
    "lookalikes",
    "odd_channels",
    "telltales",
    "told_by",
]
