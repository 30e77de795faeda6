"""Times and memory of calls, on a GPU or, to try it, on the CPU."""

import gc
import itertools
import math
import os
import time

import torch

WARM_UP_CALLS = 3
MOST_SETS = 8
# All sets together are so many times as large as the cache, where there are not too many.
CACHES = 3
CPU_SETS = 2


def set_f32(precision):
    """How products of f32 are computed: "ieee" or "tf32"."""
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision


def input_sets(n_bytes, device):
    """Sets of inputs to take in turns, so that the cache does not hold the next one already."""
    if device.type != "cuda":
        return CPU_SETS
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return min(MOST_SETS, max(1, math.ceil(CACHES * cache / n_bytes)))


class Calls:
    """What one side does for a row: one function for each set of inputs."""

    def __init__(self, calls, device, f32="ieee", capturable=False):
        self.calls, self.device, self.f32 = calls, device, f32
        self.is_cuda = device.type == "cuda"
        self.turns = itertools.cycle(calls)
        set_f32(f32)
        for _ in range(max(WARM_UP_CALLS, len(calls))):
            next(self.turns)()
        self.graph = self.capture() if capturable and self.is_cuda else None

    def about(self):
        return {"input_sets": len(self.calls), "graph": self.graph is not None}

    def run(self, repetitions):
        """Milliseconds of one call, of each repetition; likewise inside a graph."""
        set_f32(self.f32)
        graph = self.graph and [
            milliseconds / len(self.calls)
            for milliseconds in self.timed(self.graph.replay, repetitions)
        ]
        return {
            "milliseconds": self.timed(lambda: next(self.turns)(), repetitions),
            "graph_milliseconds": graph,
        }

    def memory(self, n_calls):
        """Peak above what is there before, which weights, inputs and work spaces are part of."""
        set_f32(self.f32)
        gc.collect()
        before = self.used()
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with open("/proc/self/clear_refs", "w") as peak:
                peak.write("5")
        for _ in range(n_calls):
            next(self.turns)()
        return {"mib": (self.peak() - before) / 2**20}

    def used(self):
        if self.is_cuda:
            torch.cuda.synchronize(self.device)
            return torch.cuda.memory_allocated(self.device)
        return resident("VmRSS")

    def peak(self):
        return torch.cuda.max_memory_allocated(self.device) if self.is_cuda else resident("VmHWM")

    def timed(self, call, repetitions):
        if not self.is_cuda:
            return [seconds * 1e3 for seconds in clocked(call, repetitions)]
        starts, ends = (
            [torch.cuda.Event(enable_timing=True) for _ in range(repetitions)] for _ in range(2)
        )
        torch.cuda.synchronize(self.device)
        for start, end in zip(starts, ends):
            start.record()
            call()
            end.record()
        torch.cuda.synchronize(self.device)
        return [start.elapsed_time(end) for start, end in zip(starts, ends)]

    def capture(self):
        """One graph with a call of each set of inputs."""
        side_stream = torch.cuda.Stream(self.device)
        side_stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side_stream):
            for call in self.calls:
                call()
        torch.cuda.current_stream(self.device).wait_stream(side_stream)
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in self.calls:
                call()
        graph.replay()
        torch.cuda.synchronize(self.device)
        return graph


def clocked(call, repetitions):
    for _ in range(repetitions):
        started = time.perf_counter()
        call()
        yield time.perf_counter() - started


def resident(field):
    with open(f"/proc/{os.getpid()}/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no {field}")
