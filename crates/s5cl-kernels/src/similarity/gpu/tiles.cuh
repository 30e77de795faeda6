// Products of tiles of rows, on the matrix instructions: rows lie in two halves of 16 bits, pieces of
// them stream through shared memory, and each warp has the products of 16 rows of a tile with all
// its columns in registers.
#pragma once

#include "device.cuh"

// Rows of a tile, and columns of a tile, which are rows too.
constexpr unsigned TILE = 128, COLS = 64;
// Numbers of a row that are in shared memory at a time.
constexpr unsigned CHUNK = 64;
// Threads of the kernels that multiply: a warp has 16 rows of a tile.
constexpr unsigned THREADS = 256;
// Pieces of rows that are on their way or in use.
constexpr unsigned STAGES = 3;
// Weights are multiplied with this on their way to 16 bits, where small numbers are coarse.
constexpr float WEIGHT_SCALE = 8192.0f, LOG2_WEIGHT_SCALE = 13.0f;

// Rows [row, width], each number the sum of two of 16 bits. Whole tiles of them.
struct Halves {
    const uint16_t* high;
    const uint16_t* low;
};

// Byte of 16 bytes `unit` of a row of CHUNK numbers: rows that are read together lie in different
// banks.
DEVICE unsigned place(unsigned row, unsigned unit) {
    return row * (CHUNK * 2) + ((unit ^ (row % 8)) * 16);
}

struct alignas(128) Stage {
    unsigned char rows[TILE * CHUNK * 2];
    unsigned char cols[COLS * CHUNK * 2];
};

constexpr unsigned STREAM_BYTES = STAGES * sizeof(Stage);

// Copies `N` rows of one chunk.
template <unsigned N>
DEVICE void fetch_rows(unsigned char* to, const uint16_t* from, unsigned width) {
    constexpr unsigned UNITS = CHUNK / 8;
#pragma unroll
    for (unsigned i = threadIdx.x; i < N * UNITS; i += THREADS) {
        const unsigned row = i / UNITS, unit = i % UNITS;
        copy_async_16(to + place(row, unit), from + size_t(row) * width + unit * 8, true);
    }
}

// Pieces of the rows of tiles, in the order in which a kernel multiplies them. A kernel says what
// the next piece is (`Plan::next`), and takes one after another; the next are on their way.
template <class Plan>
struct Stream {
    unsigned char* memory;
    Plan plan;
    unsigned fetched = 0, taken = 0;

    DEVICE void fetch() {
        Stage& stage = reinterpret_cast<Stage*>(memory)[fetched % STAGES];
        plan.fetch(stage);
        copy_async_commit();
        ++fetched;
    }

    DEVICE void start() {
        for (unsigned i = 0; i + 1 < STAGES; ++i) fetch();
    }

    // The next piece, whole. The one taken before is free from here on.
    DEVICE const Stage& take() {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        fetch();
        return reinterpret_cast<const Stage*>(memory)[taken++ % STAGES];
    }

    // Waits for what nobody takes; the memory is free behind it.
    DEVICE void finish() {
        copy_async_wait<0>();
        __syncthreads();
    }
};

// Which pieces the product of two tiles takes: `n_chunks` for each product of halves, of which the
// first is that of the upper ones and the third and last that of the rows' lower ones.
struct Pieces {
    unsigned n_products, n_chunks;

    DEVICE unsigned count() const { return n_products * n_chunks; }

    // Fetches piece `index` of the product of the rows at `row` with the columns at `col`.
    DEVICE void fetch(const Halves& rows, const Halves& cols, Stage& stage, unsigned row,
                      unsigned col, unsigned index) const {
        const unsigned product = index / n_chunks, chunk = index % n_chunks;
        const unsigned width = n_chunks * CHUNK;
        const uint16_t* const of_rows = product == 2 ? rows.low : rows.high;
        const uint16_t* const of_cols = product == 1 ? cols.low : cols.high;
        fetch_rows<TILE>(stage.rows, of_rows + size_t(row) * width + chunk * CHUNK, width);
        fetch_rows<COLS>(stage.cols, of_cols + size_t(col) * width + chunk * CHUNK, width);
    }
};

// Similarities of 16 rows of a warp with COLS columns: [n][0..2] are columns 8 n + 2 (lane % 4) and
// the next of row lane / 4, [n][2..4] of row lane / 4 + 8.
using Similarities = float[COLS / 8][4];

DEVICE void clear(Similarities& sums) {
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[n][i] = 0.0f;
    }
}

DEVICE void add(float (*sums)[4], const Similarities& part) {
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[n][i] += part[n][i];
    }
}

// Adds the products of one piece.
DEVICE void multiply_piece(Similarities& sums, const Stage& stage) {
    const unsigned lane = threadIdx.x % WARP_SIZE, first = threadIdx.x / WARP_SIZE * 16;
#pragma unroll
    for (unsigned k = 0; k < CHUNK / 16; ++k) {
        uint32_t of_rows[4];
        load_matrices(of_rows, stage.rows + place(first + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (unsigned n = 0; n < COLS / 16; ++n) {
            uint32_t of_cols[4];
            const unsigned col = n * 16 + lane / 16 * 8 + lane % 8;
            load_matrices(of_cols, stage.cols + place(col, 2 * k + lane / 8 % 2));
            multiply_add_f16(sums[2 * n], of_rows, {of_cols[0], of_cols[1]});
            multiply_add_f16(sums[2 * n + 1], of_rows, {of_cols[2], of_cols[3]});
        }
    }
}

// Takes all pieces of one product.
template <class Plan>
DEVICE void multiply(Similarities& sums, Stream<Plan>& stream, const Pieces& pieces) {
    clear(sums);
    for (unsigned piece = 0; piece < pieces.count(); ++piece) {
        multiply_piece(sums, stream.take());
    }
}

// Adds the products of one piece as a sum of its own: the matrix instructions cut off what does not
// fit behind a long sum.
DEVICE void add_piece(Similarities& sums, const Stage& stage) {
    const unsigned lane = threadIdx.x % WARP_SIZE, first = threadIdx.x / WARP_SIZE * 16;
    uint32_t of_rows[CHUNK / 16][4];
#pragma unroll
    for (unsigned k = 0; k < CHUNK / 16; ++k) {
        load_matrices(of_rows[k], stage.rows + place(first + lane % 16, 2 * k + lane / 16));
    }
#pragma unroll
    for (unsigned n = 0; n < COLS / 16; ++n) {
        float parts[2][4] = {};
#pragma unroll
        for (unsigned k = 0; k < CHUNK / 16; ++k) {
            uint32_t of_cols[4];
            const unsigned col = n * 16 + lane / 16 * 8 + lane % 8;
            load_matrices(of_cols, stage.cols + place(col, 2 * k + lane / 8 % 2));
            multiply_add_f16(parts[0], of_rows[k], {of_cols[0], of_cols[1]});
            multiply_add_f16(parts[1], of_rows[k], {of_cols[2], of_cols[3]});
        }
#pragma unroll
        for (unsigned i = 0; i < 8; ++i) sums[2 * n + i / 4][i % 4] += parts[i / 4][i % 4];
    }
}

// `multiply` to more digits.
template <class Plan>
DEVICE void multiply_in_parts(Similarities& sums, Stream<Plan>& stream, const Pieces& pieces) {
    clear(sums);
    for (unsigned piece = 0; piece < pieces.count(); ++piece) add_piece(sums, stream.take());
}

// The weights of 16 rows and COLS columns as left operands of 16 bits.
using Weights = uint32_t[COLS / 16][4];

DEVICE void pack_weights(Weights& packed, const Similarities& weights) {
#pragma unroll
    for (unsigned k = 0; k < COLS / 16; ++k) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            const float* const pair = weights[2 * k + i / 2] + i % 2 * 2;
            packed[k][i] = pack<f16>(pair[0], pair[1]);
        }
    }
}

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
