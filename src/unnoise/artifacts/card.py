"""The model card: what the model is, what it learned from, how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..recipes import dump

if TYPE_CHECKING:
    from .model import Model


def model_card(model: Model, digest: str) -> str:
    """README.md of an artifact."""
    spec, training = model.spec, model.training
    parameters = sum(p.numel() for p in model.denoiser.network.parameters())
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
        "weights' SHA-256": f"`{digest}`",
        **{k.replace("_", " "): str(v) for k, v in training.items()},
    }
    table = "\n".join(f"| {k} | {v} |" for k, v in rows.items())
    ask = ' condition={"class": 0},' if model.classes else ""
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

The weights are the float32 moving average (EMA) of the trained ones. `card.md`, where present,
holds the measured quality. Made by this recipe:

```yaml
{dump(model.recipe)}```
"""
