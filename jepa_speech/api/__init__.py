"""The Python API: what each verb of the command line does, as functions with typed arguments.

The functions print nothing and return what the verb writes to `--json`. `jepa_speech` has them all: `jepa_speech.NAME`.
"""
