// Products of tiles of tokens, which lie in shared memory as rows of DIM numbers of their type, what
// a head does not have filled up with zeros. Each warp has the products of 16 rows of its block's own
// tile with a tile of other tokens in registers. Numbers of 16 bits are multiplied by the matrix
// instructions (m16n8k16, sums in f32), f32 by plain multiplications and additions, exactly.
#pragma once

#include "maps.cuh"

// Threads of a block, and rows of its own tile: 16 a warp.
constexpr unsigned THREADS = 128, ROWS = 64;

// Rows [query, key, value] of tokens, each cut into heads; results are rows of a third of that.
struct Heads {
    uint32_t n_tokens, n_heads, dim;
    // Whether rows are made of whole aligned vectors of 16 bytes.
    uint32_t is_wide;
    // Of the scores, which are exponents to base 2 behind it; and of their gradients.
    float exponent_scale, scale;

    DEVICE size_t width() const { return size_t(n_heads) * dim; }
};

// The head that a block works for, and its first own row.
struct Head {
    unsigned head, first;
    size_t image;

    DEVICE static Head of_block(const Heads& heads) {
        const unsigned n_tiles = ceil_div(heads.n_tokens, ROWS);
        const unsigned of_all = blockIdx.x / n_tiles;
        return {of_all % heads.n_heads, blockIdx.x % n_tiles * ROWS, of_all / heads.n_heads};
    }
    // Where the first token's query (0), key (1) or value (2) begins.
    DEVICE size_t operand(const Heads& heads, unsigned part) const {
        return (image * heads.n_tokens * 3 + part) * heads.width() + head * heads.dim;
    }
    DEVICE size_t result(const Heads& heads) const {
        return image * heads.n_tokens * heads.width() + head * heads.dim;
    }
    // Of what there is one of for each row.
    DEVICE size_t rows(const Heads& heads) const {
        return (image * heads.n_heads + head) * heads.n_tokens;
    }
};

// Rows of DIM numbers in shared memory, 16 bytes a unit: those that are read together lie in
// different banks.
template <class T, unsigned DIM> struct Tile {
    static constexpr unsigned UNIT = 16 / sizeof(T), UNITS = DIM / UNIT;
    unsigned char* memory;

    DEVICE unsigned char* at(unsigned row, unsigned unit) const {
        return memory + row * (DIM * sizeof(T)) + ((unit ^ (row % 8)) * 16);
    }
    DEVICE static unsigned bytes(unsigned rows) { return rows * DIM * sizeof(T); }
};

// Copies N rows from the token `first` on, `step` numbers apart; there in any thread behind the next
// wait and barrier. What is beyond the tokens or the head becomes zero.
template <unsigned N, class T, unsigned DIM>
DEVICE void fetch(const Tile<T, DIM>& to, const T* from, size_t step, unsigned first,
                  const Heads& heads) {
    constexpr unsigned UNIT = Tile<T, DIM>::UNIT, UNITS = Tile<T, DIM>::UNITS;
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < N * UNITS; i += THREADS) {
        const unsigned row = i / UNITS, unit = i % UNITS, token = first + row;
        const bool is_there = token < heads.n_tokens && unit * UNIT < heads.dim;
        const T* const source = from + (is_there ? token * step + unit * UNIT : 0);
        if (heads.is_wide) {
            copy_async_16(to.at(row, unit), source, is_there);
            continue;
        }
        Vector<T, UNIT> values;
#pragma unroll
        for (unsigned j = 0; j < UNIT; ++j) {
            const bool has_value = is_there && unit * UNIT + j < heads.dim;
            values.values[j] = has_value ? source[j] : from_float<T>(0.0f);
        }
        store(reinterpret_cast<T*>(to.at(row, unit)), values);
    }
}

// What a lane has of 16 rows and N columns: [n][0..2] are columns 8 n + 2 (lane % 4) and the next of
// row lane / 4, [n][2..4] of row lane / 4 + 8.
template <unsigned N> using Sums = float[N / 8][4];

template <unsigned N> DEVICE void clear(float (&sums)[N][4]) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[n][i] = 0.0f;
    }
}

DEVICE void multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16) {
    multiply_add_f16(sums, a, b);
}
DEVICE void multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16) {
    multiply_add_bf16(sums, a, b);
}

// sums = the warp's rows of `own` times the COLS rows of `other`.
template <unsigned COLS, class T, unsigned DIM>
DEVICE void multiply_rows(Sums<COLS>& sums, const Tile<T, DIM>& own, const Tile<T, DIM>& other) {
    const unsigned lane = threadIdx.x % WARP_SIZE, first = threadIdx.x / WARP_SIZE * 16;
    clear(sums);
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (unsigned k = 0; k < DIM / 16; ++k) {
            uint32_t a[4];
            load_matrices(a, own.at(first + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (unsigned n = 0; n < COLS / 16; ++n) {
                uint32_t b[4];
                load_matrices(b, other.at(16 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
                multiply_add(sums[2 * n], a, {b[0], b[1]}, T());
                multiply_add(sums[2 * n + 1], a, {b[2], b[3]}, T());
            }
        }
    } else {
#pragma unroll 2
        for (unsigned unit = 0; unit < DIM / 4; ++unit) {
            const float4 a[2] = {
                *reinterpret_cast<const float4*>(own.at(first + lane / 4, unit)),
                *reinterpret_cast<const float4*>(own.at(first + lane / 4 + 8, unit))};
#pragma unroll
            for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
                for (unsigned i = 0; i < 4; ++i) {
                    const unsigned col = 8 * n + 2 * (lane % 4) + i % 2;
                    const float4 b = *reinterpret_cast<const float4*>(other.at(col, unit));
                    float& sum = sums[n][i];
                    sum = fmaf(a[i / 2].x, b.x, sum);
                    sum = fmaf(a[i / 2].y, b.y, sum);
                    sum = fmaf(a[i / 2].z, b.z, sum);
                    sum = fmaf(a[i / 2].w, b.w, sum);
                }
            }
        }
    }
}

// sums += weights of COLS columns times the COLS rows of `other`.
template <unsigned COLS, class T, unsigned DIM>
DEVICE void add_rows(Sums<DIM>& sums, const Sums<COLS>& weights, const Tile<T, DIM>& other) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (unsigned k = 0; k < COLS / 16; ++k) {
            uint32_t a[4];
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const float* const pair = weights[2 * k + i / 2] + i % 2 * 2;
                a[i] = pack<T>(pair[0], pair[1]);
            }
#pragma unroll
            for (unsigned n = 0; n < DIM / 16; ++n) {
                uint32_t b[4];
                load_matrices_transposed(b, other.at(16 * k + lane % 16, 2 * n + lane / 16));
                multiply_add(sums[2 * n], a, {b[0], b[1]}, T());
                multiply_add(sums[2 * n + 1], a, {b[2], b[3]}, T());
            }
        }
    } else {
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
// More at a time take more registers than there are.
#pragma unroll 1
            for (unsigned pair = 0; pair < 4; ++pair) {
                // The weights of two columns are in one of the four lanes of a row.
                const unsigned from = lane / 4 * 4 + pair;
#pragma unroll
                for (unsigned i = 0; i < 2; ++i) {
                    const float upper = __shfl_sync(WHOLE_WARP, weights[n][i], from);
                    const float lower = __shfl_sync(WHOLE_WARP, weights[n][2 + i], from);
                    const unsigned row = 8 * n + 2 * pair + i;
#pragma unroll
                    for (unsigned m = 0; m < DIM / 8; ++m) {
                        const unsigned char* const unit = other.at(row, 2 * m + lane % 4 / 2);
                        const float2 b = *reinterpret_cast<const float2*>(unit + lane % 2 * 8);
                        sums[m][0] = fmaf(upper, b.x, sums[m][0]);
                        sums[m][1] = fmaf(upper, b.y, sums[m][1]);
                        sums[m][2] = fmaf(lower, b.x, sums[m][2]);
                        sums[m][3] = fmaf(lower, b.y, sums[m][3]);
                    }
                }
            }
        }
    }
}

// The sum, and the maximum, over the four lanes of a row.
DEVICE float row_sum(float value) {
    value += __shfl_xor_sync(WHOLE_WARP, value, 1);
    return value + __shfl_xor_sync(WHOLE_WARP, value, 2);
}
DEVICE float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(WHOLE_WARP, value, 1));
    return fmaxf(value, __shfl_xor_sync(WHOLE_WARP, value, 2));
}

// Writes the warp's rows from the token `first` on, the upper and lower ones times a factor each.
template <class T, unsigned DIM>
DEVICE void write_rows(T* to, size_t step, unsigned first, const Heads& heads,
                       const float (&sums)[DIM / 8][4], const float (&factors)[2]) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    const unsigned row = first + threadIdx.x / WARP_SIZE * 16 + lane / 4;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const unsigned token = row + 8 * half;
        if (token >= heads.n_tokens) continue;
        T* const out = to + token * step;
#pragma unroll
        for (unsigned n = 0; n < DIM / 8; ++n) {
            const unsigned col = 8 * n + 2 * (lane % 4);
            const float pair[2] = {sums[n][2 * half] * factors[half],
                                   sums[n][2 * half + 1] * factors[half]};
            if (heads.is_wide && col < heads.dim) {
                store_floats(out + col, pair);
            } else {
                if (col < heads.dim) out[col] = from_float<T>(pair[0]);
                if (col + 1 < heads.dim) out[col + 1] = from_float<T>(pair[1]);
            }
        }
    }
}

#define FOR_EACH_ATTENTION(DEFINE)                                                                 \
    DEFINE(f32, float, 64) DEFINE(bf16, bf16, 64) DEFINE(f16, f16, 64) DEFINE(f32, float, 128)     \
    DEFINE(bf16, bf16, 128) DEFINE(f16, f16, 128)
