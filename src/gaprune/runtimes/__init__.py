"""Opening a model folder in the runtime that it is made for: PyTorch, ONNX Runtime or OpenVINO."""

from gaprune.runtimes.encoders import GRAPHS, Encoder, ExportedModel, Format, TorchModel, format_of, open_encoder

__all__ = ["GRAPHS", "Encoder", "ExportedModel", "Format", "TorchModel", "format_of", "open_encoder"]
