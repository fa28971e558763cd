"""joulefront beside ONNX Runtime's quantize_static: seconds and memory of whole processes, and output SQNR, in one run.

    cargo build --release
    python benches/large/make.py target/large
    python benches/large/compare.py target/large [--images 512] [--only mobile|resnet50|shipped]

Needs the packages of .ci/judge-requirements.txt. SQNR is of the outputs on test images, judged by ONNX Runtime: 10·log10(Σ y² / Σ (y − ŷ)²) with y the
float model's.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHODS = ["min_max", "percentile", "mse", "entropy"]


def scaled(x):
    return (np.asarray(x, np.float32) / 255 - 0.5) / 0.25


def quantize(model, out, images):
    """What the child process does: ONNX Runtime's quantizer, per channel, Q/DQ, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    data = np.load(images, mmap_mode="r")
    name = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.at = 0

        def get_next(self):
            if self.at >= len(data):
                return None
            x = data[self.at : self.at + 1]
            self.at += 1
            return {name: x if x.dtype == np.float32 else scaled(x)}

    quantize_static(
        model, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8
    )


def timed(command):
    """Seconds and mebibytes of a process, or its error."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = child.stderr.read()
    _, status, usage = __import__("os").wait4(child.pid, 0)
    seconds = time.monotonic() - began
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{said}")
    return seconds, usage.ru_maxrss / 1024


def outputs(model, x, portion=16):
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i : i + portion]})[0] for i in range(0, len(x), portion)])


def sqnr(model, variant, x):
    y, z = outputs(model, x), outputs(variant, x)
    return 10 * np.log10((y**2).sum() / ((y - z) ** 2).sum())


def row(what, seconds, mebibytes, db):
    print(f"| {what} | {seconds:.1f} | {mebibytes:.0f} | {db:.1f} |", flush=True)


def large(args, folder):
    test = scaled(np.load(folder / "images/test.npy"))
    images = np.load(folder / "images/calibration.npy", mmap_mode="r")[: args.images]
    np.save(folder / "few.npy", images)
    program, data = args.program, folder / "images"
    ours = lambda model, out, *more: [program, "compress", model, "-o", out, "--data", data, "--calibration-samples", str(args.images), *more]
    me = [sys.executable, __file__, "--quantize"]
    if args.only in (None, "mobile"):
        model, out = folder / "mobile.onnx", folder / "out.onnx"
        theirs = timed([*me, model, out, folder / "few.npy"])
        row("mobile W8A8, ONNX Runtime min-max", *theirs, sqnr(model, out, test))
        for method in args.methods:
            ran = timed(ours(model, out, "--weight-bits", "8", "--activation-bits", "8", "--activation-range", method))
            row(f"mobile W8A8, joulefront {method} ({theirs[0] / ran[0]:.1f}× as fast)", *ran, sqnr(model, out, test))
    if args.only in (None, "resnet50"):
        model, out = folder / "resnet50.onnx", folder / "out.onnx"
        ran = timed(ours(model, out, "--weight-bits", "4"))
        row("resnet50 W4, joulefront least squares", *ran, sqnr(model, out, test))


def shipped(args, folder):
    data = np.load(ROOT / "models/fashion-mnist/calibration.npz")["x"]
    test = np.load(ROOT / "models/fashion-mnist/test.npz")["x"]
    norm = lambda x: ((x.astype(np.float32) / 255 - 0.2860) / 0.3530).reshape(-1, 1, 28, 28)
    np.save(folder / "few.npy", norm(data[:512]))
    for name in ("fashion-resnet8", "fashion-dscnn", "fashion-mlp", "fashion-vit"):
        model, out = ROOT / f"models/{name}.onnx", folder / "out.onnx"
        for what, command in {
            "ONNX Runtime": [sys.executable, __file__, "--quantize", model, out, folder / "few.npy"],
            "joulefront": [args.program, "compress", model, "-o", out, "--weight-bits", "8", "--activation-bits", "8", "--calibration-samples", "512"],
        }.items():
            row(f"{name} W8A8, {what}", *timed(command), sqnr(model, out, norm(test[:2000])))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("folder", type=pathlib.Path, nargs="?", default=ROOT / "target/large")
    args.add_argument("--images", type=int, default=512)
    args.add_argument("--only", choices=["mobile", "resnet50", "shipped"])
    args.add_argument("--methods", nargs="*", default=METHODS)
    args.add_argument("--program", default=ROOT / "target/release/joulefront")
    args.add_argument("--quantize", nargs=3)
    args = args.parse_args()
    if args.quantize:
        quantize(*args.quantize)
        return
    print("| what | s | MiB | SQNR, dB |\n|---|---|---|---|")
    if args.only in (None, "shipped"):
        shipped(args, args.folder)
    if args.only != "shipped":
        large(args, args.folder)


main()
