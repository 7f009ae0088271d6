"""Training steps of PyTorch on the CPU: the models of bench_steps.c, the same batch, loss and optimizer.

usage: peer_torch.py --model mlp|cnn|strong [--threads 2] [--batch 128] [--steps 20] [--warmup 5]

A step is forward, backward and AdamW on one batch that stays in memory; eager mode, f32, as a user of the
documentation's training loop writes it. Prints one JSON line:
{"peer": "PyTorch 2.x", "model": ..., "threads": ..., "batch": ..., "parameters": ..., "step_seconds": MEDIAN, ...}
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn


def mlp():
    """784-512-10"""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))


def cnn():
    """3x3 convolutions 32-64-64 without padding, two max-pools, dense 64"""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10))


def block(inputs, outputs):
    # No bias: the normalisation that follows would subtract it again.
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class Residual(nn.Sequential):
    """x + f(x)"""

    def forward(self, x):
        return x + super().forward(x)


def strong():
    """recipes/cnn-strong.json: 32-pool-64-residual-pool-128-residual, global maximum, dropout"""
    return nn.Sequential(
        *block(1, 32), nn.MaxPool2d(2),
        *block(32, 64), Residual(*block(64, 64), *block(64, 64)), nn.MaxPool2d(2),
        *block(64, 128), Residual(*block(128, 128), *block(128, 128)),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 10))


MODELS = {"mlp": mlp, "cnn": cnn, "strong": strong}


def main():
    parser = argparse.ArgumentParser(description="training steps of PyTorch on the CPU")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = MODELS[options.model]()
    model.train()
    images = torch.randn(options.batch, 1, 28, 28)
    labels = torch.randint(0, 10, (options.batch,))
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    first = step()
    for _ in range(options.warmup):
        step()
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        last = step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({
        "peer": "PyTorch " + torch.__version__, "model": options.model, "threads": options.threads,
        "batch": options.batch, "parameters": sum(p.numel() for p in model.parameters()),
        "steps": options.steps, "step_seconds": statistics.median(seconds), "step_seconds_best": min(seconds),
        "first_loss": first, "last_loss": last}))


if __name__ == "__main__":
    main()
