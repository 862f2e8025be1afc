"""U²-Net and its weights.

>>> from anomaly_u2net.models import u2netp
>>> model = u2netp()
"""

from anomaly_u2net.resources import require_extra

require_extra("train", "torch")

from anomaly_u2net.models.build import build_model
from anomaly_u2net.models.sides import SideNet
from anomaly_u2net.models.u2net import U2Net, u2net, u2net_fast, u2net_small, u2netp
from anomaly_u2net.models.weights import load_weights, reestimate_batchnorm, save_weights

__all__ = [
    "SideNet",
    "U2Net",
    "build_model",
    "load_weights",
    "reestimate_batchnorm",
    "save_weights",
    "u2net",
    "u2net_fast",
    "u2net_small",
    "u2netp",
]
