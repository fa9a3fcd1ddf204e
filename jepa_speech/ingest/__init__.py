"""From any input to recordings: listing, containers, decoding to 16 kHz mono, and the reasons for refusals."""
