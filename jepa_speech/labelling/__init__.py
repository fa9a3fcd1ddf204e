"""Features of whole recordings, frames for fitting anchors, and the writing of labels."""
