"""Metrics of samples, and the card that states them with their error."""

from .c2st import c2st
from .card import Card, Metric, Provenance, load_card
from .classifier import FeatureClassifier
from .classifier_training import train_classifier
from .evaluate import FeatureNet, Labelled, Part, evaluate
from .frechet import frechet_distance, gaussian_frechet
from .intervals import Interval, bootstrap, bootstrap_mean
from .manifold import Manifold, manifold
from .memorisation import copies, memorisation
from .pixels import ValuePCA
from .shipped import features_for, load_classifier, save_classifier, shipped_classifier

__all__ = [
    "Card",
    "FeatureClassifier",
    "FeatureNet",
    "Interval",
    "Labelled",
    "Manifold",
    "Metric",
    "Part",
    "Provenance",
    "ValuePCA",
    "bootstrap",
    "bootstrap_mean",
    "c2st",
    "copies",
    "evaluate",
    "features_for",
    "frechet_distance",
    "gaussian_frechet",
    "load_card",
    "load_classifier",
    "manifold",
    "memorisation",
    "save_classifier",
    "shipped_classifier",
    "train_classifier",
]
