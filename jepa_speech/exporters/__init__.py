"""An encoder for other programs: ONNX, S3PRL, StableHLO, and the model card."""
