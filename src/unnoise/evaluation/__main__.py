"""`python -m unnoise.evaluation`: train anew the classifier that ships with the project."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..data import fingerprint, open_mnist5k
from .shipped import WEIGHTS, save_classifier, trained


def main() -> None:
    """Train on the 4,000 digits of the demo's training part; choose by 500, test on 500."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seen", type=int, default=80_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = {"train": 4000, "validation": 500, "test": 500}
    parts = open_mnist5k(fetch=True).split(sizes, seed=0)
    train, validation, test = (parts[name] for name in sizes)
    model = trained(
        train,
        validation,
        test,
        classes=10,
        seen=options.seen,
        seed=options.seed,
        on_epoch=lambda epoch, epochs, loss: print(f"epoch {epoch}/{epochs}: loss {loss:.4f}"),
    )
    path = save_classifier(model, options.out / "mnist5k", fingerprint(train.values, train.labels))
    print(path.read_text())


if __name__ == "__main__":
    main()
