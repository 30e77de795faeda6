"""The peers of `cargo xtask benchmark gpu`: PyTorch and what others build on it.

Reads one JSON object a line from standard input and answers each with one on standard output:

    {"ask": "hello", "device": "cuda", "threads": 16}
        -> {"missing": [], "versions": {...}, "device": "...", "sides": {"supcon": ["dense", ...], ...}}
    {"ask": "check", "work": {...}, "sides": ["dense"]}
        -> {"errors": {"dense": {"loss": 1e-7, "gradient": 1e-6, "within": true}}}
    {"ask": "prepare", "work": {...}, "side": "dense"}
        -> {"input_sets": 8, "graph": true}
    {"ask": "run", "side": "dense", "repetitions": 20}
        -> {"milliseconds": [...], "graph_milliseconds": [...] or null}
    {"ask": "memory", "side": "dense", "calls": 2}
        -> {"mib": 100.0}
    {"ask": "forget"}
        -> {}

Several sides of a work can be prepared at a time. A question that fails is answered with
{"error": "...", "out_of_memory": false}. benches/README.md says what the works and sides are.
"""

import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import traceback

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "triton": "triton",
    "pytorch_metric_learning": "pytorch-metric-learning",
    "numpy": "numpy",
    "PIL": "pillow",
}


class Peers:
    def __init__(self):
        self.device = None
        self.prepared = {}

    def hello(self, device, threads):
        missing = [
            name for module, name in PACKAGES.items() if not importlib.util.find_spec(module)
        ]
        if missing:
            return {"missing": missing}
        # The workers are as many as the cores; numpy reads it when it is imported.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        if device == "cpu":
            # Triton reads it when its kernels are defined.
            os.environ["TRITON_INTERPRET"] = "1"
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no GPU")
        self.device = torch.device(device)
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        versions = {name: importlib.metadata.version(name) for name in PACKAGES.values()}
        versions |= {"python": platform.python_version(), "cuda": torch.version.cuda}
        name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
        sides = {kind: list(module.SIDES) for kind, module in works().items()}
        return {"missing": [], "versions": versions, "device": name, "sides": sides}

    def check(self, work, sides=None):
        return {"errors": works()[work["kind"]].check(work, sides, self.device)}

    def prepare(self, work, side):
        self.prepared[side] = works()[work["kind"]].prepare(work, side, self.device)
        return self.prepared[side].about()

    def run(self, side, repetitions):
        return self.prepared[side].run(repetitions)

    def memory(self, side, calls):
        return self.prepared[side].memory(calls)

    def forget(self):
        import torch

        self.prepared.clear()
        gc.collect()
        torch.cuda.empty_cache()
        return {}


def works():
    """The module of each kind of work, all of which need what `hello` looks for."""
    import loader
    import losses
    import step

    return {"supcon": losses, "s5cl-loss": losses, "s5cl-step": step, "s5cl-run": loader}


def answer(peers, question):
    ask = question.pop("ask")
    if ask not in ("hello", "check", "prepare", "run", "memory", "forget"):
        raise ValueError(f"unknown question {ask!r}")
    return getattr(peers, ask)(**question)


def main():
    # A checkout stays as it is.
    sys.dont_write_bytecode = True
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peers = Peers()
    for line in sys.stdin:
        try:
            text = json.dumps(answer(peers, json.loads(line)))
        except Exception as error:
            traceback.print_exc()
            reason = " ".join(str(error).split())
            out_of_memory = type(error).__name__ == "OutOfMemoryError"
            text = json.dumps(
                {"error": f"{type(error).__name__}: {reason}", "out_of_memory": out_of_memory}
            )
        print(text, file=answers, flush=True)


if __name__ == "__main__":
    main()
