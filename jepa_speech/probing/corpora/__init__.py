"""Readers of public corpora in their published layout, with SUPERB's splits. One file each, NAME.py, with

    TASKS                  the tasks of the corpus
    manifests(root, out)   file name -> rows of a manifest, whose audio_path is a Path below `root` (or a file that the
                           reader wrote below `out`); or the lines of a list of trials. Raises UserError if files of the
                           layout are missing.

listing.py writes the manifests.
"""
