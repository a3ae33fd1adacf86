"""The card's protocol in words."""

from __future__ import annotations

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
) -> str:
    """Return the protocol, one paragraph a metric, with the numbers that were used.

    compared: points a side; parts: comparisons averaged; matched: whether classes were matched;
    search: (training values searched for copies, training values in all); judged: whether the card
    has the accuracy of requested classes.
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
