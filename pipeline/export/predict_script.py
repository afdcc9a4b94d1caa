"""Classify image files: python predict.py IMAGE... [--model model.int8.onnx] [--top 5]

Needs onnxruntime, numpy and Pillow, and config.json, classes.txt and a model beside this file."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description="Print the most probable classes of image files.")
parser.add_argument("images", nargs="+", metavar="IMAGE")
parser.add_argument("--model", default="model.onnx", help="name of a file beside this script, or a path (./m.onnx)")
parser.add_argument("--top", type=int, default=5, help="number of classes to print for each image")
args, here, failed = parser.parse_args(), Path(__file__).resolve().parent, False
config = json.loads((here / "config.json").read_text("utf-8"))["pretrained_cfg"]
names = (here / "classes.txt").read_text("utf-8-sig").removesuffix("\n").split("\n")
(channels, height, width), bleed = config["input_size"], (1 - config["crop_pct"]) / 2
model = here / args.model if Path(args.model).name == args.model else Path(args.model)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
for file in args.images:
    try:
        im = ImageOps.exif_transpose(Image.open(file, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")))
        if im.mode.startswith("I"):  # 16 bits: keep the upper 8
            values = np.asarray(im).astype(np.int64)
            im = Image.fromarray((values >> (8 if values.max() > 255 else 0)).clip(0, 255).astype(np.uint8))
        if im.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in im.info:  # on black
            im = Image.alpha_composite(Image.new("RGBA", im.size, (0, 0, 0, 255)), im.convert("RGBA"))
        im = (im.convert("RGB") if im.mode == "P" else im).convert("L" if channels == 1 else "RGB")
        im = ImageOps.fit(im, (width, height), Image.Resampling.BILINEAR, bleed=bleed)
        x = np.asarray(im, np.float32).reshape(1, height, width, channels).transpose(0, 3, 1, 2) / 255
        z = np.asarray(session.run(None, {"image": np.ascontiguousarray(x)})[0], float)[0]
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        print("  ".join([file, *(f"{names[c]} {p[c]:.4f}" for c in np.argsort(-p, kind="stable")[: args.top])]))
    except Exception as error:
        failed = print(f"error: {file}: {error}", file=sys.stderr) is None
sys.exit(failed)
