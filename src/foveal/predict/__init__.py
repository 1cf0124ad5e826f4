"""From trained weights to scores of cases, within a time.

The face hands no names on: stages use `deadline` without loading torch, which `infer` needs.
"""
