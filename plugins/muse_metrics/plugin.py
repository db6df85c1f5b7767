"""Offers the field's measures of pictures, and the task that trains a judge; none is imported before it is used."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_metrics() -> dict[str, str]:
    """The metrics by name."""
    return {
        "clip-score": "muse_metrics.clip_score:CLIPScore",
        "feature-distance": "muse_metrics.feature_distance:FeatureDistance",
        "frechet": "muse_metrics.frechet:Frechet",
        "inception-score": "muse_metrics.inception_score:InceptionScore",
        "kernel": "muse_metrics.kernel:Kernel",
        "precision-recall": "muse_metrics.precision_recall:PrecisionRecall",
        "psnr": "muse_metrics.pairs:PSNR",
        "recognition": "muse_metrics.recognition:Recognition",
        "ssim": "muse_metrics.pairs:SSIM",
    }


@hookimpl
def muse_tasks() -> dict[str, str]:
    """What trains the judge of `recognition`."""
    return {"train-recogniser": "muse_metrics.train_recogniser:TrainRecogniser"}
