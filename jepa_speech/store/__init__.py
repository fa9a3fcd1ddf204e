"""The store: format, writing, joining and checking; labels and feature means."""
