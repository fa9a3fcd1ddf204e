"""Models of transformers, in and out: the same tables of names, keys and layouts serve both ways."""
