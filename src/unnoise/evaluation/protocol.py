"""The card's protocol in words."""

from __future__ import annotations


def protocol_text(
    compared: int, parts: int, matched: bool, subsets: int, k: int, folds: int, features: str
) -> str:
    """One paragraph a line of the protocol, with the numbers that were used."""
    how = "with the same number of each class on both sides" if matched else "at random"
    several = (
        f"The samples are cut into {parts} parts of {compared}, {how}; every part is compared with "
        f"the same {compared} reference values and the results are averaged."
        if parts > 1
        else f"{compared} samples are compared with {compared} reference values, chosen {how}."
    )
    paragraphs = [
        f"{several} The model was not trained on the reference. Features: {features}; values are "
        "read in raw units, as a user receives them.",
        f"Floor: {subsets} random subsets of {compared} real training values, {how}, in the place "
        "of the samples; mean, least and most.",
        "Fréchet distance: squared 2-Wasserstein distance of the Gaussians fitted to the features. "
        "It is biased upwards at this size, for the floor as well: read the ratio.",
        f"C2ST: logistic regression on standardised features, {folds} folds; the share of values "
        "told right by a model that had not seen them. 0.5 is indistinguishable.",
        f"Precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020): "
        f"k = {k} neighbours.",
        f"Memorisation: the share of samples whose nearest value (L2 of raw values) lies in a "
        f"subset of {compared} training values rather than among the {compared} reference values, "
        f"averaged over the {subsets} subsets. 0.5 is none; a training set larger than a subset "
        "hides copies whose original is in another subset, so:",
        "Near copies: the share of samples whose nearest training value, among all of them, is "
        "closer than a third of the second nearest (Yoon et al. 2023). The floor is the reference.",
    ]
    if matched:
        paragraphs.append(
            "Requested-class accuracy: the share of samples that the classifier gives the class "
            "asked for. The floor is its accuracy on the reference."
        )
    paragraphs.append(
        "Intervals: 95 % bootstrap, classes kept. Means resample the values that are averaged "
        "(samples; reference values for recall and coverage; both for C2ST); Fréchet distance and "
        "memorisation resample both sides, recompute, and are centred on the estimate "
        "(for a Fréchet distance near its floor this is wider than need be). The choice "
        "of features, the training of the model and, for the Fréchet ratio, the floor are taken as "
        "given."
    )
    return "\n\n".join(paragraphs)
