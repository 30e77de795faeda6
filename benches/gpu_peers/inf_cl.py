"""SupCon by tiles in Triton, in the style of Inf-CL (CVPR 2025): no matrix of pairs in memory.

One kernel takes the row-wise logarithms of the sums of exponentials over blocks of columns, with a
running maximum; two launches of another compute the similarities again and give the gradient by way
of the rows and by way of the columns. Unlike Inf-CL's own kernels they leave out a row's pair with
itself, keep a block's gradient in registers and have their tiles chosen by measurement. The
positives need no pairs: with unit rows z and the sum C of a class, those of row i sum up to
z_i . C - z_i . z_i.

Products are of three TF32 parts ("tf32x3", as exact as f32), of TF32 or of f16; sums are f32. Plain
f32 has no matrix instruction, and Triton's code for it runs out of registers at every useful tile.
"""

import math

import torch
import triton
import triton.language as tl

# A softmax share of at most 1 becomes f16 behind this factor of 2^13: shares around 1/N stay normal.
LIFT = tl.constexpr(13)
LONGEST_ROW = 256


def configs():
    """Tiles to choose from; one on the interpreter, where nothing can be measured."""
    tiles = [(64, 64, 4, 3), (64, 32, 4, 3), (128, 64, 8, 2), (128, 64, 8, 3), (128, 128, 8, 2)]
    if triton.knobs.runtime.interpret:
        tiles = tiles[:1]
    return [
        triton.Config({"ROWS": rows, "COLUMNS": columns}, num_warps=warps, num_stages=stages)
        for rows, columns, warps, stages in tiles
    ]


@triton.jit
def load_rows(z, rows, n, DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of z, zeros behind the last row and the last column."""
    columns = tl.arange(0, WIDTH)
    inside = rows[:, None] < n
    if DIM < WIDTH:
        inside = inside & (columns[None, :] < DIM)
    return tl.load(z + rows[:, None] * DIM + columns[None, :], mask=inside, other=0.0)


@triton.autotune(configs(), key=["n", "DIM", "PRODUCT"])
@triton.jit
def log_sum_exp(
    z,
    sums,
    n,
    scale,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    PRODUCT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """sums[i] = log2 of the sum of 2^(scale z_i . z_j) over all j but i."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mine = load_rows(z, rows, n, DIM, WIDTH)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        theirs = load_rows(z, columns, n, DIM, WIDTH)
        exponents = tl.dot(mine, tl.trans(theirs), input_precision=PRODUCT) * scale
        paired = (rows[:, None] != columns[None, :]) & (columns[None, :] < n)
        exponents = tl.where(paired, exponents, float("-inf"))
        larger = tl.maximum(largest, tl.max(exponents, 1))
        shares = tl.sum(tl.exp2(exponents - larger[:, None]), 1)
        total = total * tl.exp2(largest - larger) + shares
        largest = larger
    tl.store(sums + rows, largest + tl.log2(total), mask=rows < n)


@triton.autotune(configs(), key=["n", "DIM", "PRODUCT", "BY_ROWS"])
@triton.jit
def gradient(
    z,
    sums,
    out,
    n,
    scale,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    PRODUCT: tl.constexpr,
    BY_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """out[i] = 2^LIFT * the sum of p z_j over all j but i; p is i's softmax share of j, or j's of i."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mine = load_rows(z, rows, n, DIM, WIDTH)
    own_sums = tl.load(sums + rows, mask=rows < n, other=float("inf"))
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        theirs = load_rows(z, columns, n, DIM, WIDTH)
        exponents = tl.dot(mine, tl.trans(theirs), input_precision=PRODUCT) * scale
        if BY_ROWS:
            exponents -= own_sums[:, None]
        else:
            exponents -= tl.load(sums + columns, mask=columns < n, other=float("inf"))[None, :]
        paired = (rows[:, None] != columns[None, :]) & (columns[None, :] < n)
        shares = tl.where(paired, tl.exp2(exponents + LIFT), 0.0)
        total = tl.dot(shares.to(theirs.dtype), theirs, total, input_precision=PRODUCT)
    columns = tl.arange(0, WIDTH)
    inside = (rows[:, None] < n) & (columns[None, :] < DIM)
    tl.store(out + rows[:, None] * DIM + columns[None, :], total, mask=inside)


def settings(z, temperature, product):
    n, dim = z.shape
    if dim > LONGEST_ROW:
        raise ValueError(f"rows of {dim} numbers; these kernels take at most {LONGEST_ROW}")
    width = max(16, triton.next_power_of_2(dim))
    # Of f16 operands there is but one kind of product.
    product = "ieee" if product == "f16" else product
    return n, math.log2(math.e) / temperature, {"DIM": dim, "WIDTH": width, "PRODUCT": product}


def blocks(n):
    return lambda config: (triton.cdiv(n, config["ROWS"]),)


class SupCon(torch.autograd.Function):
    """The mean over the rows that have a positive, for unit rows of f32."""

    @staticmethod
    def forward(ctx, z, labels, temperature, product, n_classes):
        z = z.contiguous()
        operand = z.half() if product == "f16" else z
        n, scale, constants = settings(z, temperature, product)
        sums = torch.empty(n, device=z.device)
        log_sum_exp[blocks(n)](operand, sums, n, scale, **constants)

        members = (labels[:, None] == torch.arange(n_classes, device=z.device)).float()
        others = (members.t() @ z)[labels] - z
        counts = members.sum(0)[labels] - 1
        valid = counts > 0
        positives = (z * others).sum(1) / (counts.clamp(min=1) * temperature)
        n_valid = valid.sum().clamp(min=1)
        losses = torch.where(valid, sums * math.log(2) - positives, 0.0)

        # An infinite sum makes all shares of an anchor without positives 0.
        sums = torch.where(valid, sums, math.inf)
        ctx.save_for_backward(operand, sums, others, counts, n_valid)
        ctx.temperature, ctx.product = temperature, product
        return losses.sum() / n_valid

    @staticmethod
    def backward(ctx, grad):
        operand, sums, others, counts, n_valid = ctx.saved_tensors
        n, scale, constants = settings(operand, ctx.temperature, ctx.product)
        by_rows, by_columns = torch.empty_like(others), torch.empty_like(others)
        for out, is_by_rows in ((by_rows, True), (by_columns, False)):
            gradient[blocks(n)](operand, sums, out, n, scale, **constants, BY_ROWS=is_by_rows)
        pull = others * (2 / counts.clamp(min=1))[:, None]
        shares = (by_rows + by_columns) * 2.0**-LIFT.value
        return (shares - pull) * (grad / (n_valid * ctx.temperature)), None, None, None, None


def supcon(embeddings, labels, temperature, product, n_classes):
    z = torch.nn.functional.normalize(embeddings)
    return SupCon.apply(z, labels, temperature, product, n_classes)
