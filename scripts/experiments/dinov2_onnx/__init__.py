"""A foreign teacher: the DINOv2 encoder inside an ONNX file."""
