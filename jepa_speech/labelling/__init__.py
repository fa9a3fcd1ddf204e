"""Between store and anchor: features of whole recordings, what an anchor is fitted to, and writing labels."""
