"""The program `jepa-speech`, also as `python -m jepa_speech`."""

import sys

from jepa_speech.stopping import until_there_is_something_to_save


def main() -> int:
    """Runs the command line; returns the exit code."""
    if sys.argv[1:2] == ["train"]:  # before the slow imports
        until_there_is_something_to_save()
    from jepa_speech.cli import main

    return main()


if __name__ == "__main__":
    raise SystemExit(main())
