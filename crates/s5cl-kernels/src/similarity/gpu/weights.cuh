// From similarities to powers and their sums, and to the weights with which two rows pull and push
// each other: what a thread does with its part of a tile, whichever instructions multiplied it.
//
// A thread has two rows, 8 apart, and of every 8 columns two: [n][0..2] of the first row, [n][2..4]
// of the second. `row` is its first row, `col` its first column.
#pragma once

#include "contrast.cuh"

template <bool IS_MASKED, unsigned N>
DEVICE void add_powers_of(const float (&similarities)[N][4], float scale, unsigned row, unsigned col,
                          unsigned end, float (&row_sums)[2], float (&col_sums)[2 * N]) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            float power = exp2_fast(fmaf(similarities[n][i], scale, -scale));
            const unsigned i_row = row + 8 * (i / 2), i_col = col + 8 * n + i % 2;
            if (IS_MASKED && !(i_row < i_col && i_col < end)) power = 0.0f;
            row_sums[i / 2] += power;
            col_sums[2 * n + i % 2] += power;
        }
    }
}

// Adds the powers exp2(scale (similarity - 1)) to the sums of rows and columns; where the tile is
// masked, of pairs above the diagonal and before `end` alone.
template <unsigned N>
DEVICE void add_powers(const float (&similarities)[N][4], float scale, bool is_masked, unsigned row,
                       unsigned col, unsigned end, float (&row_sums)[2], float (&col_sums)[2 * N]) {
    if (is_masked) {
        add_powers_of<true>(similarities, scale, row, col, end, row_sums, col_sums);
    } else {
        add_powers_of<false>(similarities, scale, row, col, end, row_sums, col_sums);
    }
}

// Adds a thread's sums of rows to those of a block, which no other warp has.
DEVICE void keep_row_sums(float (&row_sums)[2], float* of_rows) {
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
        row_sums[i] += __shfl_xor_sync(WHOLE_WARP, row_sums[i], 1);
        row_sums[i] += __shfl_xor_sync(WHOLE_WARP, row_sums[i], 2);
        if (threadIdx.x % 4 == 0) of_rows[8 * i] += row_sums[i];
    }
}

// Leaves the sums of a warp's columns, and zeros for the next.
template <unsigned N>
DEVICE void keep_col_sums(float (&col_sums)[2 * N], float* of_warp) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (unsigned i = 0; i < 2 * N; ++i) {
        float sum = col_sums[i];
#pragma unroll
        for (unsigned bits = 4; bits < WARP_SIZE; bits *= 2) {
            sum += __shfl_xor_sync(WHOLE_WARP, sum, bits);
        }
        if (lane < 4) of_warp[8 * (i / 2) + 2 * lane + i % 2] = sum;
        col_sums[i] = 0.0f;
    }
}

// A block of rows has one partial sum for each block that it meets: thread `thread` of `n_threads`
// writes its part of those of the rows and columns of two blocks, `size` each.
DEVICE void write_partial_sums(const Problem& problem, const float* of_rows, const float* of_cols,
                               unsigned upper, unsigned lower, unsigned first_row,
                               unsigned first_col, unsigned size, unsigned end, unsigned thread,
                               unsigned n_threads) {
    const size_t n_positions = problem.n_positions;
    for (unsigned i = thread; i < size; i += n_threads) {
        const unsigned row = first_row + i, col = first_col + i;
        if (upper == lower) {
            if (row < end) problem.partial_sums[upper * n_positions + row] = of_rows[i] + of_cols[i];
            continue;
        }
        if (row < end) problem.partial_sums[lower * n_positions + row] = of_rows[i];
        if (col < end) problem.partial_sums[upper * n_positions + col] = of_cols[i];
    }
}

// What the backward pass must know of rows, by position; no maxima where the shift is common.
struct RowNumbers {
    const float* shares;
    const float* pulls;
    const float* maxima;
    const uint32_t* labels;
};

DEVICE RowNumbers numbers_of(const Problem& problem) {
    return {problem.shares, problem.pulls, problem.maxima, problem.sorted_labels};
}

// Those of a thread's two rows.
struct OwnRows {
    float shares[2], pulls[2], maxima[2];
    uint32_t labels[2];

    DEVICE OwnRows(const RowNumbers& numbers, unsigned row) {
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            shares[i] = numbers.shares[row + 8 * i];
            pulls[i] = numbers.pulls[row + 8 * i];
            maxima[i] = numbers.maxima ? numbers.maxima[row + 8 * i] : 0.0f;
            labels[i] = numbers.labels[row + 8 * i];
        }
    }
};

template <bool HAS_COMMON_SHIFT, bool IS_SPECIAL, unsigned N>
DEVICE void weigh_tile(float (&values)[N][4], const RowNumbers& numbers, const OwnRows& own,
                       unsigned row, unsigned col, float scale) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n) {
        const unsigned first = col + 8 * n;
        const float2 shares = *reinterpret_cast<const float2*>(numbers.shares + first);
        float2 pulls = {}, maxima = {};
        uint2 labels = {};
        if (IS_SPECIAL) {
            pulls = *reinterpret_cast<const float2*>(numbers.pulls + first);
            labels = *reinterpret_cast<const uint2*>(numbers.labels + first);
        }
        if (!HAS_COMMON_SHIFT) maxima = *reinterpret_cast<const float2*>(numbers.maxima + first);
#pragma unroll
        for (unsigned e = 0; e < 2; ++e) {
            const float share = e == 0 ? shares.x : shares.y, pull = e == 0 ? pulls.x : pulls.y;
            const float maximum = e == 0 ? maxima.x : maxima.y;
            const uint32_t label = e == 0 ? labels.x : labels.y;
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) {
                float& value = values[n][2 * i + e];
                float weight;
                if (HAS_COMMON_SHIFT) {
                    weight = exp2_fast(fmaf(value, scale, LOG2_WEIGHT_SCALE - scale))
                        * (own.shares[i] + share);
                } else {
                    const float exponent = fmaf(value, scale, LOG2_WEIGHT_SCALE);
                    weight = exp2_fast(exponent - own.maxima[i]) * own.shares[i]
                        + exp2_fast(exponent - maximum) * share;
                }
                if (IS_SPECIAL) {
                    if (own.labels[i] == label) weight -= own.pulls[i] + pull;
                    if (row + 8 * i == first + e) weight = 0.0f;
                }
                value = weight;
            }
        }
    }
}

// Similarities become weights: W = E (share_i + share_j) - [same label] (pull_i + pull_j), W_ii = 0;
// only a special tile has pairs of one label, the diagonal among them.
template <bool HAS_COMMON_SHIFT, unsigned N>
DEVICE void weigh(float (&values)[N][4], const RowNumbers& numbers, const OwnRows& own, unsigned row,
                  unsigned col, float scale, bool is_special) {
    if (is_special) {
        weigh_tile<HAS_COMMON_SHIFT, true>(values, numbers, own, row, col, scale);
    } else {
        weigh_tile<HAS_COMMON_SHIFT, false>(values, numbers, own, row, col, scale);
    }
}
