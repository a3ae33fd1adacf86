"""The card's protocol in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .levels import NoiseLevels


def protocol_text(
    compared: int,
    parts: int,
    matched: bool,
    subsets: int,
    k: int,
    folds: int,
    features: str,
    directions: int,
    search: tuple[int, int],
    judged: bool,
    about_reference: str,
    levels: NoiseLevels | None,
    judge: Mapping[str, Any] | None,
) -> str:
    """Return the protocol, one paragraph a metric, with the numbers that were used.

    compared: points a side; parts: comparisons averaged; matched: whether classes were matched;
    search: (training values searched for copies, training values in all); judged: whether the card
    has the accuracy of requested classes; judge: the settings of the learned test, or None.
    """
    searched, trained_on = search
    among = "all of them"
    if searched < trained_on:
        among = f"{searched} of {trained_on}, taken at random"
    how = "with the same number of each class on both sides" if matched else "at random"
    several = (
        f"The samples are cut into {parts} parts of {compared}, {how}; every part is compared with "
        f"the same {compared} reference values and the results are averaged."
        if parts > 1
        else f"{compared} samples are compared with {compared} reference values, chosen {how}."
    )
    paragraphs = [
        f"{several} {about_reference} Features: {features}; values are "
        "read in raw units, as a user receives them.",
        *(() if judge is None else _learned(judge)),
        f"Floor: {subsets} random subsets of {compared} real training values, {how}, in the place "
        "of the samples; mean, least and most.",
        "Fréchet distance: squared 2-Wasserstein distance of the Gaussians fitted to the features. "
        "It is biased upwards at this size, for the floor as well: read the ratio.",
        "Kernel distance (KID, Bińkowski et al. 2018): the unbiased estimate of the squared "
        "maximum mean discrepancy of k(x, y) = (⟨x, y⟩/d + 1)³ on the d features, here centred and "
        "divided by one number, the root of their mean variance, both of training values. 0 is "
        "equality; it may be negative.",
        f"Sliced Wasserstein distance: of raw values, each channel in units of its deviation in "
        f"the training data, √(mean of W₂² over {directions} random directions); W₂² compares "
        "sorted projections. It uses no feature net. It is biased upwards, for the floor as well.",
        f"C2ST: logistic regression on standardised features, {folds} folds; the share of values "
        "classified correctly by a model trained without them. 0.5 is indistinguishable.",
        f"Precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020): "
        f"k = {k} neighbours.",
        f"Memorisation: the share of samples whose nearest value (L2 of raw values) lies in a "
        f"subset of {compared} training values rather than among the {compared} reference values, "
        f"averaged over the {subsets} subsets. 0.5 is none; a training set larger than a subset "
        "hides copies whose original is in another subset, so:",
        f"Near copies: the share of samples whose nearest training value, among {among}, is "
        "closer than a third of the second nearest (Yoon et al. 2023). The floor is the reference.",
    ]
    if judged:
        paragraphs.append(
            "Requested-class accuracy: the share of samples whose predicted class is the requested "
            "one. The floor is the classifier's accuracy on the reference."
        )
    if levels is not None:
        paragraphs.append(levels.protocol)
    paragraphs.append(
        "Intervals: 95 % bootstrap within classes. Means resample the values that are averaged "
        "(samples; reference values for recall and coverage, for coverage and "
        "a jackknife over samples; both for C2ST); the distances and "
        "memorisation resample both sides, recompute, and are centred on the estimate "
        "(for a distance near its floor this is wider than need be). The choice "
        "of features, the training of the model and, for the Fréchet ratio, the floor are taken as "
        "given."
    )
    return "\n\n".join(paragraphs)


def _learned(judge: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paragraphs of the learned two-sample test."""
    half, step = judge["networks"] // 2, judge["lattice"]
    lattice = "" if step is None else (
        f" One side lies on steps of {step:.4g}, as stored bytes do, and another does not: all "
        "sides were rounded to these steps."
    )  # fmt: skip
    first = (
        f"Learned two-sample test: {judge['networks']} small networks, {half} on each half of the "
        f"samples, each trained with {judge['seen']} examples to tell {judge['values']} training "
        f"values from {judge['values']} samples, without augmentation, and tested on the reference "
        "and the other half of the samples. The accuracy is the mean over both sides, the networks "
        "and the halves. 0.5 is indistinguishable; samples that are copies of training values lie "
        "at or below it. Its floor and the floor's interval: training values, on which no network "
        "is trained as real ones, in the place of the samples. Intervals join the bootstrap over "
        f"the tested values and the scatter between networks.{lattice}"
    )
    shape = (
        "By shape: the same test of pictures that are binarised at the middle between the least "
        "and the greatest training value.",
    ) * bool(judge["shape"])
    last = (
        "Flawed samples: the share of samples whose score (the mean logit of the networks that "
        "were not trained on the sample) lies below the score of 99 % of the reference. Data that "
        "the samples miss: the share of the reference whose score lies above that of 99 % of the "
        "samples. Both are about 1 % for samples of the data's distribution."
    )
    return (first, *shape, last)
