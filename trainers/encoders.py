"""CLIP's frozen text and image transformers, with prompts inserted at any layer; exact and fast.

Nothing here learns: weights are buffers, so autograd builds a graph only through the prompts, and
none without them. Four savings change no result, since the text tower is causal:

* positions behind the end-of-text token are not run;
* positions that all texts share run once, instead of once per text;
* the last layer runs its query, projection and MLP only for the token that becomes the feature;
* texts of different length run apart where that saves more padding than another call costs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.errors import UserError

# Text positions that one more call of the tower is worth.
CALL_OVERHEAD = {"cpu": 100, "cuda": 10_000}
# The same for positions that all texts share: a call for them alone has one row, so it costs a CPU
# next to nothing, and a GPU as much as any other.
PREFIX_OVERHEAD = {"cpu": 0, "cuda": 5_000}
# An OpenAI transformer has width // 64 heads; if 64 does not divide the width, heads are wider.
HEAD_WIDTH = 64
EPS = 1e-5  # of a layer norm, as torch and OpenAI's CLIPs have it
KeyValue = tuple[Tensor, Tensor]


def sub_weights(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries that begin with `prefix`, without it."""
    return {
        name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
    }


def length_groups(lengths: Sequence[int], overhead: int) -> list[list[int]]:
    """Indices of `lengths`, in the groups that cost the fewest positions if each is padded alone.

    A group costs its number times its longest length, plus `overhead` positions for its call.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ends = [
        i
        for i in range(1, len(order) + 1)
        if i == len(order) or lengths[order[i]] != lengths[order[i - 1]]
    ]
    best: dict[int, tuple[int, list[int]]] = {
        0: (0, [0])
    }  # end of a group -> cost so far, ends so far
    for end in ends:
        longest = lengths[order[end - 1]]
        best[end] = min(
            (cost + (end - begin) * longest + overhead, [*cuts, end])
            for begin, (cost, cuts) in best.items()
        )
    cuts = best[len(order)][1]
    return [order[begin:end] for begin, end in zip(cuts, cuts[1:], strict=False)]


def common_prefix(tokens: Tensor) -> int:
    """Number of leading positions that are the same in all rows (N, L); never the whole row."""
    differ = (tokens != tokens[:1]).any(0).nonzero()
    return min(int(differ[0]) if len(differ) else tokens.shape[1], int(tokens.argmax(1).min()))


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x)."""
    gate = 1.702 * x
    if x.requires_grad:
        return x * torch.sigmoid(gate)
    return gate.sigmoid_().mul_(
        x
    )  # without a graph one buffer will do: these are the largest tensors


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class Frozen(nn.Module):
    """Holds its `parts` of the weights as buffers, named with `_` for `.`.

    Raises KeyError if one is missing.
    """

    parts: tuple[str, ...]
    eps = EPS

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The buffers."""

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        for name in self.parts:
            self.register_buffer(name.replace(".", "_"), weights[name])

    def weights(self) -> dict[str, Tensor]:
        """Its parts under CLIP's names."""
        return {name: getattr(self, name.replace(".", "_")) for name in self.parts}

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Layer norm, in single precision for half precision input as in CLIP."""
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        x_norm = F.layer_norm(x.to(weight.dtype), weight.shape, weight, bias, self.eps)
        return x_norm.to(x.dtype)


class Block(Frozen):
    """One pre-norm residual attention block, with the `activation` of that name in its MLP.

    heads: of the attention; None: as many as OpenAI's have. eps: of the layer norms.
    """

    parts = (
        "ln_1.weight",
        "ln_1.bias",
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        "attn.out_proj.weight",
        "attn.out_proj.bias",
        "ln_2.weight",
        "ln_2.bias",
        "mlp.c_fc.weight",
        "mlp.c_fc.bias",
        "mlp.c_proj.weight",
        "mlp.c_proj.bias",
    )

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        activation: str = "quick_gelu",
        heads: int | None = None,
        eps: float = EPS,
    ):
        super().__init__(weights)
        self.activation, self.eps = ACTIVATIONS[activation], eps
        self.heads = heads or max(1, len(weights["ln_1.weight"]) // HEAD_WIDTH)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        before: KeyValue | None = None,
        only: Tensor | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """x (N, L, W) after the block, and its keys and values, (N, heads, L, width / heads) each.

        mask (bool, True = visible) or causal limit attention. before: keys and values of earlier
        positions, put in front of those of x. With only (N,) the output is (N, 1, W), for that
        position of each row.
        """
        width = x.shape[-1]
        h, weight, bias = self.norm(x, "ln_1"), self.attn_in_proj_weight, self.attn_in_proj_bias
        if only is None:
            q, k, v = F.linear(h, weight, bias).chunk(3, -1)
        else:
            rows = torch.arange(len(x), device=x.device)
            k, v = F.linear(h, weight[width:], bias[width:]).chunk(2, -1)
            q = F.linear(h[rows, only].unsqueeze(1), weight[:width], bias[:width])
            x = x[rows, only].unsqueeze(1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        keys_values = k, v
        if before is not None:
            k, v = (torch.cat(pair, 2) for pair in zip(before, keys_values, strict=True))
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        x = x + F.linear(
            h.transpose(1, 2).flatten(2), self.attn_out_proj_weight, self.attn_out_proj_bias
        )
        h = F.linear(self.norm(x, "ln_2"), self.mlp_c_fc_weight, self.mlp_c_fc_bias)
        h = self.activation(h)
        return x + F.linear(h, self.mlp_c_proj_weight, self.mlp_c_proj_bias), keys_values


class Encoder(Frozen):
    """Parent of both transformers.

    Sizes: `width`, `layers`, `embed_dim`; `dtype` of the matrix weights. The arguments are those of
    `Block`.
    """

    projection: str

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        activation: str = "quick_gelu",
        heads: int | None = None,
        eps: float = EPS,
    ):
        super().__init__(weights)
        self.eps = eps
        blocks = sub_weights(weights, "transformer.resblocks.")
        self.layers = 1 + max(int(name.split(".")[0]) for name in blocks)
        per_layer = (sub_weights(blocks, f"{i}.") for i in range(self.layers))
        self.blocks = nn.ModuleList(Block(weights, activation, heads, eps) for weights in per_layer)
        self.width, self.embed_dim = getattr(self, self.projection).shape

    @property
    def dtype(self) -> torch.dtype:
        return getattr(self, self.projection).dtype

    def weights(self) -> dict[str, Tensor]:
        found = super().weights()
        for layer, block in enumerate(self.blocks):
            of_block = cast(Block, block).weights()
            found |= {f"transformer.resblocks.{layer}.{name}": of_block[name] for name in of_block}
        return found

    def lower_matrices(self, dtype: torch.dtype) -> None:
        """All weights but the layer norms' to `dtype`, as CLIP has them in half precision."""
        for part in self.modules():
            for name, buffer in list(part.named_buffers(recurse=False)):
                if "ln_" not in name:  # a new tensor: the old one may be the caller's
                    part.register_buffer(name, buffer.to(dtype))

    def check_depth(self, depth: int) -> None:
        """UserError if there are fewer layers than `depth`."""
        if depth > self.layers:
            raise UserError(
                f"prompts for {depth} layers do not fit an encoder of {self.layers} layers: "
                f"set the prompt depth to {self.layers} or less"
            )

    def check_deep(self, deep: Sequence[Tensor], shallow: int) -> None:
        """UserError unless deep prompts fit the number of layers and the tokens they replace."""
        self.check_depth(1 + len(deep))
        longest = max((prompt.shape[-2] for prompt in deep), default=0)
        if longest > shallow:
            raise UserError(
                f"a deep prompt of {longest} tokens cannot replace {shallow} tokens: "
                "use fewer prompts per layer, or, with TEXT_SAMPLES template, a longer template"
            )


class TextEncoder(Encoder):
    """Text transformer: embedded prompts in, features at the end-of-text token out."""

    projection = "text_projection"
    checkpointing = False
    parts = (
        "token_embedding.weight",
        "positional_embedding",
        "ln_final.weight",
        "ln_final.bias",
        projection,
    )

    @property
    def context_length(self) -> int:
        return len(self.positional_embedding)

    def run(self, block: nn.Module, x: Tensor, **how) -> tuple[Tensor, KeyValue]:
        """The block's output; with `checkpointing` its inside is computed again in backward."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, **how)
        return block(x, **how)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings, (..., W), without positions."""
        return F.embedding(tokens, self.token_embedding_weight)

    def forward(
        self,
        prompts: Tensor,
        eot: Tensor,
        prefix: Tensor | None = None,
        deep: Sequence[Tensor] = (),
    ) -> Tensor:
        """Features (N, D), not normalised.

        prompts: (N, L, W) embedded tokens. eot: (N,) position of the end-of-text token, counted
        from the start of the whole sequence. prefix: (P, W) embedded positions that come before
        every prompt: they run once, where that saves more than a call costs. It may be (G, P, W),
        such as one prefix per image: then each of the G is combined with each of the N prompts, and
        the features are (G, N, D). deep: prompts (n, W), shared by all texts; the i-th replaces
        positions 1..n at the input of layer i + 1 (IVLP, MaPLe), all of them inside the prefix if a
        prefix is given. Without a prefix one may be (N, n, W), of each text its own (TCP).
        """
        device = "cuda" if prompts.is_cuda else "cpu"
        if prefix is not None:
            again = (len(prompts) - 1) * prefix.shape[:-1].numel()
            if 0 < again <= PREFIX_OVERHEAD[device]:
                return self._joined(prompts, eot, prefix, deep)
        lengths = (eot + 1 - (0 if prefix is None else prefix.shape[-2])).tolist()
        copies = len(prefix) if prefix is not None and prefix.dim() == 3 else 1
        overhead = CALL_OVERHEAD[device] // copies
        groups = length_groups(lengths, max(1, overhead))
        if len(groups) == 1:
            return self.padded(prompts, eot, prefix, deep)
        parts = [
            self.padded(prompts[group], eot[group], prefix, [_of(group, prompt) for prompt in deep])
            for group in groups
        ]
        features = torch.cat(parts, -2)
        order = torch.tensor([index for group in groups for index in group], device=eot.device)
        return features.index_select(features.dim() - 2, order.argsort())

    def _joined(
        self, prompts: Tensor, eot: Tensor, prefix: Tensor, deep: Sequence[Tensor]
    ) -> Tensor:
        """`forward`, the prefix run with each text."""
        self.check_deep(deep, prefix.shape[-2] - 1)
        several = prefix if prefix.dim() == 3 else prefix[None]
        before = several[:, None].expand(-1, len(prompts), -1, -1)
        whole = torch.cat([before, prompts.expand(len(several), -1, -1, -1)], 2).flatten(0, 1)
        features = self(whole, eot.repeat(len(several)), None, deep)
        return features.unflatten(0, (-1, len(prompts))) if prefix.dim() == 3 else features

    def padded(
        self, prompts: Tensor, eot: Tensor, prefix: Tensor | None, deep: Sequence[Tensor]
    ) -> Tensor:
        """`forward`, all texts padded to the longest."""
        if prefix is None:
            return self._alone(prompts, eot, deep)
        if prefix.dim() == 2:
            return self._behind(prompts, eot, prefix[None], deep)
        return self._behind(prompts, eot, prefix, deep).unflatten(0, (-1, len(prompts)))

    def _alone(self, prompts: Tensor, eot: Tensor, deep: Sequence[Tensor]) -> Tensor:
        """`padded` without a prefix."""
        self.check_deep(
            deep, int(eot.min()) - 1
        )  # neither the first token nor one that ends a text
        length = int(eot.max()) + 1
        x = prompts[:, :length].to(self.dtype) + self.positional_embedding.to(self.dtype)[:length]
        for i, block in enumerate(self.blocks):
            if 0 < i <= len(deep):
                x = _replace(x, deep[i - 1], 1)
            if i + 1 == self.layers:
                x, _ = self.run(block, x, mask=_up_to(eot, length), only=eot)
            else:
                x, _ = self.run(block, x, causal=True)
        return self.norm(x[:, 0], "ln_final") @ self.text_projection

    def _behind(
        self, prompts: Tensor, eot: Tensor, prefix: Tensor, deep: Sequence[Tensor]
    ) -> Tensor:
        """`padded` behind each prefix of (G, P, W): features (G * N, D)."""
        groups, start, length = len(prefix), prefix.shape[1], int(eot.max()) + 1
        self.check_deep(deep, start - 1)  # not the first token
        positions = self.positional_embedding.to(self.dtype)
        x = prompts[:, : length - start].to(self.dtype) + positions[start:length]
        texts, tokens = x.shape[:2]
        prefix = prefix.to(self.dtype) + positions[:start]
        x, eot = x.repeat(groups, 1, 1), eot.repeat(groups)
        mask = torch.ones(tokens, length, dtype=torch.bool, device=x.device).tril(start)
        for i, block in enumerate(self.blocks):
            if 0 < i <= len(deep):
                prefix = _replace(prefix, deep[i - 1], 1)
            # The last layer's output at the prefix is wasted, but the prefix is short and this
            # keeps one path.
            prefix, (keys, values) = self.run(block, prefix, causal=True)
            before = _for_each(keys, texts), _for_each(values, texts)
            if i + 1 == self.layers:
                reach, last = _up_to(eot, length), eot - start
                x, _ = self.run(block, x, mask=reach, before=before, only=last)
            else:
                x, _ = self.run(block, x, mask=mask, before=before)
        return self.norm(x[:, 0], "ln_final") @ self.text_projection

    def check_texts(self, tokens: Tensor, deep: Sequence[Tensor]) -> None:
        """UserError unless `encode_tokens` takes any of these token rows with these prompts."""
        self.check_deep(deep, max(common_prefix(tokens), int(tokens.argmax(1).min())) - 1)

    def encode_tokens(self, tokens: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """Features (N, D) of token rows (N, L).

        Each row ends, before padding, in the largest token id (end of text).
        """
        shared, embedded = common_prefix(tokens), self.embed(tokens)
        if shared <= max(
            map(len, deep), default=0
        ):  # deep prompts would reach behind the shared positions
            shared = 0
        return self(
            embedded[:, shared:], tokens.argmax(1), embedded[0, :shared] if shared else None, deep
        )


class ImageEncoder(Encoder):
    """Vision transformer, with optional prompt tokens behind the patch tokens."""

    projection = "proj"
    parts = (
        "conv1.weight",
        "class_embedding",
        "positional_embedding",
        "ln_pre.weight",
        "ln_pre.bias",
        "ln_post.weight",
        "ln_post.bias",
        projection,
    )

    @property
    def patch(self) -> int:
        """Pixels on each side of a patch."""
        return self.conv1_weight.shape[-1]

    @property
    def input_resolution(self) -> int:
        """Pixels on each side of an image."""
        return self.patch * round((len(self.positional_embedding) - 1) ** 0.5)

    def forward(
        self, images: Tensor, prompts: Tensor | None = None, deep: Sequence[Tensor] = ()
    ) -> Tensor:
        """Features (B, D), not normalised, of normalised images (B, 3, R, R).

        prompts: (n, W) tokens appended to the patches, without position, before the first layer
        norm. deep: the i-th, (m, W) with m <= n, replaces the last m tokens at the input of layer
        i + 1 (VPT, IVLP, MaPLe).
        """
        self.check_deep(deep, 0 if prompts is None else len(prompts))
        x = (
            F.conv2d(images.to(self.dtype), self.conv1_weight, stride=self.patch)
            .flatten(2)
            .transpose(1, 2)
        )
        x = torch.cat(
            [self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], 1
        ) + self.positional_embedding.to(x.dtype)
        if prompts is not None:
            x = torch.cat([x, prompts.to(x.dtype).expand(len(x), -1, -1)], 1)
        x = self.norm(x, "ln_pre")
        for i, block in enumerate(self.blocks):
            if 0 < i <= len(deep):
                x = _replace(x, deep[i - 1], x.shape[1] - len(deep[i - 1]))
            only = (
                torch.zeros(len(x), dtype=torch.long, device=x.device)
                if i + 1 == self.layers
                else None
            )
            x, _ = block(x, only=only)
        return self.norm(x[:, 0], "ln_post") @ self.proj


class ResNetEncoder(nn.Module):
    """A ResNet image tower, run as it is.

    Always in evaluation mode: its batch statistics are frozen, too.
    """

    def __init__(self, tower: nn.Module, embed_dim: int):
        super().__init__()
        self.tower: Any = tower.eval().requires_grad_(False)
        self.embed_dim, self.input_resolution = embed_dim, tower.input_resolution

    def train(self, mode: bool = True) -> "ResNetEncoder":
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        return self.tower.conv1.weight.dtype

    def weights(self) -> dict[str, Tensor]:
        """Under clip's names."""
        return self.tower.state_dict()

    def lower_matrices(self, dtype: torch.dtype) -> None:
        """All weights but the batch norms' to `dtype`."""
        for module in self.tower.modules():
            if not isinstance(module, nn.BatchNorm2d):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)

    def check_depth(self, depth: int) -> None:
        """UserError: there is no layer that could take visual prompts."""
        raise UserError(
            "visual prompts need a vision transformer, but MODEL.BACKBONE.NAME is a ResNet: "
            "choose a ViT, or a method that prompts only the text"
        )

    def forward(
        self, images: Tensor, prompts: Tensor | None = None, deep: Sequence[Tensor] = ()
    ) -> Tensor:
        """Features (B, D) of images (B, 3, R, R). Raises UserError if prompts are given."""
        if prompts is not None or deep:
            self.check_depth(1 + len(deep))
        return self.tower(images.to(self.dtype))


def _up_to(eot: Tensor, length: int) -> Tensor:
    """(N, 1, 1, length), True for the positions up to the end of each text."""
    return (torch.arange(length, device=eot.device) <= eot[:, None])[:, None, None]


def _for_each(states: Tensor, texts: int) -> Tensor:
    """Keys or values (G, heads, P, w) of prefixes, repeated for each text: (G * texts, ...)."""
    return states[:, None].expand(-1, texts, -1, -1, -1).flatten(0, 1)


def _of(texts: list[int], prompt: Tensor) -> Tensor:
    """The part of a deep prompt that is of these texts: all of (n, W), rows of (N, n, W)."""
    return prompt[texts] if prompt.dim() == 3 else prompt


def _replace(x: Tensor, prompt: Tensor, at: int) -> Tensor:
    """x (N, L, W) with positions at..at+n replaced by `prompt`, (n, W) or (N, n, W)."""
    behind = x[:, at + prompt.shape[-2] :]
    return torch.cat([x[:, :at], prompt.to(x.dtype).expand(len(x), -1, -1), behind], 1)
