"""Writes mini-logits.json: what the embedded model computes, in float64 arithmetic, with nothing of the engine's.

python3 mini.py MODEL_DIRECTORY OLD.json > NEW.json  (numpy==2.4.6; the texts and their tokens are those of OLD.json)
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np


def tensors(path):
    """The tensors of a safetensors file, in float64."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    types = {"F16": np.float16, "F32": np.float32}
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + start : 8 + length + end], types[entry["dtype"]])
        out[name] = values.reshape(entry["shape"]).astype(np.float64)
    return out


def norm(x, weights, name, epsilon):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * (weights[f"{name}.weight"] + 1) + weights[f"{name}.bias"]


def rotate(x, config):
    """x has shape [tokens, heads, head]; the first part of each head turns, halves against each other."""
    width = int(config["head_dim"] * config["partial_rotary_factor"])
    half = width // 2
    angles = np.outer(np.arange(x.shape[0]), config["rope_theta"] ** (-np.arange(half) * 2.0 / width))[:, None, :]
    a, b, rest = x[..., :half], x[..., half:width], x[..., width:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles), rest], -1)


def logits(tokens, weights, config):
    heads, kv_heads, head = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    count, epsilon = len(tokens), config["norm_eps"]
    x = weights["model.embed_tokens.weight"][tokens]
    mask = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        h = norm(x, weights, f"{at}.input_layernorm", epsilon)
        q, k, v = (h @ weights[f"{at}.self_attn.{part}_proj.weight"].T for part in "qkv")
        q = rotate(q.reshape(count, heads, head), config)
        k = np.repeat(rotate(k.reshape(count, kv_heads, head), config), heads // kv_heads, 1)
        v = np.repeat(v.reshape(count, kv_heads, head), heads // kv_heads, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(head) + mask
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = np.einsum("hij,jhd->ihd", scores, v).reshape(count, heads * head)
        x = x + attended @ weights[f"{at}.self_attn.o_proj.weight"].T
        h = norm(x, weights, f"{at}.post_attention_layernorm", epsilon)
        h = np.maximum(h @ weights[f"{at}.mlp.up_proj.weight"].T, 0) ** 2
        x = x + h @ weights[f"{at}.mlp.down_proj.weight"].T
    return norm(x, weights, "model.norm", epsilon) @ weights["lm_head.weight"].T


def main():
    directory, old = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    config = json.loads((directory / "config.json").read_text())
    weights = tensors(directory / "model.safetensors")
    cases = []
    for case in old:
        rows = logits(case["tokens"], weights, config)
        best = np.argsort(-rows, axis=-1)[:, :8]
        greedy = list(case["tokens"])
        for _ in range(16):
            greedy.append(int(logits(greedy, weights, config)[-1].argmax()))
        cases.append(
            {
                "text": case["text"],
                "tokens": case["tokens"],
                "top": [[[int(t), round(float(row[t]), 5)] for t in ids] for row, ids in zip(rows, best)],
                "last": [round(float(value), 5) for value in rows[-1]],
                "greedy": greedy[len(case["tokens"]) :],
            }
        )
    json.dump(cases, sys.stdout, separators=(",", ":"))


main()
