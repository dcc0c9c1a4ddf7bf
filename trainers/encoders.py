"""CLIP's frozen text and image transformers, with prompts inserted at any layer; exact and fast.

Nothing here learns: weights are buffers, so autograd builds a graph only through the prompts, and none without them.
What is left out changes no result: the text tower is causal, hence positions behind the end-of-text token are not
run, positions that all texts share run once instead of once per text, the last layer runs its query, projection and MLP
only for the one token that becomes the feature, and texts of different length run apart where that saves more
padding than it costs.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.errors import UserError

# Text positions that one more call of the tower is worth: names of different length run apart where that saves more padding.
CALL_OVERHEAD = {"cpu": 100, "cuda": 10_000}
HEAD_WIDTH = 64  # an OpenAI transformer has width // 64 heads; where 64 does not divide the width they are a little wider
KeyValue = tuple[Tensor, Tensor]


def sub_weights(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries that begin with `prefix`, without it."""
    return {
        name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
    }


def length_groups(lengths: Sequence[int], overhead: int) -> list[list[int]]:
    """Indices of `lengths`, in groups to be padded and run apart: those that cost the fewest positions in all.

    A group costs its number times its longest length, plus `overhead` positions for being one more call.
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
    """How many leading positions are the same in all rows of `tokens` (N, L); never the whole row."""
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
    """Holds its `parts` of the weights as buffers, each under its own name with `_` for `.`. KeyError if one is missing."""

    parts: tuple[str, ...]

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        for name in self.parts:
            self.register_buffer(name.replace(".", "_"), weights[name])

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Layer norm, in single precision for half precision input as in CLIP."""
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.layer_norm(x.to(weight.dtype), weight.shape, weight, bias).to(x.dtype)


class Block(Frozen):
    """One pre-norm residual attention block, with the `activation` of that name in its MLP."""

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

    def __init__(self, weights: Mapping[str, Tensor], activation: str = "quick_gelu"):
        super().__init__(weights)
        self.activation = ACTIVATIONS[activation]

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        before: KeyValue | None = None,
        only: Tensor | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """x (N, L, W) -> the same after the block, and its keys and values (N, heads, L, width / heads).

        `mask` (bool, True = visible) or `causal` limit attention; `before` are keys and values of earlier positions, put
        in front of x's own; with `only` (N,) the output is (N, 1, W), for that position of each row.
        """
        width = x.shape[-1]
        h, weight, bias = self.norm(x, "ln_1"), self.attn_in_proj_weight, self.attn_in_proj_bias
        if only is None:
            q, *kv = F.linear(h, weight, bias).chunk(3, -1)
        else:
            rows = torch.arange(len(x), device=x.device)
            kv = F.linear(h, weight[width:], bias[width:]).chunk(2, -1)
            q = F.linear(h[rows, only].unsqueeze(1), weight[:width], bias[:width])
            x = x[rows, only].unsqueeze(1)
        q, k, v = (t.unflatten(-1, (width // HEAD_WIDTH, -1)).transpose(1, 2) for t in (q, *kv))
        own = k, v
        if before is not None:
            k, v = (torch.cat(pair, 2) for pair in zip(before, own, strict=True))
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        x = x + F.linear(
            h.transpose(1, 2).flatten(2), self.attn_out_proj_weight, self.attn_out_proj_bias
        )
        h = F.linear(self.norm(x, "ln_2"), self.mlp_c_fc_weight, self.mlp_c_fc_bias)
        h = self.activation(h)
        return x + F.linear(h, self.mlp_c_proj_weight, self.mlp_c_proj_bias), own


class Encoder(Frozen):
    """Parent of both transformers. Sizes: `width`, `layers`, `embed_dim`; `dtype` of the matrix weights."""

    projection: str

    def __init__(self, weights: Mapping[str, Tensor], activation: str = "quick_gelu"):
        super().__init__(weights)
        blocks = sub_weights(weights, "transformer.resblocks.")
        self.layers = 1 + max(int(name.split(".")[0]) for name in blocks)
        own = (sub_weights(blocks, f"{i}.") for i in range(self.layers))
        self.blocks = nn.ModuleList(Block(weights, activation) for weights in own)
        self.width, self.embed_dim = getattr(self, self.projection).shape

    @property
    def dtype(self) -> torch.dtype:
        return getattr(self, self.projection).dtype

    def half_matrices(self) -> None:
        """Half precision for all but the layer norms, as CLIP does on a GPU."""
        for name, buffer in self.named_buffers():
            if "ln_" not in name:
                buffer.data = buffer.data.to(torch.float16)

    def check_depth(self, depth: int) -> None:
        """UserError if there are fewer layers than `depth`."""
        if depth > self.layers:
            raise UserError(
                f"prompts for {depth} layers do not fit an encoder of {self.layers} layers: "
                f"set the prompt depth to {self.layers} or less"
            )

    def check_deep(self, deep: Sequence[Tensor], shallow: int) -> None:
        """UserError unless the deep prompts fit the number of layers and the tokens they replace."""
        self.check_depth(1 + len(deep))
        if any(len(prompt) > shallow for prompt in deep):
            raise UserError(
                f"a deep prompt of {max(map(len, deep))} tokens cannot replace {shallow} tokens: use fewer prompts per layer, or, "
                "with TEXT_SAMPLES template, a longer template"
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

    def __init__(self, weights: Mapping[str, Tensor], activation: str = "quick_gelu"):
        super().__init__(weights, activation)
        self.context_length = len(self.positional_embedding)

    def run(self, block: Block, x: Tensor, **how) -> tuple[Tensor, KeyValue]:
        """The block's output; with `checkpointing` what is between its ends is computed again in the backward pass."""
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

        prompts: (N, L, W) embedded tokens; eot: (N,) position of the end-of-text token, counted from the start of the
        whole sequence. prefix: (P, W) embedded positions that come before every prompt: they run once. It may be
        (G, P, W), one prefix per image for example: then each of the G is combined with each of the N prompts and
        the features are (G, N, D). deep: prompts (n, W), shared by all texts; the i-th replaces positions
        1..n at the input of layer i + 1 (IVLP, MaPLe), all of them inside the prefix if there is one.
        """
        lengths = (eot + 1 - (0 if prefix is None else prefix.shape[-2])).tolist()
        copies = len(prefix) if prefix is not None and prefix.dim() == 3 else 1
        groups = length_groups(
            lengths, max(1, CALL_OVERHEAD["cpu" if not prompts.is_cuda else "cuda"] // copies)
        )
        if len(groups) == 1:
            return self.padded(prompts, eot, prefix, deep)
        found = torch.cat(
            [self.padded(prompts[group], eot[group], prefix, deep) for group in groups], -2
        )
        place = torch.empty(len(prompts), dtype=torch.long, device=found.device)
        place[[index for group in groups for index in group]] = torch.arange(
            len(prompts), device=found.device
        )
        return found.index_select(found.dim() - 2, place)

    def padded(
        self, prompts: Tensor, eot: Tensor, prefix: Tensor | None, deep: Sequence[Tensor]
    ) -> Tensor:
        """`forward`, all texts padded to the longest."""
        grouped = prefix is not None and prefix.dim() == 3
        start, length = (0 if prefix is None else prefix.shape[-2]), int(eot.max()) + 1
        self.check_deep(
            deep, (start or int(eot.min())) - 1
        )  # neither the first token nor one that ends a text
        positions = self.positional_embedding.to(self.dtype)
        x = prompts[:, : length - start].to(self.dtype) + positions[start:length]
        texts, own = x.shape[:2]
        if prefix is not None:
            prefix = prefix.to(self.dtype) + positions[:start]
            prefix = prefix if grouped else prefix[None]
            x = x.repeat(len(prefix), 1, 1)
            eot = eot.repeat(len(prefix))
        mask = (
            torch.ones(own, start + own, dtype=torch.bool, device=x.device).tril(start)
            if start
            else None
        )
        reach = (torch.arange(length, device=x.device) <= eot[:, None])[:, None, None]
        before = None
        for i, block in enumerate(self.blocks):
            last = i + 1 == self.layers
            if 0 < i <= len(deep):
                if start:
                    prefix = _replace(prefix, deep[i - 1], 1)
                else:
                    x = _replace(x, deep[i - 1], 1)
            if start:
                # The last layer's own output at the prefix is wasted, but the prefix is short and this keeps one path.
                prefix, before = self.run(block, prefix, causal=True)
                before = tuple(
                    t[:, None].expand(-1, texts, -1, -1, -1).flatten(0, 1) for t in before
                )
            if last:
                x, _ = self.run(block, x, mask=reach, before=before, only=eot - start)
            else:
                x, _ = self.run(block, x, mask=mask, causal=not start, before=before)
        features = self.norm(x[:, 0], "ln_final") @ self.text_projection
        return features.unflatten(0, (-1, texts)) if grouped else features

    def check_texts(self, tokens: Tensor, deep: Sequence[Tensor]) -> None:
        """UserError unless `encode_tokens` can take any of these token rows with these deep prompts."""
        self.check_deep(deep, max(common_prefix(tokens), int(tokens.argmax(1).min())) - 1)

    def encode_tokens(self, tokens: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """Features (N, D) of token rows (N, L) that end, before padding, in the largest token id (end of text)."""
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

    def __init__(self, weights: Mapping[str, Tensor], activation: str = "quick_gelu"):
        super().__init__(weights, activation)
        self.patch = self.conv1_weight.shape[-1]
        self.input_resolution = self.patch * round((len(self.positional_embedding) - 1) ** 0.5)

    def forward(
        self, images: Tensor, prompts: Tensor | None = None, deep: Sequence[Tensor] = ()
    ) -> Tensor:
        """Features (B, D), not normalised, of normalised images (B, 3, R, R).

        prompts: (n, W) tokens appended to the patches, without position, before the first layer norm. deep: the i-th,
        (m, W) with m <= n, replaces the last m tokens at the input of layer i + 1 (VPT, IVLP, MaPLe).
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
    """A ResNet image tower, run as it is, always in evaluation mode (its batch statistics are frozen too)."""

    def __init__(self, tower: nn.Module, embed_dim: int):
        super().__init__()
        self.tower = tower.eval().requires_grad_(False)
        self.embed_dim, self.input_resolution = embed_dim, tower.input_resolution

    def train(self, mode: bool = True) -> "ResNetEncoder":
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        return self.tower.conv1.weight.dtype

    def half_matrices(self) -> None:
        for module in self.tower.modules():
            if not isinstance(module, nn.BatchNorm2d):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(torch.float16)

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


def _replace(x: Tensor, prompt: Tensor, at: int) -> Tensor:
    """x (N, L, W) with positions at..at+n replaced by `prompt` (n, W)."""
    return torch.cat(
        [x[:, :at], prompt.to(x.dtype).expand(len(x), -1, -1), x[:, at + len(prompt) :]], 1
    )
