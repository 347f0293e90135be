"""Memory and time of a whole run, score, prune and save, on random bf16 models of published dimensions.

    python benchmarks/scale.py [--sizes 0.6B 4B] [--triplets 4 8 16] [--criterion dai] [--scratch DIR] [--plot FILE]
    python benchmarks/scale.py --width 0.5 --sizes 0.6B --triplets 12

Half of the MLP's weights become zero, without reconstruction; with ``--width``, neurons are removed and the rest is
reconstructed, which needs 12 triplets or more.

Every run is a process of its own, whose peak is what the system says (VmHWM). Models are written to a scratch folder
tensor by tensor and deleted afterwards; 4B needs 40 GB there. Runs are kept in benchmarks/results/scale.jsonl; those
of the same machine and versions are not repeated. The table goes to stdout, with how straight time is over parameters
(0.6B-7 to 0.6B, which differ in the number of layers alone) and over triplets; that is time of the processor, which
other programs on the machine change little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

import gaprune
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_triplets
from gaprune.data.triplets import write_triplets
from gaprune.pipelines import arguments, prepare, prune, structured, unstructured
from gaprune.pruning import measure
from gaprune.pruning.removable import weights
from gaprune.report.markdown import markdown_table
from gaprune.util.tensor_store import writing_tensors
from testbed import RESULTS, Lines, machine

GIB = 1 << 30
END = "<|endoftext|>"


@dataclass(frozen=True)
class Size:
    """Dimensions of a Qwen3 model."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int

    def config(self) -> transformers.Qwen3Config:
        """Return the configuration; the end of a text, which is the padding too, has the first number."""
        return transformers.Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=self.intermediate,
            max_position_embeddings=40_960,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            max_window_layers=self.layers,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            dtype="bfloat16",
        )


SIZES = {
    **{f"0.6B-{layers}": Size(1024, layers, 16, 3072, 151_669) for layers in (7, 14, 21)},
    "0.6B": Size(1024, 28, 16, 3072, 151_669),
    "4B": Size(2560, 36, 32, 9728, 151_665),
}
TARGETS = {"0.6B": 5 * GIB, "4B": 16 * GIB}
"""What the peak has to stay under."""
STAGES: tuple[tuple[Any, str, str], ...] = (
    (arguments, "load_model", "load"),
    (prepare, "check_finite", "check"),
    (prepare.Parent, "of", "fingerprint"),
    (unstructured, "_measure_and_score", "measure and score"),
    (structured, "reconstruct", "reconstruct"),
    (unstructured, "reconstruct", "reconstruct"),
    (measure, "measure", "measure"),
    (unstructured.Scores, "decide", "decide"),
    (weights, "apply", "apply"),
    (prune.Result, "save", "save"),
)
"""What is timed: where it is called from, its name there, and what it is called here."""
BUDGETS = {"0.6B": "2GB", "4B": "6GB"}
"""What measuring may take beside the model."""


def build(size: Size, folder: Path) -> int:
    """Write a random model of this size; return its number of parameters."""
    tokenizer = Tokenizer(models.BPE({END: 0} | _bytes(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 0)])
    with tempfile.TemporaryDirectory() as parts:
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token=END, eos_token=END, padding_side="left", model_max_length=512
        ).save_pretrained(parts)
        shape = Size(size.hidden, 1, 1, 8, 8).config()  # one small layer: all but the weights is written from it
        transformers.Qwen3Model(shape).bfloat16().save_pretrained(parts)
        modules = [Transformer(parts), Pooling(size.hidden, pooling_mode="lasttoken"), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    (folder / "model.safetensors").unlink()
    config = size.config()
    config.architectures = ["Qwen3Model"]
    config.save_pretrained(folder)
    return _write_weights(config, folder)


def _bytes() -> dict[str, int]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {letter: index for index, letter in enumerate(letters, start=1)}


def _write_weights(config: transformers.Qwen3Config, folder: Path) -> int:
    """Write random weights, a file for every four layers, one tensor in memory at a time."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in transformers.Qwen3Model(config).state_dict().items()}
    shards: dict[int, list[str]] = {}
    for name in shapes:
        shards.setdefault(int(name.split(".")[1]) // 4 + 1 if name.startswith("layers.") else 0, []).append(name)
    generator = torch.Generator().manual_seed(0)
    files = {}
    for index, names in shards.items():
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        files |= dict.fromkeys(names, file)
        layout = {name: (torch.bfloat16, shapes[name]) for name in names}
        with writing_tensors(folder / file, layout, {"format": "pt"}) as write:
            for name in names:
                values = torch.ones(shapes[name], dtype=torch.bfloat16)
                if len(shapes[name]) > 1:
                    values.normal_(std=0.02, generator=generator)
                write(name, values)
    total = sum(shape.numel() for shape in shapes.values())
    index_file = {"metadata": {"total_size": 2 * total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file), encoding="utf-8")
    return total


def peak() -> int:
    """Return the most memory, in bytes, that this process ever had resident."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def clocked() -> Iterator[dict[str, dict[str, float]]]:
    """Yield seconds, processor seconds and the peak memory so far after every stage of a run inside the block."""
    stages: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        before = stages.get(name, {"seconds": 0.0, "processor": 0.0})
        stages[name] = {
            "seconds": before["seconds"] + time.perf_counter() - wall,
            "processor": before["processor"] + time.process_time() - processor,
            "peak": peak(),
        }

    def clock(owner: Any, name: str, label: str) -> Any:
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with stage(label):
                return function(*args, **kwargs)

        return mock.patch.object(owner, name, timed)

    with ExitStack() as stack:
        for owner, name, label in STAGES:
            stack.enter_context(clock(owner, name, label))
        with stage("all"):
            yield stages


def child(options: Mapping[str, Any]) -> None:
    """Run once, with the clock and the peak taken after every stage, and print what was found as JSON."""
    start = peak()
    with clocked() as stages:
        result = gaprune.prune(recipe=options)
    found = {"start": start, "peak": peak(), "stages": stages, "parameters": result.footprint.parameters}
    sys.stdout.write(json.dumps(found) + "\n")


def measured(name: str, triplets: int, args: argparse.Namespace, model: Path) -> dict[str, Any]:
    """Return the cell of one run, made in a process of its own."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        data = Path(scratch) / "triplets.jsonl"
        write_triplets(read_triplets(sample_triplets("finance")).take(triplets, seed=0), data)
        options = {
            "model": str(model), "domain": str(data), "criterion": args.criterion, "max_length": 32,
            "batch_size": args.batch_size, "device": "cpu", "out": str(Path(scratch) / "pruned"),
            "memory_budget": budget_of(name),
        }  # fmt: skip
        if args.width is None:
            options |= {"sparsity": 0.5, "targets": "mlp", "reconstruct": False}
        else:
            options["width"] = args.width
        environment = os.environ | {"TMPDIR": scratch}
        done = subprocess.run(  # noqa: S603 (this file)
            [sys.executable, __file__, "--child", json.dumps(options)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return cell_key(name, triplets, args) | json.loads(done.stdout.splitlines()[-1]) | {"machine": machine()}


def budget_of(name: str) -> str:
    """Return the memory that measuring a model of this size may take."""
    return BUDGETS[name.partition("-")[0]]


def cell_key(name: str, triplets: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes a cell the one it is."""
    key = {
        "size": name, "dimensions": asdict(SIZES[name]), "triplets": triplets, "criterion": args.criterion,
        "batch_size": args.batch_size, "memory_budget": budget_of(name),
    }  # fmt: skip
    return key if args.width is None else key | {"width": args.width}


def straightness(points: list[tuple[float, float]]) -> str:
    """Return the line through points, and how far from it they are at most."""
    x, y = np.array(points).T
    slope, intercept = np.polyfit(x, y, 1)
    off = np.abs(y - (slope * x + intercept)).max() / y.max()
    line = f"{intercept:.1f} s + {slope:.3g} s each of the processor"
    return f"{line}, no point further than {off:.1%} of the longest time from it"


def by_parameters(cells: list[dict[str, Any]], args: argparse.Namespace) -> list[tuple[float, float]]:
    """Return millions of parameters and processor seconds of the runs that differ in the number of layers alone."""
    return [
        (cell["parameters"] / 1e6, cell["stages"]["all"]["processor"])
        for cell in cells
        if cell["triplets"] == args.triplets[0] and cell["size"].startswith("0.6B")
    ]


def draw(points: list[tuple[float, float]], path: Path) -> None:
    """Draw processor seconds over millions of parameters, and the straight line through them."""
    from matplotlib.figure import Figure

    x, y = np.array(points).T
    figure = Figure(figsize=(4.5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, np.polyval(np.polyfit(x, y, 1), x), color="0.7")
    axes.plot(x, y, "o")
    axes.set(xlabel="parameters (millions)", ylabel="score, prune and save (processor s)", ylim=(0, None))
    figure.savefig(path, metadata={"Date": None})


def report(cells: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Return the tables and the two lines in Markdown."""
    stages = list(dict.fromkeys(stage for cell in cells for stage in cell["stages"]))
    rows = []
    for cell in cells:
        limit = TARGETS.get(cell["size"])
        seconds = [cell["stages"].get(stage, {}).get("seconds") for stage in stages]
        rows.append(
            [
                cell["size"],
                f"{cell['parameters'] / 1e6:,.0f} M",
                str(cell["triplets"]),
                f"{cell['peak'] / GIB:.2f} GiB",
                "" if limit is None else f"{'under' if cell['peak'] < limit else 'OVER'} {limit / GIB:g} GiB",
                *("" if value is None else f"{value:.1f}" for value in seconds),
                f"{cell['stages']['all']['processor']:.1f}",
            ]
        )
    header = ["size", "parameters", "triplets", "peak", "target", *(f"{stage}, s" for stage in stages), "processor, s"]
    text = markdown_table(header, rows)
    if len(by_parameters(cells, args)) > 2:
        text += f"\nOver parameters, in millions: {straightness(by_parameters(cells, args))}.\n"
    for name in args.sizes:
        own = [cell for cell in cells if cell["size"] == name]
        if len(own) > 2:
            points = [(cell["triplets"], cell["stages"]["all"]["processor"]) for cell in own]
            text += f"\nOver triplets, {name}: {straightness(points)}.\n"
    return text


def main() -> None:
    """Make the runs that are missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--triplets", nargs="+", type=int, default=[4], help="one or more numbers; all with each size")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--criterion", default="dai")
    parser.add_argument("--width", type=float, help="fraction of the neurons to remove, with reconstruction")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the models are made")
    parser.add_argument("--plot", type=Path, help="draw time over parameters to this file; needs matplotlib")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.child)
        return
    lines = Lines(RESULTS / "scale.jsonl")
    cells = []
    for name in args.sizes:
        wanted = [cell_key(name, triplets, args) for triplets in args.triplets]
        known = [cell for cell in lines if cell["machine"] == machine()]
        known = [cell for cell in known if cell.get("width") == args.width]
        done = [cell for key in wanted for cell in known if cell.items() >= key.items()]
        if len(done) < len(wanted):
            with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
                build(SIZES[name], Path(folder))
                for triplets in args.triplets:
                    if not any(cell["triplets"] == triplets for cell in done):
                        done.append(measured(name, triplets, args, Path(folder)))
                        lines.add(done[-1])
                        sys.stderr.write(f"{name}, {triplets} triplets: {done[-1]['peak'] / GIB:.2f} GiB\n")
        cells += sorted(done, key=lambda cell: cell["triplets"])
    sys.stdout.write(report(cells, args))
    if args.plot is not None:
        draw(by_parameters(cells, args), args.plot)


if __name__ == "__main__":
    main()
