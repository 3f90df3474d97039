"""The weights of the settings: in a bucket, in a volume that Jobs write, or shared by a claim."""

from __future__ import annotations

from qwenkit.in_cluster.shared import SharedWeights
from qwenkit.in_cluster.volume import VolumeWeights
from qwenkit.settings import Settings
from qwenkit.weights.store import BucketWeights


class Weights:
    """Where the weights of the settings are kept, and the source that they come from.

    >>> from qwenkit import Settings, Weights
    >>> weights = Weights.of(Settings())
    >>> report = weights.upload()
    >>> weights.verify().ok
    True
    """

    @staticmethod
    def of(settings: Settings) -> BucketWeights | VolumeWeights:
        """Open them: the bucket with the keys of the environment, or the cluster's volume.

        Raises:
            SettingsError: bucket, endpoint or keys are not set.
        """
        if settings.storage == "oss":
            return BucketWeights.of(settings)
        return (SharedWeights if settings.storage == "shared" else VolumeWeights)(settings)
