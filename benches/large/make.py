"""Large models and images to measure compression on: `python make.py FOLDER [--images 1024]`.

- mobile.onnx: EfficientNet-Lite0's layers (4.65 M parameters, ReLU6, depthwise convolutions, residual additions), 3×224×224 → 1000.
- resnet50.onnx: ResNet-50's layers (25.5 M parameters).
- images/: a dataset of smooth random images with edges (uint8), splits `calibration` and `test` (64 images).

Weights are random (He), then scaled layer by layer so that each channel's outputs have mean 0.3·N(0,1) and deviation 1 on 8 of the
images, as batch normalization leaves them. No accuracy means anything here; time, memory and the distance to the float outputs do.
"""

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Net:
    """A graph that is built together with the values that its tensors take on a few images."""

    def __init__(self, name, images, seed):
        self.name, self.rng = name, np.random.default_rng(seed)
        self.nodes, self.constants, self.values = [], [], {"input": images}
        self.count = 0

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op, inputs, constants=(), **attributes):
        self.count += 1
        out = f"t{self.count}"
        node = helper.make_node(op, [*inputs, *(name for name, _ in constants)], [out], name=f"{op.lower()}{self.count}", **attributes)
        self.values[out] = run(node, {i: self.values[i] for i in inputs}, dict(constants))
        for name, value in constants:
            self.constant(name, value)
        self.nodes.append(node)
        return out

    def conv(self, x, outputs, kernel, stride=1, depthwise=False):
        channels = self.values[x].shape[1]
        group = channels if depthwise else 1
        shape = (outputs, channels // group, kernel, kernel)
        w = self.rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        attributes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group)
        node = helper.make_node("Conv", [x, "w"], ["y"], **attributes)
        y = run(node, {x: self.values[x]}, {"w": w})
        mean, std = y.mean((0, 2, 3)), y.std((0, 2, 3)) + 1e-3
        w /= std[:, None, None, None]
        b = (0.3 * self.rng.normal(size=outputs) - mean / std).astype(np.float32)
        name = f"conv{self.count + 1}"
        return self.add("Conv", [x], [(f"{name}.weight", w), (f"{name}.bias", b)], **attributes)

    def relu6(self, x):
        limits = [(f"low{self.count}", np.float32(0)), (f"high{self.count}", np.float32(6))]
        return self.add("Clip", [x], [(n, np.array(v)) for n, v in limits])

    def head(self, x, classes=1000):
        x = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        w = self.rng.normal(0, 0.05, (classes, self.values[x].shape[1])).astype(np.float32)
        return self.add("Gemm", [x], [("fc.weight", w), ("fc.bias", np.zeros(classes, np.float32))], transB=1)

    def save(self, path, output):
        info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            self.nodes, self.name, [info("input", ["N", 3, 224, 224])], [info(output, ["N", 1000])], self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def run(node, inputs, constants):
    info = lambda name, value: helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape))
    graph = helper.make_graph(
        [node],
        "one",
        [info(n, v) for n, v in inputs.items()],
        [helper.make_empty_tensor_value_info(node.output[0])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def mobile(images):
    net = Net("mobile", images, 1)
    x = net.relu6(net.conv("input", 32, 3, 2))
    blocks = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]
    for expand, kernel, stride, width, repeats in blocks:
        for i in range(repeats):
            start, channels = x, net.values[x].shape[1]
            if expand > 1:
                x = net.relu6(net.conv(x, channels * expand, 1))
            x = net.relu6(net.conv(x, net.values[x].shape[1], kernel, stride if i == 0 else 1, depthwise=True))
            x = net.conv(x, width, 1)
            if i > 0:
                x = net.add("Add", [x, start])
    return net, net.head(net.relu6(net.conv(x, 1280, 1)))


def resnet50(images):
    net = Net("resnet50", images, 2)
    relu = lambda x: net.add("Relu", [x])
    x = net.add("MaxPool", [relu(net.conv("input", 64, 7, 2))], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for width, repeats, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for i in range(repeats):
            step = stride if i == 0 else 1
            y = relu(net.conv(x, width, 1))
            y = net.conv(relu(net.conv(y, width, 3, step)), 4 * width, 1)
            x = relu(net.add("Add", [y, net.conv(x, 4 * width, 1, step) if i == 0 else x]))
    return net, net.head(x)


def pictures(count, seed):
    """Random waves of falling amplitude, and a few edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:224, 0:224].astype(np.float32) / 224
    out = np.empty((count, 3, 224, 224), np.uint8)
    for i in range(count):
        base = np.zeros((3, 224, 224), np.float32)
        for _ in range(12):
            f = rng.exponential(4.0, 2) * rng.choice([-1, 1], 2)
            wave = np.sin(2 * np.pi * (f[0] * x + f[1] * y) + rng.uniform(0, 6.28)) / (1 + np.hypot(*f) / 3)
            base += rng.normal(size=(3, 1, 1)).astype(np.float32) * wave
        for _ in range(4):
            a, b, c = rng.normal(size=3)
            base[:, a * (x - 0.5) + b * (y - 0.5) > 0.3 * c] += rng.normal(size=(3, 1)).astype(np.float32)
        out[i] = np.clip(127 + 45 * base, 0, 255)
    return out


def main():
    args = argparse.ArgumentParser()
    args.add_argument("folder", type=pathlib.Path)
    args.add_argument("--images", type=int, default=1024)
    args = args.parse_args()
    data = args.folder / "images"
    data.mkdir(parents=True, exist_ok=True)
    np.save(data / "calibration.npy", pictures(args.images, 3))
    np.save(data / "test.npy", pictures(64, 4))
    (data / "dataset.toml").write_text(
        'name = "waves"\nlicense = "CC0-1.0"\ntask = "classification"\n\n[input]\nname = "input"\nshape = [3, 224, 224]\ndtype = "float32"\n'
        "scale = 0.00392156862745098\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n\n[splits]\n"
        'calibration = { x = "calibration.npy" }\nvalidation = { x = "test.npy" }\ntest = { x = "test.npy" }\n'
    )
    few = (np.load(data / "calibration.npy", mmap_mode="r")[:8].astype(np.float32) / 255 - 0.5) / 0.25
    for build in (mobile, resnet50):
        net, output = build(few)
        net.save(args.folder / f"{net.name}.onnx", output)


main()
