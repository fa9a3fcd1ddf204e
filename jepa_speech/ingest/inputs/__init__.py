"""One file per kind of input (manifest, archive, folder). Each yields an Entry per recording."""
