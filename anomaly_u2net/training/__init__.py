"""Training a U²-Net on masks: ``train(recipe, out)``."""

from anomaly_u2net.resources import require_extra

require_extra("train", "torch", "lightning", "safetensors", "onnx", "onnxscript")

from anomaly_u2net.training.run import Progress, TrainResult, train

__all__ = ["Progress", "TrainResult", "train"]
