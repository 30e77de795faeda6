// Sums of powers of the similarities of every row with all others, the forward pass.
//
// contrast_powers      Grid: pairs of blocks of tiles. Block: 256 threads. Shared: the stream (72
//                      KiB), two numbers for each row of a block, 2 KiB. Every pair of rows is
//                      multiplied once, for both. Products and sums of a block in f32.
// contrast_own_powers  Grid: tiles of 128 rows. Block: 256 threads. Shared: the stream. Every row
//                      with a shift of its own, for temperatures too small for a common one.
#include "pairs.cuh"
#include "weights.cuh"

constexpr unsigned WARPS = THREADS / WARP_SIZE;

// What the symmetric pass multiplies next.
struct PairPlan {
    const Problem& problem;
    const Segment& segment;
    Pairs<COLS> pairs;
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
    Pairs<COLS> pairs(segment, upper, lower);
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
        add_powers(similarities, scale, is_masked, own_row, own_col, end, row_sums, col_sums);
        keep_row_sums(row_sums, of_rows + (own_row - pairs.first_row));
        if (!pairs.is_last_row()) continue;
        keep_col_sums<COLS / 8>(col_sums, of_warps + warp * COLS);
        __syncthreads();
        if (threadIdx.x < COLS) {
            float sum = 0.0f;
            for (unsigned i = 0; i < WARPS; ++i) sum += of_warps[i * COLS + threadIdx.x];
            of_cols[col - pairs.first_col + threadIdx.x] = sum;
        }
    }
    stream.finish();
    write_partial_sums(problem, of_rows, of_cols, upper, lower, pairs.first_row, pairs.first_col, size,
                       end, threadIdx.x, THREADS);
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
