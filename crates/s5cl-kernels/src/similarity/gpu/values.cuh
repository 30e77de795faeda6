// Weights, packed to 16 bits, times the numbers of other rows: the second product of a backward
// pass with the portable instructions.
#pragma once

#include "weights.cuh"

// The weights of 16 rows and COLS columns as left operands of 16 bits.
using Weights = uint32_t[COLS / 16][4];

// What the weights lose in 16 bits.
DEVICE void keep_rest(Similarities& weights) {
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            weights[n][i] -= to_float(from_float<f16>(weights[n][i]));
        }
    }
}

// Adds weights times CHUNK numbers of COLS rows: [n][..] as in Similarities.
DEVICE void add_values(float (*sums)[4], const Weights& weights, const unsigned char* values) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (unsigned k = 0; k < COLS / 16; ++k) {
#pragma unroll
        for (unsigned n = 0; n < CHUNK / 16; ++n) {
            uint32_t of_cols[4];
            load_matrices_transposed(of_cols, values + place(k * 16 + lane % 16, 2 * n + lane / 16));
            multiply_add_f16(sums[2 * n], weights[k], {of_cols[0], of_cols[1]});
            multiply_add_f16(sums[2 * n + 1], weights[k], {of_cols[2], of_cols[3]});
        }
    }
}
