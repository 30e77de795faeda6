// The gradient of the contrastive loss, the backward pass.
//
// contrast_gradient  Grid: tiles of 128 rows, slices of 128 numbers of a row, splits of the columns.
//                    Block: 256 threads. Shared: the stream (72 KiB). A block has the sums of its
//                    rows over its columns, which nobody else adds to; similarities are computed
//                    again. Weights and unit rows in f16, products and sums in f32.
// contrast_finish    Grid: tiles of 128 positions. Block: 256 threads. No dynamic shared memory.
//                    From unit rows to the rows as they came, in f64.
#include "weights.cuh"

// Pieces of a slice of the gradient.
constexpr unsigned SLICE = 2;

// Of every column tile the pieces of the similarities, then those of the slice of its rows.
struct GradientPlan {
    const Problem& problem;
    const Segment& segment;
    unsigned row, first_chunk, n_values, col, end, piece = 0;

    DEVICE void fetch(Stage& stage) {
        if (col >= end) return;
        const Pieces pieces = pieces_of(problem, segment, row, col);
        if (piece < pieces.count()) {
            const Halves halves = halves_of(problem);
            pieces.fetch(halves, halves, stage, row, col, piece);
        } else {
            const unsigned chunk = first_chunk + piece - pieces.count();
            const size_t start = size_t(col) * problem.width + chunk * CHUNK;
            fetch_rows<COLS>(stage.cols, problem.high + start, problem.width);
            if (problem.precision == EXACT) {
                fetch_rows<COLS>(stage.rows, problem.low + start, problem.width);
            }
        }
        if (++piece == pieces.count() + n_values) {
            piece = 0;
            col += COLS;
        }
    }
};

KERNEL(256, 1) contrast_gradient(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    const unsigned row = blockIdx.x * TILE, index = segment_of(problem, row);
    const Segment& segment = problem.segments[index];
    const double temperature = problem.states[index].temperature;
    const float scale = float(1.0 / temperature) * LOG2_E;
    const bool is_common = has_common_shift(temperature), is_exact = problem.precision == EXACT;
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned own_row = row + warp * 16 + lane / 4, first_chunk = blockIdx.y * SLICE;
    const unsigned n_values = min(SLICE, problem.width / CHUNK - first_chunk);
    const RowNumbers numbers = numbers_of(problem);
    const OwnRows own(numbers, own_row);
    const Columns columns(problem, segment, blockIdx.z);
    Stream<GradientPlan> stream{
        shared, {problem, segment, row, first_chunk, n_values, columns.first, columns.end}};
    stream.start();
    float sums[SLICE * CHUNK / 8][4] = {};
    for (unsigned col = columns.first; col < columns.end; col += COLS) {
        Similarities values;
        multiply(values, stream, pieces_of(problem, segment, row, col));
        const bool has_positives = meets_a_label(problem, segment, row, col);
        const unsigned own_col = col + 2 * (lane % 4);
        if (is_common) {
            weigh<true>(values, numbers, own, own_row, own_col, scale, has_positives);
        } else {
            weigh<false>(values, numbers, own, own_row, own_col, scale, has_positives);
        }
        Weights weights, rest;
        pack_weights(weights, values);
        if (is_exact) {
            keep_rest(values);
            pack_weights(rest, values);
        }
#pragma unroll
        for (unsigned chunk = 0; chunk < SLICE; ++chunk) {
            if (chunk < n_values) {
                const Stage& stage = stream.take();
                float(*const of_chunk)[4] = sums + chunk * (CHUNK / 8);
                add_values(of_chunk, weights, stage.cols);
                if (is_exact) {
                    add_values(of_chunk, rest, stage.cols);
                    add_values(of_chunk, weights, stage.rows);
                }
            }
        }
    }
    stream.finish();
#pragma unroll
    for (unsigned n = 0; n < SLICE * CHUNK / 8; ++n) {
        if (n / (CHUNK / 8) >= n_values) continue;
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            float* const row = unit_gradient_of(problem, blockIdx.z, own_row + 8 * i);
            float* const to = row + first_chunk * CHUNK + 8 * n + 2 * (lane % 4);
            *reinterpret_cast<float2*>(to) = make_float2(sums[n][2 * i], sums[n][2 * i + 1]);
        }
    }
}
EXPORT(contrast_gradient);

// The part of the temperature's gradient that comes through the similarities, and the rest of it.
DEVICE void add_up(const Problem& problem, double* scratch) {
    for (unsigned index = 0; index < problem.n_segments; ++index) {
        const Segment& segment = problem.segments[index];
        const State& state = problem.states[index];
        const volatile double* const sums = problem.tile_sums;
        const unsigned first = segment.first_position / TILE;
        const unsigned end = first + ceil_div(segment.n_rows, TILE);
        double product = 0.0;
        for (unsigned tile = first + threadIdx.x; tile < end; tile += THREADS) {
            product += sums[size_t(tile) * 3 + 2];
        }
        product = block_sum(product, scratch) * state.scale / (state.temperature * WEIGHT_SCALE);
        double gradient = -product / (2.0 * state.temperature);
        if (segment.reduction == SUP_CONTRAST_MEAN_ALL) gradient += state.loss / state.temperature;
        if (!(fabs(state.loss) < __builtin_huge_val())) gradient = __builtin_nan("");
        if (threadIdx.x == 0) {
            problem.temperature_gradient[index] =
                float(gradient * segment.weight * double(*problem.from_above));
        }
    }
    if (threadIdx.x == 0) *problem.ticket = 0;
}

KERNEL(256) contrast_finish(const __grid_constant__ Problem problem) {
    constexpr unsigned WARPS = THREADS / WARP_SIZE;
    __shared__ double scratch[WARPS];
    __shared__ bool is_last;
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned first = blockIdx.x * TILE, index = segment_of(problem, first);
    const Segment& segment = problem.segments[index];
    const State& state = problem.states[index];
    const unsigned end = min(first + TILE, end_of(segment)), dim = problem.dim;
    // What makes the gradient of rows that are not finite so too.
    const double factor = fabs(state.loss) < __builtin_huge_val()
        ? state.scale * segment.weight * double(*problem.from_above)
            / (state.temperature * WEIGHT_SCALE)
        : __builtin_nan("");
    double products = 0.0;
    for (unsigned position = first + warp; position < end; position += WARPS) {
        const size_t start = size_t(problem.order[position]) * dim;
        const float inverse = problem.inverse_norms[position];
        const auto of_unit = [&](unsigned d) {
            double sum = 0.0;
            // Unrolled, the loop takes more registers than a thread has.
#pragma unroll 1
            for (unsigned split = 0; split < problem.n_splits; ++split) {
                sum += double(unit_gradient_of(problem, split, position)[d]);
            }
            return sum;
        };
        double product = 0.0;
        for (unsigned d = lane; d < dim; d += WARP_SIZE) {
            product += double(problem.rows[start + d] * inverse) * of_unit(d);
        }
        product = warp_sum(product);
        products += product;
        // Normalization takes away what lies along the row, unless the row is too short.
        const double along = inverse < 1e12f ? product : 0.0;
        for (unsigned d = lane; d < dim; d += WARP_SIZE) {
            const double z = double(problem.rows[start + d] * inverse);
            problem.gradient[start + d] =
                float((of_unit(d) - along * z) * factor * double(inverse));
        }
    }
    if (!problem.temperature_gradient) return;
    const double sum = block_sum(lane == 0 ? products : 0.0, scratch);
    if (threadIdx.x == 0) {
        problem.tile_sums[size_t(blockIdx.x) * 3 + 2] = sum;
    }
    if (is_last_block(problem.ticket, is_last)) add_up(problem, scratch);
}
EXPORT(contrast_finish);
