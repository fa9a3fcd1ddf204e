"""Public corpora in the layout they are published in, one file each: NAME.py, with SUPERB's splits.

    TASKS                  the tasks that it is for
    manifests(root, out)   file name -> rows of a manifest, audio_path being a Path below `root` (or a file that the
                           reader wrote below `out`); or lines of a list of trials

listing.py writes them. Raises UserError for a root that lacks what the layout promises.
"""
