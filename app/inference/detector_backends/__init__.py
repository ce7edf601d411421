"""What can compute the detector's forward pass: PyTorch, OpenVINO or ONNX Runtime."""
