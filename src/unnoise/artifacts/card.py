"""The model card: what the model is, what it learned from, how to use it."""

from __future__ import annotations

import json

from ..recipes import dump, resolved
from .artifact import Artifact
from .formats import digest


def model_card(model: Artifact) -> str:
    """Return the text of an artifact's README.md."""
    spec, training = model.spec, model.training
    parameters = model.denoiser.parameter_count
    rows = {
        "network": f"{model.recipe.network.kind}, {parameters:,} parameters",
        "path": str(model.denoiser.path),
        "predicts": model.denoiser.predicts,
        "data": f"{spec.name}: {spec.modality} {spec.shape}, values {spec.value_range[0]:g} to "
        f"{spec.value_range[1]:g}",
        "classes": ", ".join(spec.class_names) if model.classes and spec.class_names else "none",
        "data's licence": spec.licence,
        "data's source": spec.source,
        "data's fingerprint": f"`{spec.fingerprint}`",
        "weights": _weights(model),
        "weights' SHA-256": f"`{model.weights_sha256}`",
        "recipe's SHA-256": f"`{digest(resolved(model.recipe))}`",
        "made with": str(model.origin or "not recorded"),
        **{k.replace("_", " "): str(v) for k, v in training.items() if k != "ema"},
    }
    others = {n: str(c) for n, c in model.conditions.items() if n != "class"}
    if others:
        rows["conditions"] = ", ".join(f"{name}: {meaning}" for name, meaning in others.items())
    table = "\n".join(f"| {k} | {_cell(v)} |" for k, v in rows.items())
    values = {n: c.example() for n, c in model.conditions.items()}
    ask = f" condition={json.dumps(values)}," if values else ""
    return f"""# {model.recipe.name}

{model.recipe.about}

| | |
|---|---|
{table}

```python
import unnoise

model = unnoise.load("this/folder")
values = unnoise.sample(model, n=16,{ask} seed=0)
```

`card.md`, where present, holds the measured quality. Made by this recipe:

```yaml
{dump(model.recipe)}```
"""


def _weights(model: Artifact) -> str:
    if model.ema is None:
        return "float32; which average of the trained ones is not recorded"
    return f"float32 moving average (EMA) of the trained ones, {model.ema}"


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())
