"""Listing of inputs, checks of containers, decoding to 16 kHz mono, and reasons for rejecting recordings."""
