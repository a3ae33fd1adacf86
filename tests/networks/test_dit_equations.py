"""The transformer against its equations written out, and against another implementation."""

import math

import pytest
import torch

from tests.networks.test_dit import F64, SMALL, dit
from tests.networks.test_unet import condition, noise, perturbed
from unnoise.networks import DiT


def norm(x, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def turned(x, place, axes):
    """Channel pairs of one vector, turned by complex numbers."""
    head = len(x)
    share = head // 2 // axes
    z = torch.complex(x[: head // 2], x[head // 2 :])
    for axis in range(axes):
        for k in range(share):
            angle = place[axis] * 100 ** (-k / share)
            z[axis * share + k] = z[axis * share + k] * complex(math.cos(angle), math.sin(angle))
    return torch.cat([z.real, z.imag])


def written_out(network, x, level, given):
    """The published equations, one token and one head at a time; for even sizes."""
    config, patch = network.config(), network.patch
    size, axes = x.shape[2:], x.ndim - 2
    places = torch.cartesian_prod(*[torch.arange(n // patch) for n in size]).reshape(-1, axes)
    vector = network.embed(level, given).to(x.dtype)
    numbers = (vector @ network.steer.weight.T + network.steer.bias).reshape(len(x), -1, 24)
    out = torch.zeros(len(x), config["channels_out"], *size, dtype=x.dtype)

    def cell(place):
        return tuple(slice(p * patch, (p + 1) * patch) for p in place.tolist())

    for i, sample in enumerate(x):
        h = torch.stack(
            [network.enter.weight @ sample[(slice(None), *cell(p))].flatten() for p in places]
        )
        h = h + network.enter.bias
        modulation = iter(numbers[i])
        for block in network.layers:
            shift, scale, gate = next(modulation), next(modulation), next(modulation)
            qkv = (norm(h, 1e-6) * scale + shift) @ block.project.weight.T + block.project.bias
            heads = []
            for part in range(24 // 12):
                q, k, v = (
                    qkv[:, which * 24 + part * 12 : which * 24 + (part + 1) * 12]
                    for which in range(3)
                )
                q, k = norm(q, 1e-5), norm(k, 1e-5)
                q, k = (
                    torch.stack(
                        [turned(r, p.tolist(), axes) for r, p in zip(a, places, strict=True)]
                    )
                    for a in (q, k)
                )
                heads.append(torch.softmax(q @ k.T / math.sqrt(12), dim=1) @ v)
            h = h + gate * (torch.cat(heads, 1) @ block.out.weight.T + block.out.bias)
            shift, scale, gate = next(modulation), next(modulation), next(modulation)
            inner = (norm(h, 1e-6) * scale + shift) @ block.widen.weight.T + block.widen.bias
            inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
            h = h + gate * (inner @ block.narrow.weight.T + block.narrow.bias)
        shift, scale = next(modulation), next(modulation)
        h = (norm(h, 1e-6) * scale + shift) @ network.leave.weight.T + network.leave.bias
        for token, place in zip(h, places, strict=True):
            where = (slice(None), *cell(place))
            out[i][where] = token.reshape(out[i][where].shape)
    return out


@pytest.mark.parametrize(
    ("channels", "size", "patch"), [(3, (6, 4), 2), (2, (6,), 3), (1, (2, 4, 2), 2), (2, (3, 2), 1)]
)
def test_the_equations_of_the_paper(channels, size, patch):
    network = dit(channels, size, patch=patch, channels_out=channels + 1).double()
    x, level = noise(2, channels, *size).double(), torch.tensor([0.2, 0.9])
    given = condition([0, 2])
    want = written_out(network, x, level, given)
    torch.testing.assert_close(network(x, level, given), want, rtol=1e-10, atol=1e-10)
    assert want.std() > 0.1


def test_diffusers_transformer_with_the_same_weights():
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=3, out_channels=2,
        num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=4, activation_fn="gelu",
        norm_eps=1e-6,
    )  # fmt: skip
    peer = perturbed(peer.eval(), 0.5).double()
    network = DiT(
        3, classes=4, channels_out=2, positions="sincos", normalise=False,
        **SMALL | dict(embedding=24),
    ).double()  # fmt: skip
    first = peer.transformer_blocks[0].norm1.emb
    for block in peer.transformer_blocks[1:]:  # each has one of its own; the network has one
        block.norm1.emb.load_state_dict(first.state_dict())
    steps, ids = torch.tensor([3, 700]), torch.tensor([1, 3])

    class Same(torch.nn.Module):
        def forward(self, level, given):
            return torch.nn.functional.silu(first(steps, ids, hidden_dtype=F64))

    network.embed = Same()
    modulations, last = [], peer.proj_out_1
    for ours, theirs in zip(network.layers, peer.transformer_blocks, strict=True):
        attention, inner, outer = theirs.attn1, theirs.ff.net[0].proj, theirs.ff.net[2]
        qkv = [attention.to_q, attention.to_k, attention.to_v]
        pairs = (
            (ours.out, attention.to_out[0]), (ours.widen, inner), (ours.narrow, outer),
        )  # fmt: skip
        for mine, other in pairs:
            mine.load_state_dict(other.state_dict())
        ours.project.weight.data = torch.cat([layer.weight for layer in qkv])
        ours.project.bias.data = torch.cat([layer.bias for layer in qkv])
        modulations.append(theirs.norm1.linear)
    ones = torch.zeros(14, 24, dtype=F64)
    ones[[1, 4, 7, 10, 13]] = 1
    network.steer.weight.data = torch.cat([layer.weight for layer in [*modulations, last]])
    network.steer.bias.data = (
        torch.cat([layer.bias for layer in [*modulations, last]]) + ones.flatten()
    )
    network.enter.weight.data = peer.pos_embed.proj.weight.flatten(1)
    network.enter.bias.data = peer.pos_embed.proj.bias.data
    order = torch.arange(8).reshape(2, 2, 2).permute(2, 0, 1).flatten()  # theirs: rows, columns, c
    network.leave.weight.data = peer.proj_out_2.weight[order]
    network.leave.bias.data = peer.proj_out_2.bias[order]
    x = noise(2, 3, 8, 8).double()
    with torch.no_grad():
        want = peer(x, timestep=steps, class_labels=ids).sample
        torch.testing.assert_close(network(x, torch.rand(2)), want, rtol=1e-6, atol=1e-6)
    assert want.std() > 0.1
