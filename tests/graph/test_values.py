"""What a graph says that a model computes is what torch computes: in real models, and operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import architectures
import pytest
import torch
from graph.values import Compared, compared
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("double")


class Of(nn.Module):
    """Functions of x[3, 4, 12], of a weight[12, 12] and of a gain[12]."""

    def __init__(self, *runs: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(12, 12)), nn.Parameter(torch.randn(12))
        self.runs = runs

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * run(self, x) for run in self.runs)  # a node of its own that reads it, whatever view it is


def heads(m: Of, x: Tensor) -> Tensor:
    """x @ weight.T as [3, 2 heads, 4, 6]."""
    return F.linear(x, m.weight).view(3, 4, 2, 6).transpose(1, 2)


def image(m: Of, x: Tensor) -> Tensor:
    return F.linear(x, m.weight).view(3, 4, 6, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(3, 4, 12)


RUNS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a function of heads": lambda m, x: joined(heads(m, x).abs()),
    "sums over heads": lambda m, x: heads(m, x) / heads(m, x).abs().sum(-1, keepdim=True),
    "a function of what is spread": lambda m, x: m.gain[:, None].expand(12, 4).exp().reshape(3, 4, 4) + x[..., :4],
    "of what is spread in part": lambda m, x: torch.tanh(m.gain.view(2, 1, 6).expand(2, 4, 6)).reshape(4, 12) * x,
    "a function, then heads": lambda m, x: torch.relu(F.linear(x, m.weight)).view(3, 4, 3, 4).transpose(1, 2).exp(),
    "softmax over groups": lambda m, x: heads(m, x).reshape(3, 2, 4, 2, 3).softmax(-2),
    "softmax across what was split": lambda m, x: heads(m, x).flatten(1, 2).softmax(1),
    "attention": lambda m, x: F.scaled_dot_product_attention(heads(m, x), x.view(3, 4, 2, 6).transpose(1, 2),
                                                             heads(m, x * x), is_causal=True),
    "one key for two heads": lambda m, x: heads(m, x) @ x[..., :6].unsqueeze(1).transpose(-1, -2),
    "halves turned": lambda m, x: torch.cat([-heads(m, x)[..., 3:], heads(m, x)[..., :3]], -1),
    "neighbours turned": lambda m, x: torch.stack([-heads(m, x)[..., 1::2], heads(m, x)[..., ::2]], -1).flatten(-2),
    "flipped and rolled": lambda m, x: F.linear(x, m.weight).flip(-1) + torch.roll(x * m.gain, 5, -1),
    "slices with steps": lambda m, x: F.linear(x, m.weight)[:, 1:, 2::3] * x[:, :3, :4],
    "chunks": lambda m, x: (lambda a, b, c: a * b + c.exp())(*F.linear(x, m.weight).chunk(3, -1)),
    "unbound": lambda m, x: sum(part * (i + 1) for i, part in enumerate(heads(m, x).unbind(1))),
    "a diagonal": lambda m, x: (m.weight @ m.weight.T).diagonal() * x,
    "a norm of rows": lambda m, x: F.linear(x, F.normalize(m.weight, dim=1)) / m.weight.norm(dim=0),
    "norms": lambda m, x: F.layer_norm(x @ m.weight, (12,), m.gain, m.gain) + F.rms_norm(x, (12,), m.gain, 1e-5),
    "a norm of groups": lambda m, x: F.group_norm(F.linear(x, m.weight).transpose(1, 2), 3, m.gain, m.gain),
    "variances": lambda m, x: (x * m.gain).var(-1, keepdim=True) + (x @ m.weight).std(1, keepdim=True),
    "chosen by a mask": lambda m, x: torch.where(x > 0, x * m.gain, (x @ m.weight).exp()),
    "a mask of zeros": lambda m, x: torch.where(x > 0, x * m.gain, 0.0) + (x @ m.weight).masked_fill(x < 0, 0.0),
    "extremes": lambda m, x: (x @ m.weight).max(-1).values + (x * m.gain).amin(1)[:, :4]
        + torch.maximum(x, x @ m.weight).mean(),
    "extremes of all": lambda m, x: x * m.weight.max() + m.gain.min(),
    "looked up": lambda m, x: m.weight[torch.tensor([[1, -1, 3], [0, 5, 5]])],
    "an embedding": lambda m, x: F.embedding(torch.tensor([[1, 11], [0, 5]]), m.weight),
    "an index along the second axis": lambda m, x: m.weight.index_select(1, torch.tensor([3, 1, 1, 0])).exp(),
    "spread, tiled, repeated": lambda m, x: m.gain.repeat(2) + m.gain.repeat_interleave(2)
        + m.gain.expand(2, 12).flatten(),
    "padded": lambda m, x: F.pad(x * m.gain, (1, 2, 0, 1)) + F.pad(x, (1, 2, 0, 1), value=1.5),
    "a convolution": lambda m, x: F.conv2d(image(m, x), m.weight.view(4, 4, 3, 3), m.gain[:4], padding=1),
    "a convolution in groups": lambda m, x: F.conv2d(image(m, x), m.weight[:6].view(8, 1, 3, 3), padding=(2, 1),
                                                     dilation=(2, 1), groups=4),
    "a strided convolution": lambda m, x: F.conv1d(x, m.weight.view(12, 4, 3), m.gain, stride=2, padding=1),
    "a transposed convolution": lambda m, x: F.conv_transpose1d(x, m.weight.view(4, 12, 3), m.gain, stride=2, padding=1,
                                                                output_padding=1),
    "a transposed one in groups": lambda m, x: F.conv_transpose2d(image(m, x), m.weight.view(4, 4, 3, 3), groups=2),
    "pools": lambda m, x: F.avg_pool2d(image(m, x), 2, 1, 1, count_include_pad=False).sum()
        + F.avg_pool1d(x @ m.weight, 3, 2, 1),
    "largest in windows": lambda m, x: F.max_pool2d(image(m, x), (3, 2), (2, 1), (1, 1)) + 0 * m.gain[:1],
    "a pool to a size": lambda m, x: F.adaptive_avg_pool2d(image(m, x), (3, 1)),
    "unfolded": lambda m, x: (x @ m.weight).unfold(-1, 4, 2) * m.gain[:4],
    "larger images": lambda m, x: F.interpolate(image(m, x), scale_factor=2.0) + 0 * m.gain[:1],
    "written in part": lambda m, x: (lambda y: y.slice_scatter(x[..., :3] * m.gain[:3], -1, 2, 5))(x @ m.weight),
    "copied in part": lambda m, x: (lambda y: (y[..., 2:5].copy_(m.gain[:3]), y[..., 7:].copy_(x[..., :5]), y)[-1])(
        x @ m.weight
    ),
    "written in place": lambda m, x: (lambda y: (y[:, 1:3].mul_(m.gain), y)[1])(x @ m.weight),
    "accumulated": lambda m, x: (x @ m.weight).cumsum(1) + m.gain.cumsum(0),
    "triangles": lambda m, x: x @ m.weight.tril() + x @ m.weight.triu(2),
    "einsum": lambda m, x: torch.einsum("bti,ji,btj,j->bij", x, m.weight, x, m.gain),
    "outer products": lambda m, x: torch.outer(m.gain, m.gain) @ m.weight.mT + torch.kron(m.gain[:3], m.gain[:4]),
    "powers and roots": lambda m, x: (m.gain.abs() + 1).sqrt() * x**3 + (m.gain**2 + 1).rsqrt() + 2 ** (x * m.gain),
    "the usual functions": lambda m, x: F.gelu(x * m.gain) + F.gelu(x, approximate="tanh") + F.silu(x @ m.weight)
        + F.softplus(x) + F.leaky_relu(x * m.gain, 0.2) + F.elu(x) + F.hardtanh(x) + F.relu6(x) + F.mish(x)
        + torch.sign(x * m.gain),
    "losses": lambda m, x: F.cross_entropy((x @ m.weight).flatten(0, 1), torch.arange(12)) + F.mse_loss(x * m.gain, x)
        + F.log_softmax(x @ m.weight, -1).mean()
        + F.nll_loss((x @ m.weight).log_softmax(-1).flatten(0, 1), torch.arange(12)),
    "gates": lambda m, x: F.glu(x @ m.weight) * m.gain[:6],
    "distances": lambda m, x: F.cosine_similarity(x @ m.weight, x * m.gain, dim=-1),
    "logsumexp": lambda m, x: (x @ m.weight).logsumexp(-1) + torch.logaddexp(x, x * m.gain).sum(-1),
    "meshed": lambda m, x: sum(torch.meshgrid(m.gain, m.gain[:4], indexing="ij")),
    "squeezed": lambda m, x: (x @ m.weight).unsqueeze(0).squeeze().movedim(-1, 0).swapaxes(0, 1).contiguous(),
}  # fmt: skip


def same(result: Compared, within: float) -> None:
    assert result.seen > 0
    assert result.worst <= within, result.where


@pytest.mark.parametrize("names", [tuple(RUNS)[at : at + 6] for at in range(0, len(RUNS), 6)], ids=", ".join)
def test_each_operation(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few in one model, which is traced once."""
    result = compared(Of(*map(RUNS.get, names)).double(), (torch.randn(3, 4, 12),), {}, monkeypatch)
    same(result, 1e-13)
    assert result.seen >= len(names)


def wide(x: Any) -> Any:
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


MODELS = ["gpt_neox", "mixtral", "unet", "t5", "dit", "swin", "mamba", "deepseek_v2"]


@pytest.mark.parametrize("name", thinned(MODELS, 2))
def test_architectures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In eval mode, where nothing is drawn; some of them compute in float32 in between whatever they are given."""
    case = architectures.build(name)
    args, kwargs = tuple(map(wide, case.args)), {key: wide(value) for key, value in case.kwargs.items()}
    result = compared(case.model.double().eval(), args, kwargs, monkeypatch)
    same(result, 2e-6)
    assert result.seen > result.nodes // 5
