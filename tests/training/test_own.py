"""Training by a recipe with a network, data or an objective of the caller's own."""

import pytest
import torch
from torch import nn

import unnoise
from tests.training.test_players import assert_same
from tests.training.tiny import Changed, tiny, training_of
from unnoise.data import own_data
from unnoise.errors import ArtifactError, DataError, InvalidArgument, RecipeError
from unnoise.objectives import Denoising
from unnoise.training import Training

STEPS = ["train.steps=3", "train.batch=8"]


class MyNet(nn.Module):
    """A network of two numbers."""

    def __init__(self, size=2):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(size + 1, 16), nn.Linear(16, size)

    def forward(self, x, noise_level, condition=None):
        return self.last(torch.tanh(self.first(torch.cat([x, noise_level[:, None]], 1))))


def points(n=50):
    return torch.arange(2 * n).reshape(n, 2).float().sin()


class Items(torch.utils.data.Dataset):
    """A torch data set of events, or of events and labels."""

    def __init__(self, x, labels=None):
        self.x, self.labels = x, labels

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] if self.labels is None else (self.x[i], self.labels[i])


def test_a_recipe_alone_is_the_training_of_its_parts():
    one, two = Training.of(tiny(), STEPS), training_of(tiny(*STEPS))
    assert [float(u.loss) for u in one.updates()] == [float(u.loss) for u in two.updates()]
    assert_same(one, two)


def test_an_own_network_on_own_data_trains_is_saved_and_read_into_its_class(tmp_path):
    training = Training.of("digits", STEPS, network=MyNet(), data=points())
    before = training.denoiser.network.first.weight.detach().clone()
    assert len([float(u.loss) for u in training.updates()]) == 3
    assert not torch.equal(training.denoiser.network.first.weight, before)
    model = training.model()
    model.save(tmp_path / "m")
    read = unnoise.load(tmp_path / "m", "fp32", network=MyNet())
    for a, b in zip(read.denoiser.parameters(), training.ema.averages, strict=True):
        assert torch.equal(a, b)
    assert read.sample(4, steps=3).values.shape == (4, 2)
    with pytest.raises(ArtifactError, match=r"unnoise\.load\(folder, network=MyNet\(\)\)"):
        unnoise.load(tmp_path / "m")
    with pytest.raises(ArtifactError, match=r"first\.weight' is \(16, 3\)"):
        unnoise.load(tmp_path / "m", network=MyNet(3))
    Training.of(tiny(*STEPS)).model().save(tmp_path / "plain")
    with pytest.raises(ArtifactError, match="leave out network=MyNet"):
        unnoise.load(tmp_path / "plain", network=MyNet())


def test_the_model_is_a_copy_and_the_run_goes_on_as_if_it_was_not_made():
    straight, looked = (Training.of(tiny(*STEPS, "train.ema.every=2")) for _ in range(2))
    for _ in straight.updates():
        pass
    for _ in looked.updates():
        weights = [p.clone() for p in looked.model().denoiser.parameters()]
    assert_same(straight, looked)
    assert all(map(torch.equal, weights, looked.ema.current()))


@pytest.mark.parametrize("labelled", [False, True])
def test_tensors_pairs_and_torch_data_sets_are_the_same_data(labelled):
    x = points()
    y = torch.arange(50) % 3 if labelled else None
    plain = own_data((x, y) if labelled else x)
    listed = own_data(Items(x, y))
    assert plain.fingerprint() == listed.fingerprint()
    assert (plain.spec.classes, listed.spec.classes) == ((3, 3) if labelled else (0, 0))
    assert torch.equal(listed.values, x)
    assert own_data(plain) is plain


def test_own_data_that_cannot_be_are_refused():
    for bad, words in (
        ("digits", "data are a str"),
        (Items([torch.zeros(2), torch.zeros(3)]), r"item 1 is of shape \(3,\)"),
        (Items([]), "no items"),
        (Items(torch.zeros(1, 2).expand(2**31, 2)), "save them as a .npy file"),
    ):
        with pytest.raises(DataError, match=words):
            own_data(bad)


class Returns(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change, self.weight = change, nn.Parameter(torch.zeros(1))

    def forward(self, x, noise_level, condition=None):
        return self.change(x)


def test_a_network_that_does_not_fit_is_refused_before_any_update():
    def of(network, **options):
        return Training.of("digits", STEPS, network=network, data=points(), **options)

    with pytest.raises(InvalidArgument, match=r"MyNet fails when called as .*shape \(2, 2\)"):
        of(MyNet(3))
    with pytest.raises(InvalidArgument, match=r"returns \(2, 1\); return a tensor of.*\(2, 2\)"):
        of(Returns(lambda x: x[:, :1]))
    with pytest.raises(InvalidArgument, match="returns tuple"):
        of(Returns(lambda x: (x, x)))
    with pytest.raises(RecipeError, match=r"no labels; leave it out"):
        Training.of("digits", [*STEPS, "sample.guidance=2"], network=MyNet(), data=points())


def test_recipes_do_not_name_what_only_a_program_can_give():
    with pytest.raises(unnoise.errors.Unsupported, match=r"Training\.of\(recipe, network=Net\(\)"):
        Training.of(tiny(*STEPS, "network={kind: own, name: Net}"))
    with pytest.raises(RecipeError, match=r"data\.source is 'own'"):
        Training.of(tiny(*STEPS, "data={source: own}"))


def test_an_own_objective_takes_the_recipe_s_place():
    inner, calls = Denoising(), []

    def count(*given):
        calls.append(1)
        return inner(*given)

    training = Training.of(tiny(*STEPS), objective=Changed(inner, count))
    assert len(list(training.updates())) == len(calls) == 3
