"""SupCon by chunks of rows, in the style of Liger's fused linear cross entropy.

cuBLAS writes the similarities of a chunk of rows to all others, a Triton kernel takes their loss and
overwrites them with its gradient, and two more products add that to the gradient of the rows. All of
it runs in the forward pass. Liger itself would take chunks of as many rows as an embedding is long,
which leaves most of a large GPU idle; here a chunk is as large as a buffer of 64 MiB holds.
"""

import torch
import triton
import triton.language as tl

CHUNK_ELEMENTS = 2**24
LARGEST_BLOCK = 2**15


@triton.jit
def loss_and_gradient(chunk, labels, counts, losses, first, n, scale, BLOCK: tl.constexpr):
    """The loss of one row; its similarities become the derivatives of that by scale * similarity."""
    anchor = first + tl.program_id(0)
    row = chunk + tl.program_id(0) * n
    label = tl.load(labels + anchor)
    n_positives = tl.load(counts + anchor)
    largest = float("-inf")
    total = 0.0
    positives = 0.0
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        paired = (columns < n) & (columns != anchor)
        logits = tl.load(row + columns, mask=paired, other=float("-inf")) * scale
        same = paired & (tl.load(labels + columns, mask=columns < n, other=-1) == label)
        positives += tl.sum(tl.where(same, logits, 0.0))
        larger = tl.maximum(largest, tl.max(logits))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(logits - larger))
        largest = larger
    log_sum = largest + tl.log(total)
    share = tl.where(n_positives > 0, 1.0 / tl.maximum(n_positives, 1.0), 0.0)
    valid = tl.where(n_positives > 0, 1.0, 0.0)
    tl.store(losses + anchor, (log_sum - positives * share) * valid)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        paired = (columns < n) & (columns != anchor)
        logits = tl.load(row + columns, mask=paired, other=float("-inf")) * scale
        same = paired & (tl.load(labels + columns, mask=columns < n, other=-1) == label)
        slopes = tl.exp(logits - log_sum) * valid - tl.where(same, share, 0.0)
        tl.store(row + columns, slopes, mask=columns < n)


class SupCon(torch.autograd.Function):
    """The mean over the rows that have a positive, for unit rows of f32."""

    @staticmethod
    def forward(ctx, z, labels, temperature, n_classes):
        n = z.shape[0]
        members = (labels[:, None] == torch.arange(n_classes, device=z.device)).float()
        counts = members.sum(0)[labels] - 1
        losses = torch.empty(n, device=z.device)
        gradient = torch.zeros_like(z)
        n_rows = max(1, min(n, CHUNK_ELEMENTS // n))
        buffer = torch.empty(n_rows, n, device=z.device)
        block = min(LARGEST_BLOCK, triton.next_power_of_2(n))
        warps = min(32, max(4, block // 1024))
        for first in range(0, n, n_rows):
            rows = z[first : first + n_rows]
            chunk = buffer[: rows.shape[0]]
            torch.mm(rows, z.t(), out=chunk)
            loss_and_gradient[(rows.shape[0],)](
                chunk,
                labels,
                counts,
                losses,
                first,
                n,
                1 / temperature,
                BLOCK=block,
                num_warps=warps,
            )
            gradient[first : first + n_rows].addmm_(chunk, z)
            gradient.addmm_(chunk.t(), rows)
        n_valid = (counts > 0).sum().clamp(min=1)
        ctx.save_for_backward(gradient.div_(n_valid * temperature))
        return losses.sum() / n_valid

    @staticmethod
    def backward(ctx, grad):
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


def supcon(embeddings, labels, temperature, n_classes):
    z = torch.nn.functional.normalize(embeddings)
    return SupCon.apply(z, labels, temperature, n_classes)
