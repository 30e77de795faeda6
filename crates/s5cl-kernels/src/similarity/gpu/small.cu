// The contrastive loss of few rows with its gradient, in one launch: S5CL's own batches.
//
// contrast_small  Grid: for each segment its rows over 128, rounded up. Block: 256 threads.
//                 Shared: 276 bytes for each row of a segment, both halves of it among them. All
//                 products of halves but the lowest, in f32; sums over rows in f64.
//
// Rows have up to 64 numbers. Every block has all rows of its segment in shared memory and computes
// the sums of all of them, so that none waits for another; the gradient it has of 128 rows. The
// first block has the loss of all segments.
#include "weights.cuh"

constexpr unsigned WARPS = THREADS / WARP_SIZE;
constexpr double SMALLEST_NORM = 1e-12;

// What a block knows of the rows of a segment.
struct Rows {
    unsigned char* high;
    unsigned char* low;
    float* inverse_norms;
    float* shares;
    float* pulls;
    float* losses;
    uint32_t* labels;
    // Rows, and rows with those that fill the last tile of columns.
    unsigned n, n_padded;

    DEVICE Rows(unsigned char* memory, const Segment& segment, unsigned most) {
        n = segment.n_rows;
        n_padded = ceil_div(n, COLS) * COLS;
        high = memory;
        low = high + most * CHUNK * 2;
        inverse_norms = reinterpret_cast<float*>(low + most * CHUNK * 2);
        shares = inverse_norms + most;
        pulls = shares + most;
        losses = pulls + most;
        labels = reinterpret_cast<uint32_t*>(losses + most);
    }
};

struct Flags { unsigned is_not_finite, has_negatives; };

// Unit rows in two halves, and labels.
DEVICE void load(const Problem& problem, const Segment& segment, const Rows& rows, Flags& flags) {
    const unsigned lane = threadIdx.x % WARP_SIZE, dim = problem.dim;
    for (unsigned i = threadIdx.x / WARP_SIZE; i < rows.n_padded; i += WARPS) {
        const bool is_there = i < rows.n;
        const size_t row = segment.first_row + (is_there ? i : 0);
        const float* const values = problem.rows + row * dim;
        double square = 0.0;
        for (unsigned d = lane; is_there && d < dim; d += WARP_SIZE) {
            square += double(values[d]) * double(values[d]);
        }
        const double norm = sqrt(warp_sum(square));
        const float inverse = is_there ? float(1.0 / fmax(norm, SMALLEST_NORM)) : 0.0f;
        if (lane == 0) {
            rows.inverse_norms[i] = inverse;
            rows.labels[i] = problem.labels[row];
            rows.shares[i] = rows.pulls[i] = 0.0f;
            if (!(norm < __builtin_huge_val())) atomicOr(&flags.is_not_finite, 1u);
            if (rows.labels[i] != problem.labels[segment.first_row]) atomicOr(&flags.has_negatives, 1u);
        }
        for (unsigned d = lane; d < CHUNK; d += WARP_SIZE) {
            const float value = is_there && d < dim ? values[d] * inverse : 0.0f;
            const f16 upper = from_float<f16>(value);
            const unsigned at = place(i, d / 8) + d % 8 * 2;
            *reinterpret_cast<f16*>(rows.high + at) = upper;
            *reinterpret_cast<f16*>(rows.low + at) = from_float<f16>(value - to_float(upper));
        }
    }
}

// Similarities of 16 rows with COLS others.
DEVICE void multiply(Similarities& sums, const Rows& rows, unsigned row, unsigned col) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[n][i] = 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < CHUNK / 16; ++k) {
        uint32_t high[4], low[4];
        const unsigned of_row = place(row + lane % 16, 2 * k + lane / 16);
        load_matrices(high, rows.high + of_row);
        load_matrices(low, rows.low + of_row);
#pragma unroll
        for (unsigned n = 0; n < COLS / 16; ++n) {
            const unsigned at = place(col + n * 16 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2);
            uint32_t other_high[4], other_low[4];
            load_matrices(other_high, rows.high + at);
            load_matrices(other_low, rows.low + at);
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) {
                float(&of_tile)[4] = sums[2 * n + i];
                multiply_add_f16(of_tile, high, {other_high[2 * i], other_high[2 * i + 1]});
                multiply_add_f16(of_tile, high, {other_low[2 * i], other_low[2 * i + 1]});
                multiply_add_f16(of_tile, low, {other_high[2 * i], other_high[2 * i + 1]});
            }
        }
    }
}

// The loss of every row, and what the gradient must know of it.
DEVICE void sum_rows(const Segment& segment, const Rows& rows, float scale, bool has_negatives) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    for (unsigned row = threadIdx.x / WARP_SIZE * 16; row < rows.n; row += WARPS * 16) {
        float powers[2] = {}, similarities[2] = {};
        unsigned n_positives[2] = {};
        const unsigned own_row = row + lane / 4;
        const uint32_t labels[2] = {rows.labels[own_row], rows.labels[own_row + 8]};
        for (unsigned col = 0; col < rows.n; col += COLS) {
            Similarities values;
            multiply(values, rows, row, col);
#pragma unroll
            for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
                for (unsigned i = 0; i < 4; ++i) {
                    const unsigned other = col + 8 * n + 2 * (lane % 4) + i % 2;
                    if (other >= rows.n || other == own_row + 8 * (i / 2)) continue;
                    const float value = values[n][i];
                    powers[i / 2] += exp2_fast(fmaf(value, scale, -scale));
                    if (rows.labels[other] == labels[i / 2]) {
                        similarities[i / 2] += value;
                        n_positives[i / 2] += 1;
                    }
                }
            }
        }
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
#pragma unroll
            for (unsigned bits = 1; bits < 4; bits *= 2) {
                powers[i] += __shfl_xor_sync(WHOLE_WARP, powers[i], bits);
                similarities[i] += __shfl_xor_sync(WHOLE_WARP, similarities[i], bits);
                n_positives[i] += __shfl_xor_sync(WHOLE_WARP, n_positives[i], bits);
            }
            const unsigned at = own_row + 8 * i;
            if (lane % 4 > 0 || at >= rows.n_padded) continue;
            const double mean = double(similarities[i]) / double(max(n_positives[i], 1u));
            const double loss = n_positives[i] == 0
                ? 0.0 : log(double(powers[i])) + (1.0 - mean) * double(scale) * 0.69314718055994531;
            const bool counts = at < rows.n && n_positives[i] > 0
                && (segment.reduction != PML_AVG_NON_ZERO || (has_negatives && float(loss) > 0.0f));
            rows.shares[at] = counts ? 1.0f / powers[i] : 0.0f;
            rows.pulls[at] = counts ? WEIGHT_SCALE / float(n_positives[i]) : 0.0f;
            rows.losses[at] = counts ? float(loss) : 0.0f;
        }
    }
}

struct Total { double loss, scale; };

// The loss of a segment, and what each anchor counts.
DEVICE Total add_up(const Segment& segment, const Rows& rows, const Flags& flags, double* scratch) {
    double losses = 0.0, n_counting = 0.0;
    for (unsigned i = threadIdx.x; i < rows.n; i += THREADS) {
        losses += double(rows.losses[i]);
        n_counting += rows.pulls[i] > 0.0f ? 1.0 : 0.0;
    }
    losses = block_sum(losses, scratch);
    n_counting = block_sum(n_counting, scratch);
    const double scale = segment.reduction == SUP_CONTRAST_MEAN_ALL
        ? segment.temperature / segment.base_temperature / fmax(double(rows.n), 1.0)
        : 1.0 / fmax(n_counting, 1.0);
    return {flags.is_not_finite ? __builtin_nan("") : scale * losses, scale};
}

// The gradient of 16 rows, for 1 from above.
DEVICE void gradient(const Problem& problem, const Segment& segment, const Rows& rows, unsigned row,
                     float scale, const Total& total) {
    const unsigned lane = threadIdx.x % WARP_SIZE, own_row = row + lane / 4;
    const RowNumbers numbers = {rows.shares, rows.pulls, nullptr, rows.labels};
    const OwnRows own(numbers, own_row);
    float sums[CHUNK / 8][4] = {};
    for (unsigned col = 0; col < rows.n; col += COLS) {
        Similarities values;
        multiply(values, rows, row, col);
        weigh<true>(values, numbers, own, own_row, col + 2 * (lane % 4), scale, true);
        Weights weights;
        pack_weights(weights, values);
        const unsigned at = col * CHUNK * 2;
        add_values(sums, weights, rows.high + at);
        add_values(sums, weights, rows.low + at);
        keep_rest(values);
        pack_weights(weights, values);
        add_values(sums, weights, rows.high + at);
    }
    const unsigned dim = problem.dim;
    const double factor = fabs(total.loss) < __builtin_huge_val()
        ? total.scale * segment.weight / (segment.temperature * WEIGHT_SCALE) : __builtin_nan("");
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
        const unsigned at = own_row + 8 * i;
        const bool is_there = at < rows.n;
        const size_t start = size_t(segment.first_row + (is_there ? at : 0)) * dim;
        const float inverse = is_there ? rows.inverse_norms[at] : 0.0f;
        double along = 0.0;
#pragma unroll
        for (unsigned n = 0; n < CHUNK / 4; ++n) {
            const unsigned d = 8 * (n / 2) + 2 * (lane % 4) + n % 2;
            if (d < dim) along += double(problem.rows[start + d] * inverse) * double(sums[n / 2][2 * i + n % 2]);
        }
        along += __shfl_xor_sync(WHOLE_WARP, along, 1);
        along += __shfl_xor_sync(WHOLE_WARP, along, 2);
        // Normalization takes away what lies along the row, unless the row is too short.
        if (!(inverse < 1e12f)) along = 0.0;
#pragma unroll
        for (unsigned n = 0; n < CHUNK / 4; ++n) {
            const unsigned d = 8 * (n / 2) + 2 * (lane % 4) + n % 2;
            if (d >= dim || !is_there) continue;
            const float of_unit = sums[n / 2][2 * i + n % 2] - float(along) * (problem.rows[start + d] * inverse);
            problem.gradient[start + d] = of_unit * float(factor * double(inverse));
        }
    }
}

KERNEL(256, 1) contrast_small(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    __shared__ double scratch[WARPS];
    __shared__ Flags flags;
    // Blocks of a segment are counted as pairs are where rows are many.
    unsigned index = 0;
    while (index + 1 < problem.n_segments && blockIdx.x >= problem.segments[index + 1].first_pair) ++index;
    double loss = 0.0;
    // The first block goes through all segments, as it has the loss of all.
    for (unsigned turn = 0; turn < (blockIdx.x == 0 ? problem.n_segments : 1); ++turn) {
        const unsigned at = blockIdx.x == 0 ? turn : index;
        const Segment& segment = problem.segments[at];
        const Rows rows(shared, segment, problem.n_positions);
        __syncthreads();
        if (threadIdx.x == 0) flags = {0, 0};
        __syncthreads();
        load(problem, segment, rows, flags);
        __syncthreads();
        const float scale = float(1.0 / segment.temperature) * LOG2_E;
        sum_rows(segment, rows, scale, flags.has_negatives != 0);
        __syncthreads();
        const Total total = add_up(segment, rows, flags, scratch);
        loss += segment.weight * total.loss;
        const unsigned row = (blockIdx.x - segment.first_pair) * TILE + threadIdx.x / WARP_SIZE * 16;
        if (at == index && problem.gradient && row < rows.n) {
            gradient(problem, segment, rows, row, scale, total);
        }
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) *problem.loss = float(loss);
}
EXPORT(contrast_small);
