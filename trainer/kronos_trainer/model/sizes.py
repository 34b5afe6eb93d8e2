"""Architectures by name, for training from scratch; all but tiny are upstream's."""

from __future__ import annotations

from dataclasses import replace

from kronos_trainer.model.predictor import PredictorConfig
from kronos_trainer.model.tokenizer import TokenizerConfig

_BASE_TOKENIZER = TokenizerConfig(
    d_in=6,
    d_model=256,
    n_heads=4,
    ff_dim=512,
    n_enc_layers=4,
    n_dec_layers=4,
    ffn_dropout_p=0.0,
    attn_dropout_p=0.0,
    resid_dropout_p=0.0,
    s1_bits=10,
    s2_bits=10,
    beta=0.05,
    gamma0=1.0,
    gamma=1.1,
    zeta=0.05,
    group_size=4,
)

TOKENIZERS = {
    "tiny": replace(_BASE_TOKENIZER, d_model=64, ff_dim=128, n_enc_layers=3, n_dec_layers=3),
    "base": _BASE_TOKENIZER,
    "2k": replace(_BASE_TOKENIZER, group_size=5),
}

_MINI = PredictorConfig(
    s1_bits=10,
    s2_bits=10,
    n_layers=4,
    d_model=256,
    n_heads=4,
    ff_dim=512,
    ffn_dropout_p=0.2,
    attn_dropout_p=0.0,
    resid_dropout_p=0.2,
    token_dropout_p=0.0,
    learn_te=True,
)

PREDICTORS = {
    "tiny": replace(_MINI, n_layers=2, d_model=128, ff_dim=256),
    "mini": _MINI,
    "small": replace(
        _MINI,
        n_layers=8,
        d_model=512,
        n_heads=8,
        ff_dim=1024,
        ffn_dropout_p=0.25,
        attn_dropout_p=0.1,
        resid_dropout_p=0.25,
        token_dropout_p=0.1,
    ),
    "base": replace(_MINI, n_layers=12, d_model=832, n_heads=16, ff_dim=2048),
    # Not released: taken from the paper (arXiv 2508.02739), tables 1 and 5.
    "large": replace(_MINI, n_layers=18, d_model=1664, n_heads=32, ff_dim=3072, ffn_dropout_p=0.0, resid_dropout_p=0.0),
}
