"""The paper's encoder: gated views of one linear map of a whole window, and prompted attention.

Source: PhysioSync (arXiv 2504.17163). Axes: B windows, C channels, T samples, D width, V views,
L tokens (a CLS token and the views), H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_VIEWS = 3
_LAYER_SCALE = 0.1
_INIT_STD = 0.02


class MultiViewTokenizer(nn.Module):
    """Views of a window: ``token_v = batch_norm((W1 x) * sigmoid(W2_v x))``.

    Parameters
    ----------
    n_inputs : C * T
    width : D
    """

    def __init__(self, n_inputs: int, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(n_inputs, width)
        self.gate = nn.Linear(n_inputs, N_VIEWS * width)
        self.norm = nn.BatchNorm1d(width)
        for linear in (self.value, self.gate):
            nn.init.trunc_normal_(linear.weight, std=_INIT_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C * T) -> (B, V, D)."""
        value: Tensor = self.value(x)
        gates: Tensor = self.gate(x).sigmoid().view(len(x), N_VIEWS, -1)
        tokens = value.unsqueeze(1) * gates
        # One norm for all views: its statistics are over windows and views alike.
        normed: Tensor = self.norm(tokens.flatten(0, 1))
        return normed.view_as(tokens)


class MultiViewBlock(nn.Module):
    """Pre-norm transformer block with LayerScale and, optionally, prompt tokens of its own.

    Prompts join the tokens before attention and leave them at the end of the block. Queries and
    values have a bias, keys have none. ReLU follows both linears of the MLP, as in the paper.

    Parameters
    ----------
    width : D
    heads : H, a divisor of D
    mlp_ratio : hidden units of the MLP, in D
    n_prompts : learned tokens; 0 for none
    """

    def __init__(self, width: int, *, heads: int, mlp_ratio: int, n_prompts: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale_attention = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.scale_mlp = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.prompts = nn.Parameter(torch.empty(1, n_prompts, width)) if n_prompts else None
        self.norm_1 = nn.LayerNorm(width)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, mlp_ratio * width)
        self.mlp_out = nn.Linear(mlp_ratio * width, width)
        if self.prompts is not None:
            nn.init.trunc_normal_(self.prompts, std=_INIT_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        n_tokens = tokens.shape[1]
        if self.prompts is not None:
            tokens = torch.cat([tokens, self.prompts.expand(len(tokens), -1, -1)], dim=1)
        tokens = tokens + self.scale_attention * self._attend(self.norm_1(tokens))
        # From here on tokens no longer see one another, so the prompts may leave already.
        tokens = tokens[:, :n_tokens]
        hidden: Tensor = self.mlp_in(self.norm_2(tokens)).relu()
        mlp: Tensor = self.mlp_out(hidden).relu()
        return tokens + self.scale_mlp * mlp

    def _attend(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).view(*x.shape[:2], 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class MultiViewEncoder(nn.Module):
    """The paper's encoder of one window length.

    Parameters
    ----------
    n_chans, n_times : C and T; no other window is taken
    width : D; features are 4 D wide
    n_prompts : prompt tokens in each block (the paper: EEG 2, PPS 0)
    depth, heads, mlp_ratio : of the transformer
    dropout : of the tokens before the first block (the paper: EEG 0.2, PPS 0)

    Raises
    ------
    ValueError
        If `width` is not a multiple of `heads`.
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int,
        width: int,
        *,
        n_prompts: int,
        depth: int = 3,
        heads: int = 4,
        mlp_ratio: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads ({heads}), but got {width}")
        n_tokens = 1 + N_VIEWS
        self.shape = (n_chans, n_times)
        self.n_features = n_tokens * width
        self.tokenizer = MultiViewTokenizer(n_chans * n_times, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.type_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, n_tokens, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(
                MultiViewBlock(width, heads=heads, mlp_ratio=mlp_ratio, n_prompts=n_prompts)
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        for embedding in (self.cls_token, self.type_embedding, self.position_embedding):
            nn.init.trunc_normal_(embedding, std=_INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Features of windows.

        Parameters
        ----------
        x : (B, C, T); flattened channel by channel, sample t of channel c at c * T + t

        Returns
        -------
        (B, 4 D): the CLS token, then the views.

        Raises
        ------
        ValueError
            If the windows are not (C, T).
        """
        if x.ndim != 3 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"windows must be (B, {self.shape[0]}, {self.shape[1]}), but got {tuple(x.shape)}"
            )
        views = self.tokenizer(x.flatten(1))
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1).to(views.dtype), views], dim=1)
        tokens = self.dropout(tokens + self.type_embedding + self.position_embedding)
        features: Tensor = self.norm(self.blocks(tokens)).flatten(1)
        return features
