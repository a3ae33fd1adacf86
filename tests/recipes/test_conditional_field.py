"""A network trained on a class and a number recovers the conditional field known in closed form."""

import pytest
import torch

from tests.training.tiny import TREE
from unnoise.data import from_arrays
from unnoise.fields import Gaussian, Mixture
from unnoise.objectives import Denoising, weight
from unnoise.paths import Flow
from unnoise.randomness import Streams
from unnoise.recipes import build_denoiser, load_recipe

F64 = torch.float64
SLOPE, APART, SPREAD = (
    1.5,
    1.0,
    0.3,
)  # of age along axis 0, of the two kinds along axis 1, √variance
OLD, YEARS = 40.0, 12.0  # ages are OLD + YEARS·a, a ~ N(0, 1)
N, STEPS, BATCH = 20_000, 400, 128


def drawn():
    """x = (SLOPE·a, ±APART) + SPREAD·noise with a and the kind of every sample."""
    made = torch.Generator().manual_seed(0)
    a, kind = torch.randn(N, generator=made), torch.randint(2, (N,), generator=made)
    x = SPREAD * torch.randn(N, 2, generator=made)
    x[:, 0] += SLOPE * a
    x[:, 1] += APART * (2 * kind - 1)
    return x, OLD + YEARS * a, kind


class Exact:
    """The fields of the network's x, raw less mean over std, given both, one or none of the two."""

    path = Flow()

    def __init__(self, spec):
        self.mean, self.std = (torch.tensor(n, dtype=F64) for n in (spec.mean, spec.std))

    def _gaussian(self, mean, variance):
        return (mean - self.mean) / self.std, variance / self.std**2

    def __call__(self, x_t, t, a=None, kind=None):
        """The mean of the network's x0 given x_t, and a and kind where they are given."""
        aged = torch.zeros(len(x_t), dtype=F64) if a is None else SLOPE * a
        wide = SPREAD**2 + (SLOPE**2 if a is None else 0.0)
        variance = torch.tensor([wide, SPREAD**2], dtype=F64)
        sides = []
        for sign in (-1, 1):
            mean = torch.stack([aged, torch.full_like(aged, sign * APART)], 1)
            sides.append(self._gaussian(mean, variance))
        rows = []
        for i in range(len(x_t)):
            means, variances = (
                torch.stack([side[k][i] if k == 0 else side[k] for side in sides]) for k in (0, 1)
            )
            if kind is None:
                field = Mixture(torch.full((2,), 0.5, dtype=F64), means, variances, self.path)
            else:
                field = Gaussian(means[kind[i]], variances[kind[i]], self.path)
            rows.append(field(x_t[i : i + 1], t).x0)
        return torch.cat(rows)


@pytest.fixture(scope="module")
def trained():
    x, age, kind = drawn()
    data = from_arrays(
        x, columns={"age": age, "kind": kind}, conditions={"age": "vector", "kind": "class"}
    )
    recipe = load_recipe(TREE, [
        "network={kind: mlp, width: 64, depth: 2}", "path.kind=flow", "model.predicts=velocity",
        "objective.condition_dropout=0.25",
    ])  # fmt: skip
    model = build_denoiser(recipe.path, recipe.network, recipe.model, data.spec)
    objective = Denoising(weight("velocity"), condition_dropout=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / STEPS)
        rows = data.order(0, step * BATCH, BATCH)
        noise = Streams(0, range(step * BATCH, (step + 1) * BATCH), "training")
        loss = objective(model, data.batch(rows), noise)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    return model.eval(), data


def errors(trained, names, t):
    """Mean square distances to the exact field given `names`: of the model given those, and of the
    exact fields that ignore one of them."""
    model, data = trained
    rows = torch.arange(0, N, N // 400)
    batch = data.batch(rows)
    a, kind = (data.columns["age"][rows, 0].double() - OLD) / YEARS, data.columns["kind"][rows]
    t = torch.tensor(t, dtype=F64)
    eps = Streams(1, range(len(rows)), "check").normal(2)
    x_t = data.spec.normalise(data.raw(rows)) * (1 - t.float()) + eps * t.float()
    given = {"age": a, "kind": kind}
    condition = batch.condition
    for name in given.keys() - set(names):
        condition = condition.null(name)
    with torch.no_grad():
        answer = model(x_t, t.float(), condition).x0.double()
    exact, shown = Exact(data.spec), {n: given[n] for n in names}

    def named(values):
        return {{"age": "a", "kind": "kind"}[n]: v for n, v in values.items()}

    right = exact(x_t.double(), t, **named(shown))
    ignoring = [
        exact(x_t.double(), t, **named({n: v for n, v in shown.items() if n != left}))
        for left in names
    ]
    return (answer - right).square().mean(), [(i - right).square().mean() for i in ignoring]


@pytest.mark.parametrize("t", [0.5, 0.7, 0.9])
def test_the_field_given_both_conditions_is_recovered(trained, t):
    error, ignoring = errors(trained, ("age", "kind"), t)
    tolerance = 0.1 * min(ignoring)  # ten times as near as any field that ignores one of them
    assert min(ignoring) > 0.02
    assert error < tolerance


@pytest.mark.parametrize("name", ["age", "kind"])
def test_the_field_given_one_condition_is_recovered_with_the_other_null(trained, name):
    error, (without,) = errors(trained, (name,), 0.8)
    assert error < 0.2 * without


def test_what_a_user_asks_for_is_what_the_data_were_trained_with(trained):
    """spec.condition of raw values is the condition that batches of the data carry."""
    _, data = trained
    rows = [5, 17, 900]
    asked = data.spec.condition({"age": data.columns["age"][rows, 0], "kind": ["0", 1, "1"]}, 3)
    wanted = data.batch(rows).condition
    torch.testing.assert_close(asked.values["age"], wanted.values["age"])
    assert asked.values["kind"].tolist() == [0, 1, 1]
    one = data.spec.condition({"age": OLD}, 3)
    mean = data.spec.conditions["age"].mean[0]
    assert one.values["age"].shape == (3, 1)
    assert abs(float(one.values["age"][0, 0]) * YEARS - (OLD - mean)) < 0.05
    assert {n: m.tolist() for n, m in one.keep.items()} == {"age": [True] * 3, "kind": [False] * 3}
