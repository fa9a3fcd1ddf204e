"""Export of an encoder for other programs: ONNX, S3PRL, StableHLO, the model card, and files of features."""
