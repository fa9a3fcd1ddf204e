"""The store: format, writing, joining and checking of recordings and of their labels."""
