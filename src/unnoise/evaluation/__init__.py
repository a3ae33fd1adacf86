"""Metrics of samples, and the card that states them with their error."""

from .c2st import c2st
from .card import Card, Provenance, load_card
from .classifier import FeatureClassifier
from .classifier_training import train_classifier
from .compare import Comparison, Verdict, compare
from .efficientnet import EfficientNetFeatures
from .efficientnet_weights import efficientnet
from .evaluate import evaluate
from .features import FEATURES, GivenFeatures, StoredFeatures, check_features, named_features
from .frechet import frechet_distance, gaussian_frechet
from .intervals import Interval, bootstrap, bootstrap_mean
from .kernel import kid, polynomial_mmd
from .learned_test import Judge, LearnedTest, learned_test
from .levels import LevelLoss, NoiseLevels, noise_levels
from .manifold import Manifold, manifold
from .memorisation import copies, memorisation
from .metric import Level, Metric
from .pixels import ValuePCA
from .shipped import features_for, load_classifier, save_classifier, shipped_classifier
from .sides import FeatureNet, Labelled, Part, subsample
from .slices import Slices, sliced_wasserstein

__all__ = [
    "FEATURES",
    "Card",
    "Comparison",
    "EfficientNetFeatures",
    "FeatureClassifier",
    "FeatureNet",
    "GivenFeatures",
    "Interval",
    "Judge",
    "Labelled",
    "LearnedTest",
    "Level",
    "LevelLoss",
    "Manifold",
    "Metric",
    "NoiseLevels",
    "Part",
    "Provenance",
    "Slices",
    "StoredFeatures",
    "ValuePCA",
    "Verdict",
    "bootstrap",
    "bootstrap_mean",
    "c2st",
    "check_features",
    "compare",
    "copies",
    "efficientnet",
    "evaluate",
    "features_for",
    "frechet_distance",
    "gaussian_frechet",
    "kid",
    "learned_test",
    "load_card",
    "load_classifier",
    "manifold",
    "memorisation",
    "named_features",
    "noise_levels",
    "polynomial_mmd",
    "save_classifier",
    "shipped_classifier",
    "sliced_wasserstein",
    "subsample",
    "train_classifier",
]
