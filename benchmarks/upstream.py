"""Upstream's classes, driven as upstream drives them (finetune/dataset.py, finetune/train_*.py): the reference side."""

from __future__ import annotations

import random
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
from kronos_finance._vendor.kronos_model import Kronos, KronosTokenizer
from torch.utils.data import DataLoader, Dataset

from kronos_trainer.model.predictor import PredictorConfig
from kronos_trainer.model.tokenizer import TokenizerConfig

FEATURES = ["open", "high", "low", "close", "volume", "amount"]
CPU = torch.device("cpu")
TIME_FEATURES = ["minute", "hour", "weekday", "day", "month"]


class WindowDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random windows as finetune/dataset.py draws them: one pandas slice and one numpy normalisation per item."""

    def __init__(self, frames: dict[str, pd.DataFrame], *, lookback: int, horizon: int, seed: int = 100) -> None:
        self.window = lookback + horizon + 1
        self.lookback = lookback
        self.random = random.Random(seed)
        self.frames = {}
        self.index = []
        for symbol, frame in frames.items():
            times = frame["timestamps"].dt
            features = {"minute": times.minute, "hour": times.hour, "weekday": times.weekday}
            features |= {"day": times.day, "month": times.month}
            self.frames[symbol] = frame.assign(**features)[FEATURES + TIME_FEATURES]
            self.index += [(symbol, start) for start in range(len(frame) - self.window + 1)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, _: int) -> tuple[torch.Tensor, torch.Tensor]:
        symbol, start = self.index[self.random.randint(0, len(self.index) - 1)]
        rows = self.frames[symbol].iloc[start : start + self.window]
        values = rows[FEATURES].values.astype(np.float32)
        stamps = rows[TIME_FEATURES].values.astype(np.float32)
        past = values[: self.lookback]
        values = (values - np.mean(past, axis=0)) / (np.std(past, axis=0) + 1e-5)
        return torch.from_numpy(np.clip(values, -5.0, 5.0)), torch.from_numpy(stamps)


def loader(dataset: WindowDataset, batch_size: int) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches in this process: on two cores upstream's worker processes only compete with the model."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=False, num_workers=0, drop_last=True)


def _schedule(optimizer: torch.optim.Optimizer, peak: float) -> torch.optim.lr_scheduler.OneCycleLR:
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=100_000, pct_start=0.03, div_factor=10
    )


class TokenizerStep:
    """One optimizer step of finetune/train_tokenizer.py per call, on the batches given."""

    def __init__(self, config: TokenizerConfig, state: dict[str, torch.Tensor], device: torch.device = CPU) -> None:
        self.model = KronosTokenizer(**asdict(config))
        self.model.load_state_dict(state)
        self.model.to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-4, weight_decay=0.1)
        self.schedule = _schedule(self.optimizer, 2e-4)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        (coarse, fine), quantizer_loss, _, _ = self.model(values)
        mse = torch.nn.functional.mse_loss
        loss = (mse(coarse, values) + mse(fine, values) + quantizer_loss) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return loss.detach()


class PredictorStep:
    """One optimizer step of finetune/train_predictor.py per call: it encodes each batch anew."""

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        config: PredictorConfig,
        state: dict[str, torch.Tensor],
        device: torch.device = CPU,
    ) -> None:
        self.tokenizer = tokenizer.to(device).eval()
        self.model = Kronos(**asdict(config))
        self.model.load_state_dict(state)
        self.model.to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=4e-5, betas=(0.9, 0.95), weight_decay=0.1)
        self.schedule = _schedule(self.optimizer, 4e-5)

    def __call__(self, values: torch.Tensor, stamps: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            coarse, fine = self.tokenizer.encode(values, half=True)
        logits = self.model(coarse[:, :-1], fine[:, :-1], stamps[:, :-1, :])
        loss, _, _ = self.model.head.compute_loss(*logits, coarse[:, 1:], fine[:, 1:])
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()
