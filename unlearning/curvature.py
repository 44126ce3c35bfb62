"""How much does a weight matter: the diagonal of the Fisher information, from each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from .core.batches import Batches, fixed_order, read_pairs
from .core.checks import check_labels, check_logits, check_module, check_precision
from .core.devices import device_of, dtype_of, on_device, performance_settings, with_gradients
from .core.layers import copy_of, has_own_parameters, unwrapped
from .core.randomness import generator_from

_CHUNK_FLOATS = 2**26  # per-example gradients held at once: 256 MB
_CACHED_FLOATS = 2**21  # the same of one convolution: 8 MB, near the processor


def fisher_diagonal(
    model: nn.Module, batches: Batches, *, estimator: str = "exact", seed: int = 0
) -> dict[str, Tensor]:
    r"""Diagonal of the Fisher information of the predictive distribution, mean per example.

    .. math:: F_w = \frac1N \sum_x \sum_y p(y|x) (\partial \log p(y|x) / \partial w)^2

    Each example's own gradient is squared: the square of a batch's mean gradient is not the Fisher
    information. The network is read in eval mode; labels are read for "empirical" alone.

    Linear, convolution and BatchNorm layers have closed forms in the layer's input and the gradient
    at its output: for a linear layer with input a and output gradient g, F = E[(g^2) (a^2)^T].
    Networks with parameters anywhere else go through ``torch.func``: slower, same result.

    Source: Martens, New Insights and Perspectives on the Natural Gradient Method, JMLR 2020.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        batches: batches of (images, labels). A deep network needs small ones: of ResNet-20, 9 MB
            of input patches are kept per image of 28 x 28.
        estimator: "exact" sums over all K classes weighted by p(y|x); "sampled" draws one class
            from p(y|x) for each example: unbiased, noisier, and one backward pass instead of K;
            "empirical" takes the label instead, which is another quantity: the mean square of the
            gradients of the loss.
        seed: random seed for sampled classes, and for a DataLoader without a generator.

    Returns:
        {parameter name: tensor of the parameter's shape}, on the model's device.

    Raises:
        ValueError: if there are no batches, ``estimator`` is unknown, or the result is not finite.
    """
    if estimator not in ("exact", "sampled", "empirical"):
        raise ValueError(f'estimator must be "exact", "sampled" or "empirical", not {estimator!r}')
    check_module(model)
    check_precision(model)
    model, prefix = unwrapped(model)
    model = copy_of(model).eval().requires_grad_(False)
    device, dtype, generator = device_of(model), dtype_of(model), generator_from(seed)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    count, add = 0, None
    speed, attention = performance_settings(model), sdpa_kernel(SDPBackend.MATH)
    with speed, attention, fixed_order(batches, device), with_gradients():
        for pair in read_pairs(batches, once=True):
            images, labels = on_device(pair, device, channels_last=False, dtype=dtype)
            if add is None:
                check_logits(model(images[:1]))
            add = add or (_add_closed_form if _in_closed_form(model, images[:4]) else _add_by_func)
            add(model, images, total, partial(_class_weights, estimator, labels, generator))
            count += len(images)
    if count == 0:
        raise ValueError("the loader yielded no batches: there is no Fisher information to take")
    result = {name: value / count for name, value in total.items()}
    if not all(bool(value.isfinite().all()) for value in result.values()):
        raise ValueError("the Fisher information is not finite: weights or images hold NaN")
    return {prefix + name: value for name, value in result.items()}


def _class_weights(
    estimator: str, labels: Tensor, generator: torch.Generator, log_p: Tensor
) -> Tensor:
    """Weight of each class in the sum, (B, K): p(y|x), or one-hot at a drawn class or the label."""
    p = log_p.detach().exp()
    if estimator == "exact" or not p.isfinite().all():  # NaN goes on to the check of the result
        return p
    if estimator == "empirical":
        check_labels(labels, p.shape[-1])
        return F.one_hot(labels, p.shape[-1]).to(p)
    drawn = torch.multinomial(p.cpu(), 1, generator=generator).to(p.device)
    return torch.zeros_like(p).scatter_(1, drawn, 1.0)


class _LinearSquares:
    """A linear layer with input a, (B, in): F = (sum_y g_y^2)^T a^2."""

    def __init__(self, layer: nn.Linear, a: Tensor):
        self.layer, self.a = layer, a
        self.g_squared = a.new_zeros(len(a), layer.out_features)

    def add(self, g: Tensor) -> None:
        """Add one class: its gradient at the output, (B, out), scaled by the root of p."""
        self.g_squared += g.square()

    def sums(self) -> Iterator[Tensor]:
        """Sums over examples and classes, for the weight and, if there is one, the bias."""
        yield self.g_squared.T @ self.a.square()
        if self.layer.bias is not None:
            yield self.g_squared.sum(0)


class _ConvolutionSquares:
    """A convolution: an example's gradient is the sum over places of the output gradient g,
    (B, out, H', W'), times the input patches; then it is squared."""

    def __init__(self, layer: nn.Conv2d, a: Tensor):
        self.patches = F.unfold(a, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        self.shape = layer.weight.shape  # patches are (B, in' k k, H'W')
        self.weight, self.bias = a.new_zeros(self.patches.shape[1], layer.out_channels), None
        if layer.bias is not None:
            self.bias = torch.zeros_like(layer.bias)

    def add(self, g: Tensor) -> None:
        chunk = max(1, _CACHED_FLOATS // self.weight.numel())
        for some, some_g in zip(self.patches.split(chunk), g.flatten(2).split(chunk), strict=True):
            self.weight += (some @ some_g.transpose(1, 2)).square_().sum(0)
        if self.bias is not None:
            self.bias += g.sum((2, 3)).square().sum(0)

    def sums(self) -> Iterator[Tensor]:
        yield self.weight.T.reshape(self.shape)
        if self.bias is not None:
            yield self.bias


class _BatchNormSquares:
    """BatchNorm in eval mode, an affine map of each channel; g is (B, C, ...)."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, a: Tensor):
        self.normalised = F.batch_norm(a, layer.running_mean, layer.running_var, eps=layer.eps)
        self.both = [torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)]

    def add(self, g: Tensor) -> None:
        places = tuple(range(2, g.ndim))  # empty after a linear layer, where sum(()) would sum all
        for total, each in zip(self.both, (g * self.normalised, g), strict=True):
            total += (each.sum(places) if places else each).square().sum(0)

    def sums(self) -> Iterator[Tensor]:
        yield from self.both


def _closed_form(layer: nn.Module) -> Callable | None:
    """The closed form for this layer, or None: a pruned layer, say, has a "weight_orig"."""
    if not {name for name, _ in layer.named_parameters(recurse=False)} <= {"weight", "bias"}:
        return None
    kind = _kind(layer)
    if kind is nn.Linear:
        return _LinearSquares
    if kind is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros":
        return _ConvolutionSquares if not isinstance(layer.padding, str) else None
    is_norm = kind in (nn.BatchNorm1d, nn.BatchNorm2d) and layer.track_running_stats
    return _BatchNormSquares if is_norm and layer.affine else None


def _kind(layer: nn.Module) -> type:
    """Its type; for a convolution that only draws its weights in its own way, ``nn.Conv2d``."""
    computes_alike = all(
        getattr(type(layer), name, None) is getattr(nn.Conv2d, name)
        for name in ("forward", "_conv_forward")
    )
    return nn.Conv2d if computes_alike else type(layer)


def _parametrised(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if has_own_parameters(m)}


class _Recorder:
    """Runs the network once and keeps what closed forms need; its graph starts at first outputs."""

    def __init__(self, model: nn.Module, images: Tensor):
        self.squares, self.calls, self.starts = {}, [], []
        self.layers = _parametrised(model)
        hooks = [m.register_forward_hook(self.hook(n)) for n, m in self.layers.items()]
        try:
            self.logits = model(images)
        finally:
            for hook in hooks:
                hook.remove()

    def hook(self, name: str) -> Callable:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            self.calls.append((name, inputs[0].ndim if len(inputs) == 1 else None))
            if len(inputs) != 1:
                return None
            squares = self.squares[name] = _closed_form(layer)(layer, inputs[0].detach())
            if not output.requires_grad:
                self.starts.append(output.detach().requires_grad_())
                output = self.starts[-1].clone()
            # It stays with this value if an in-place ReLU overwrites the output. It must not hold
            # self, which holds the graph, which holds the hook: a leak.
            output.register_hook(squares.add)
            return output

        return record


def _in_closed_form(model: nn.Module, images: Tensor) -> bool:
    """Whether each layer has a closed form, is called exactly once, and shares no parameter."""
    layers = _parametrised(model)
    if not all(_closed_form(layer) for layer in layers.values()):
        return False
    if len(list(model.named_parameters(remove_duplicate=False))) != len(list(model.parameters())):
        return False
    calls = _Recorder(model, images[:1]).calls
    dimensions = {nn.Linear: (2,), nn.Conv2d: (4,), nn.BatchNorm1d: (2, 3), nn.BatchNorm2d: (4,)}
    fits = all(ndim in dimensions[_kind(layers[name])] for name, ndim in calls)
    once = sorted(name for name, _ in calls) == sorted(layers)
    return fits and once and all(_agrees_with_autograd(model, one) for one in images.split(1))


def _agrees_with_autograd(model: nn.Module, image: Tensor) -> bool:
    """Whether closed forms give the squares of autograd's gradients, for one image and one class.

    It finds a weight that is also read outside its layer, and a hook that changes an output. The
    least likely class has the largest gradient.
    """

    def least_likely(log_p: Tensor) -> Tensor:
        return F.one_hot(log_p.argmin(-1), log_p.shape[-1]).to(log_p)

    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    found = {name: torch.zeros_like(p) for name, p in parameters.items()}
    _add_closed_form(model, image, found, least_likely)
    log_p = functional_call(model, parameters, (image,)).log_softmax(-1)
    gradients = torch.autograd.grad(
        log_p.min(), list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    wanted = [g.square() for g in gradients]
    pairs = zip(found.values(), wanted, strict=True)
    return all(bool((f - w).abs().sum() <= 0.01 * w.sum()) for f, w in pairs)


def _add_closed_form(
    model: nn.Module, images: Tensor, total: dict[str, Tensor], weigh: Callable[[Tensor], Tensor]
) -> None:
    """Add the sum over this batch to ``total``: one forward pass and one backward pass per class.

    log p(y|x) is scaled by the root of its weight, so its squared gradient has that weight.
    Sampled classes need one backward pass.
    """
    record = _Recorder(model, images)
    log_p = record.logits.log_softmax(-1)
    weights = weigh(log_p)
    scaled = log_p * weights.sqrt()
    one_class_each = bool((weights.gt(0).sum(-1) <= 1).all())
    targets = [scaled.sum()] if one_class_each else list(scaled.sum(0))
    for number, target in enumerate(targets):
        is_last = number == len(targets) - 1
        torch.autograd.grad(target, record.starts, retain_graph=not is_last, allow_unused=True)
    for name, squares in record.squares.items():
        layer = record.layers[name]
        names = [p for p in ("weight", "bias") if getattr(layer, p) is not None]
        for parameter, value in zip(names, squares.sums(), strict=True):
            total[f"{name}.{parameter}".lstrip(".")] += value


def _add_by_func(
    model: nn.Module, images: Tensor, total: dict[str, Tensor], weigh: Callable[[Tensor], Tensor]
) -> None:
    """The same by ``vmap(grad)``: gradients of all parameters, for a few examples at a time."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    with torch.no_grad():
        weights = weigh(model(images).log_softmax(-1))

    def scaled_log_p(parameters: dict[str, Tensor], image: Tensor, weight: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (image[None],))[0]
        return (logits.log_softmax(-1) * weight).sum()

    gradients = vmap(grad(scaled_log_p), in_dims=(None, 0, 0), randomness="error")
    chunk = max(1, _CHUNK_FLOATS // sum(p.numel() for p in parameters.values()))
    each = torch.diag_embed(weights.sqrt()).unbind(1)  # K of (B, K), each of one class
    one_class_each = bool((weights.gt(0).sum(-1) <= 1).all())
    for one_class in [sum(each)] if one_class_each else each:
        if not one_class.any():
            continue
        for some, weight in zip(images.split(chunk), one_class.split(chunk), strict=True):
            for name, value in gradients(parameters, some, weight).items():
                total[name] += value.square().sum(0)
