"""What is left inside a network that no longer answers for what it was to forget.

    features     what its layers hold of an image, layer by layer
    probes       what it knows: is a class, or membership, still readable from the features?
    relearning   what comes back, after a few steps on some forgotten images, or on retained ones
    similarity   how alike its features, weights and class means are to another network's
    saliency     which pixels speak for a class
    maps         features in two dimensions, to look at

All of it is read beside the retrained network, which has seen nothing of the forgotten: what is in
it, too, was not left over.
"""

from .features import features_of, layer_features
from .maps import FeatureMap, feature_map
from .probes import class_probe, membership_probe
from .relearning import relearn_from_forgotten, relearn_from_retained
from .saliency import mean_agreement, saliency, saliency_agreement
from .similarity import class_mean_angles, linear_cka, weight_distances

__all__ = [
    "FeatureMap",
    "class_mean_angles",
    "class_probe",
    "feature_map",
    "features_of",
    "layer_features",
    "linear_cka",
    "mean_agreement",
    "membership_probe",
    "relearn_from_forgotten",
    "relearn_from_retained",
    "saliency",
    "saliency_agreement",
    "weight_distances",
]
