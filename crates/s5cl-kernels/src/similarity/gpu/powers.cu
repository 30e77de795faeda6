// Sums of powers of the similarities of every row with all others, the forward pass.
//
// contrast_powers      Grid: pairs of blocks of tiles. Block: 256 threads. Shared: the stream (72
//                      KiB), two numbers for each row of a block, 2 KiB. Every pair of rows is
//                      multiplied once, for both. Products and sums of a block in f32.
// contrast_own_powers  Grid: tiles of 128 rows. Block: 256 threads. Shared: the stream. Every row
//                      with a shift of its own, for temperatures too small for a common one.
#include "contrast.cuh"

constexpr unsigned WARPS = THREADS / WARP_SIZE;

// The tiles above the diagonal of two blocks: columns from first to last, and for each its rows.
struct Pairs {
    unsigned first_row, end_row, first_col, end_col, row, col;

    DEVICE Pairs(const Segment& segment, unsigned upper, unsigned lower) {
        const unsigned size = segment.block_tiles * TILE, end = end_of(segment);
        first_row = row = segment.first_position + upper * size;
        end_row = min(first_row + size, end);
        first_col = col = segment.first_position + lower * size;
        end_col = min(first_col + size, end);
    }

    DEVICE bool is_done() const { return col >= end_col; }
    DEVICE bool is_last_row() const { return row + TILE >= min(end_row, col + COLS); }

    DEVICE void advance() {
        if (is_last_row()) {
            row = first_row;
            col += COLS;
        } else {
            row += TILE;
        }
    }
};

// What the symmetric pass multiplies next.
struct PairPlan {
    const Problem& problem;
    const Segment& segment;
    Pairs pairs;
    unsigned piece = 0;

    DEVICE void fetch(Stage& stage) {
        if (pairs.is_done()) return;
        const Pieces pieces = pieces_of(problem, segment, pairs.row, pairs.col);
        const Halves halves = halves_of(problem);
        pieces.fetch(halves, halves, stage, pairs.row, pairs.col, piece);
        if (++piece == pieces.count()) {
            piece = 0;
            pairs.advance();
        }
    }
};

// The segment and the two blocks of a pair, upper not behind lower.
DEVICE unsigned pair_of(const Problem& problem, unsigned pair, unsigned& upper, unsigned& lower) {
    unsigned index = 0;
    while (index + 1 < problem.n_segments && pair >= problem.segments[index + 1].first_pair) ++index;
    unsigned rest = pair - problem.segments[index].first_pair;
    for (lower = 0; rest > lower; ++lower) rest -= lower + 1;
    upper = rest;
    return index;
}

KERNEL(256, 2) contrast_powers(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    unsigned upper, lower;
    const unsigned index = pair_of(problem, blockIdx.x, upper, lower);
    const Segment& segment = problem.segments[index];
    const double temperature = problem.states[index].temperature;
    if (!has_common_shift(temperature)) return;
    const unsigned size = segment.block_tiles * TILE;
    float* const of_warps = reinterpret_cast<float*>(shared + STREAM_BYTES);
    float* const of_rows = of_warps + WARPS * COLS;
    float* const of_cols = of_rows + size;
    for (unsigned i = threadIdx.x; i < size; i += THREADS) of_rows[i] = of_cols[i] = 0.0f;

    const float scale = float(1.0 / temperature) * LOG2_E;
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned end = end_of(segment);
    Pairs pairs(segment, upper, lower);
    Stream<PairPlan> stream{shared, {problem, segment, pairs}};
    stream.start();
    float col_sums[COLS / 4] = {};
    for (; !pairs.is_done(); pairs.advance()) {
        const unsigned row = pairs.row, col = pairs.col;
        Similarities similarities;
        multiply(similarities, stream, pieces_of(problem, segment, row, col));
        const bool is_masked = row + TILE > col || col + COLS > end || row + TILE > end;
        const unsigned own_row = row + warp * 16 + lane / 4, own_col = col + 2 * (lane % 4);
        float row_sums[2] = {};
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                float power = exp2_fast(fmaf(similarities[n][i], scale, -scale));
                const unsigned i_row = own_row + 8 * (i / 2), i_col = own_col + 8 * n + i % 2;
                if (is_masked && !(i_row < i_col && i_col < end)) power = 0.0f;
                row_sums[i / 2] += power;
                col_sums[2 * n + i % 2] += power;
            }
        }
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            row_sums[i] += __shfl_xor_sync(WHOLE_WARP, row_sums[i], 1);
            row_sums[i] += __shfl_xor_sync(WHOLE_WARP, row_sums[i], 2);
            // No other thread has these rows.
            if (lane % 4 == 0) of_rows[own_row + 8 * i - pairs.first_row] += row_sums[i];
        }
        if (!pairs.is_last_row()) continue;
#pragma unroll
        for (unsigned i = 0; i < COLS / 4; ++i) {
            float sum = col_sums[i];
            for (unsigned bits = 4; bits < WARP_SIZE; bits *= 2) {
                sum += __shfl_xor_sync(WHOLE_WARP, sum, bits);
            }
            if (lane < 4) of_warps[warp * COLS + 8 * (i / 2) + 2 * lane + i % 2] = sum;
            col_sums[i] = 0.0f;
        }
        __syncthreads();
        if (threadIdx.x < COLS) {
            float sum = 0.0f;
            for (unsigned i = 0; i < WARPS; ++i) sum += of_warps[i * COLS + threadIdx.x];
            of_cols[col - pairs.first_col + threadIdx.x] = sum;
        }
    }
    stream.finish();
    // A block of rows has one sum for each block that it meets.
    const size_t n_positions = problem.n_positions;
    for (unsigned i = threadIdx.x; i < size; i += THREADS) {
        const unsigned at_row = pairs.first_row + i, at_col = pairs.first_col + i;
        if (upper == lower) {
            if (at_row < end) problem.partial_sums[upper * n_positions + at_row] = of_rows[i] + of_cols[i];
            continue;
        }
        if (at_row < end) problem.partial_sums[lower * n_positions + at_row] = of_rows[i];
        if (at_col < end) problem.partial_sums[upper * n_positions + at_col] = of_cols[i];
    }
}
EXPORT(contrast_powers);

// A tile of rows with all columns of its segment.
struct RowPlan {
    const Problem& problem;
    const Segment& segment;
    unsigned row, col, piece = 0;

    DEVICE void fetch(Stage& stage) {
        if (col >= end_of(segment)) return;
        const Pieces pieces = pieces_of(problem, segment, row, col);
        const Halves halves = halves_of(problem);
        pieces.fetch(halves, halves, stage, row, col, piece);
        if (++piece == pieces.count()) {
            piece = 0;
            col += COLS;
        }
    }
};

KERNEL(256, 2) contrast_own_powers(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    const unsigned row = blockIdx.x * TILE, index = segment_of(problem, row);
    const Segment& segment = problem.segments[index];
    const double temperature = problem.states[index].temperature;
    if (has_common_shift(temperature)) return;
    const float scale = float(1.0 / temperature) * LOG2_E;
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned end = end_of(segment), own_row = row + warp * 16 + lane / 4;
    Stream<RowPlan> stream{shared, {problem, segment, row, segment.first_position}};
    stream.start();
    const float infinity = __builtin_huge_valf();
    float maxima[2] = {-infinity, -infinity}, sums[2] = {};
    for (unsigned col = segment.first_position; col < end; col += COLS) {
        Similarities similarities;
        multiply(similarities, stream, pieces_of(problem, segment, row, col));
        const unsigned own_col = col + 2 * (lane % 4);
        float largest[2] = {maxima[0], maxima[1]};
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const unsigned i_row = own_row + 8 * (i / 2), i_col = own_col + 8 * n + i % 2;
                float& exponent = similarities[n][i];
                exponent = i_row == i_col || i_col >= end ? -infinity : exponent * scale;
                // Unlike fmaxf, this keeps what is no number.
                if (!(exponent <= largest[i / 2])) largest[i / 2] = exponent;
            }
        }
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            for (unsigned bits = 1; bits < 4; bits *= 2) {
                const float other = __shfl_xor_sync(WHOLE_WARP, largest[i], bits);
                if (!(other <= largest[i])) largest[i] = other;
            }
            // Nothing was seen yet: every power is 0, whatever it is relative to.
            const float shift = largest[i] == -infinity ? 0.0f : largest[i];
            sums[i] *= exp2_fast(maxima[i] - shift);
            maxima[i] = largest[i];
            largest[i] = shift;
        }
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                sums[i / 2] += exp2_fast(similarities[n][i] - largest[i / 2]);
            }
        }
    }
    stream.finish();
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
        sums[i] += __shfl_xor_sync(WHOLE_WARP, sums[i], 1);
        sums[i] += __shfl_xor_sync(WHOLE_WARP, sums[i], 2);
        if (lane % 4 == 0) {
            problem.maxima[own_row + 8 * i] = maxima[i];
            problem.sums[own_row + 8 * i] = sums[i];
        }
    }
}
EXPORT(contrast_own_powers);
