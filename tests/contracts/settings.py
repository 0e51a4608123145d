"""Each registered method with settings that learn the small problem in a blink. A new method adds its line here, and no more."""

from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSupSettings

SMALL = {
    "supsup": SupSupSettings(training=MaskTraining(batches=120, batch_size=20, learning_rate=0.01)),
}
"""By `kind`."""
