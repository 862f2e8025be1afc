"""U²-Net inside anomalib: its Engine and command line train our network on masks.

::

    anomalib train --model anomaly_u2net.interop.anomalib.U2Net --model.recipe bolt.yaml
                   --data anomaly_u2net.interop.anomalib.SupervisedFolder --data.root bolts

`U2Net` takes a recipe, `SupervisedFolder` feeds it with our index, splits and batches, and
`Verdicts` judges its maps by a calibration. Images, maps and masks go through anomalib at their
original size and on our one absolute scale; resizing and normalisation happen in the `Segmenter`,
so none of anomalib's pre-processing is applied. docs/learn/anomalib.md has the commands.
"""

from anomaly_u2net.resources import require_extra

require_extra("anomalib", "anomalib")

from anomaly_u2net.interop.anomalib.data import SupervisedFolder
from anomaly_u2net.interop.anomalib.metrics import AUPRO, ImageAP, ImageAUROC, PixelAP, PixelAUROC
from anomaly_u2net.interop.anomalib.model import U2Net
from anomaly_u2net.interop.anomalib.verdicts import Verdicts

__all__ = [
    "AUPRO",
    "ImageAP",
    "ImageAUROC",
    "PixelAP",
    "PixelAUROC",
    "SupervisedFolder",
    "U2Net",
    "Verdicts",
]
