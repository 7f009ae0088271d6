"""Training-step time of Quern and PyTorch, run in turn on the same machine.

usage: compare.py [--build build/release] [--models mlp,cnn,strong] [--rounds 5] [--threads 2] [--batch 128]
                  [--scale 1.0] [--json FILE]

Each round runs both programs for a model, one directly after the other and the first of a round second in the
next, so that a change of clock or a noisy neighbour meets both. Reported are the median over rounds of each one's
median step, and the ratio PyTorch / Quern: the median of the rounds' ratios, with the smallest and largest of them.
Per cent of peak counts the multiply-adds of matmul and convolution, forward and backward, against the FMA peak that
`peak` measures before the first and after the last round. Run it on an otherwise idle machine.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys

STEPS = {"mlp": 200, "cnn": 40, "strong": 20}
# (multiply-adds per sample in the forward pass, is its input the image?); a layer on the image needs no input gradient.
LAYERS = {
    "mlp": [(784 * 512, True), (512 * 10, False)],
    "cnn": [(26 * 26 * 32 * 9, True), (11 * 11 * 64 * 32 * 9, False), (3 * 3 * 64 * 64 * 9, False),
            (576 * 64, False), (64 * 10, False)],
    "strong": [(28 * 28 * 32 * 9, True), (14 * 14 * 64 * 32 * 9, False), (14 * 14 * 64 * 64 * 9, False),
               (14 * 14 * 64 * 64 * 9, False), (7 * 7 * 128 * 64 * 9, False), (7 * 7 * 128 * 128 * 9, False),
               (7 * 7 * 128 * 128 * 9, False), (128 * 10, False)],
}
HERE = os.path.dirname(os.path.abspath(__file__))


def step_flops(model, batch):
    return batch * sum(2 * macs * (2 if on_image else 3) for macs, on_image in LAYERS[model])


def run_json(command, threads):
    """The JSON object that the command's last line is."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"compare: {' '.join(command)}: ended with status {done.returncode}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        sys.exit(f"compare: {' '.join(command)}: the last line is not JSON")


def machine():
    name = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                if line.startswith("model name"):
                    name = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def compare(model, options):
    steps = max(3, round(STEPS[model] * options.scale))
    common = ["--model", model, "--threads", str(options.threads), "--batch", str(options.batch),
              "--steps", str(steps)]
    commands = {"quern": [os.path.join(options.build, "bench_steps"), *common, "--json"],
                "torch": [sys.executable, os.path.join(HERE, "peer_torch.py"), *common]}
    seconds, last = {"quern": [], "torch": []}, {}
    order = ["quern", "torch"]
    for _ in range(options.rounds):
        for name in order:
            last[name] = run_json(commands[name], options.threads)
            seconds[name].append(last[name]["step_seconds"])
        order.reverse()
    if last["quern"]["parameters"] != last["torch"]["parameters"]:
        sys.exit(f"compare: {model}: Quern has {last['quern']['parameters']} parameters, PyTorch "
                 f"{last['torch']['parameters']}: not the same network")
    ratios = [t / q for q, t in zip(seconds["quern"], seconds["torch"])]
    return {"model": model, "batch": options.batch, "threads": options.threads, "steps": steps,
            "rounds": options.rounds, "parameters": last["quern"]["parameters"], "peer": last["torch"]["peer"],
            "quern_seconds": statistics.median(seconds["quern"]),
            "torch_seconds": statistics.median(seconds["torch"]),
            "ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios),
            "flops": step_flops(model, options.batch)}


def main():
    parser = argparse.ArgumentParser(description="training steps of Quern and PyTorch in turn")
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--models", default="mlp,cnn,strong")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of steps")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    models = options.models.split(",")
    unknown = [m for m in models if m not in STEPS]
    if unknown or options.rounds < 1:
        parser.error(f"unknown model {unknown[0]}" if unknown else "at least one round")
    if not os.access(os.path.join(options.build, "bench_steps"), os.X_OK):
        sys.exit(f"compare: no {options.build}/bench_steps; run make benches")
    measure_peak = [os.path.join(options.build, "peak"), "--threads", str(options.threads)]
    peaks = [run_json(measure_peak, options.threads)]
    rows = [compare(model, options) for model in models]
    peaks.append(run_json(measure_peak, options.threads))
    peak = max(p["gflops"] for p in peaks)

    print(f"machine: {machine()}")
    print(f"peak: {peak:.1f} GFLOP/s f32 FMA ({peaks[0]['vectors']}, {options.threads} threads)")
    print(f"peer: {rows[0]['peer']}, eager; batch {options.batch}, AdamW, {options.rounds} rounds in turn\n")
    print(f"{'model':8}{'parameters':>11}{'Quern ms':>10}{'PyTorch ms':>12}{'ratio':>8}{'low..high':>13}"
          f"{'Quern % of peak':>17}{'PyTorch %':>11}")
    for row in rows:
        for name in ("quern", "torch"):
            row[name + "_percent_of_peak"] = 100 * row["flops"] / row[name + "_seconds"] / (peak * 1e9)
        spread = f"{row['ratio_low']:.2f}..{row['ratio_high']:.2f}"
        print(f"{row['model']:8}{row['parameters']:>11}{1e3 * row['quern_seconds']:>10.2f}"
              f"{1e3 * row['torch_seconds']:>12.2f}{row['ratio']:>8.2f}{spread:>13}"
              f"{row['quern_percent_of_peak']:>17.1f}{row['torch_percent_of_peak']:>11.1f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump({"machine": machine(), "peak_gflops": peak, "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()
