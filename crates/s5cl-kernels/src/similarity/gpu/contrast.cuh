// What the kernels of the contrastive loss share: where everything lies, and the stream of pieces
// of rows through shared memory to the matrix instructions.
//
// Rows take part in the order of (segment, label, index). A segment begins at a position that is a
// multiple of TILE; the positions behind its last row are padding, rows of zeros with no label.
#pragma once

#include "device.cuh"

// Positions of a tile of rows, and of a tile of columns.
constexpr unsigned TILE = 128, COLS = 64;
// Numbers of a row that are in shared memory at a time.
constexpr unsigned CHUNK = 64;
// Threads of the kernels that multiply: a warp has 16 rows of a tile.
constexpr unsigned THREADS = 256;
// Pieces of rows that are on their way or in use.
constexpr unsigned STAGES = 3;
constexpr unsigned MOST_SEGMENTS = 16;
// Powers are multiplied with this on their way to 16 bits, where small numbers are coarse.
constexpr float WEIGHT_SCALE = 8192.0f, LOG2_WEIGHT_SCALE = 13.0f;

enum Reduction : uint32_t { MEAN_VALID, PML_AVG_NON_ZERO, SUP_CONTRAST_MEAN_ALL };
// Which products of the halves of numbers are summed: the upper halves alone, all but that of both
// lower ones where two tiles have a label in common, or those everywhere.
enum Precision : uint32_t { FAST, MIXED, EXACT };

struct Segment {
    uint32_t first_row, n_rows, first_position, reduction;
    // Tiles of a block of the symmetric pass, and such blocks.
    uint32_t block_tiles, n_blocks;
    // Pairs of such blocks in the segments before this one.
    uint32_t first_pair, unused;
    double temperature, weight, base_temperature;
};

// What is known of a segment only on the device.
struct State {
    double temperature, scale, loss;
    uint32_t is_not_finite, unused;
};

struct Problem {
    // Given: rows [n, dim], a label for each, and temperatures by segment or nothing.
    const float* rows;
    const uint32_t* labels;
    const float* temperatures;
    // By position: its row, its label, the row's halves and inverse norm. Halves lie [position,
    // width], or, where they are tiled, [chunk, position, CHUNK] with the 16 bytes of a row in the
    // order of `place`.
    uint32_t* order;
    uint32_t* sorted_labels;
    uint16_t* high;
    uint16_t* low;
    float* inverse_norms;
    // Four arrays by row for the sort.
    uint32_t* sorting;
    // Sums of the first and of the last run of labels in a tile, [tile, 2, dim].
    double* run_sums;
    // By position: the mean similarity to its positives, and their number.
    double* means;
    uint32_t* n_positives;
    // Sums of powers [block, position] of the symmetric pass.
    float* partial_sums;
    // By position: the largest exponent and the sum of powers relative to it (or to the common
    // shift), what a power is multiplied with, and what a positive takes away.
    float* maxima;
    float* sums;
    float* shares;
    float* pulls;
    // By tile: sum of losses, number of anchors that count, sum for the temperature's gradient.
    double* tile_sums;
    State* states;
    uint32_t* ticket;
    // Results: the loss, the loss of each row or nothing, the gradient of unit rows by position
    // [position, width], and behind the backward pass the gradient [n, dim] and of temperatures.
    float* loss;
    float* anchor_losses;
    float* unit_gradient;
    const float* from_above;
    float* gradient;
    float* temperature_gradient;
    uint32_t n_segments, n_positions, dim, width;
    uint32_t precision, is_tiled;
    Segment segments[MOST_SEGMENTS];
};

// Temperatures from here on allow one shift for all powers of a segment: exp(-2 / t) is still a
// normal number of 32 bits.
constexpr double SMALLEST_COMMON_TEMPERATURE = 0.0229;

DEVICE bool has_common_shift(double temperature) {
    return temperature >= SMALLEST_COMMON_TEMPERATURE;
}

// The segment that holds a position.
DEVICE unsigned segment_of(const Problem& problem, unsigned position) {
    unsigned index = 0;
    while (index + 1 < problem.n_segments
           && position >= problem.segments[index + 1].first_position) ++index;
    return index;
}

// Where a segment's rows end.
DEVICE unsigned end_of(const Segment& segment) { return segment.first_position + segment.n_rows; }

// Whether rows [row, row + TILE) and columns [col, col + COLS) have a label in common; both begin
// within the segment, whose labels are in order.
DEVICE bool meets_a_label(const Problem& problem, const Segment& segment, unsigned row,
                          unsigned col) {
    const uint32_t* labels = problem.sorted_labels;
    const unsigned end = end_of(segment);
    const uint32_t last_row = labels[min(row + TILE, end) - 1];
    const uint32_t last_col = labels[min(col + COLS, end) - 1];
    return labels[col] <= last_row && labels[row] <= last_col;
}

// Byte of 16 bytes `unit` of a row of CHUNK numbers: rows that are read together lie in different
// banks.
DEVICE unsigned place(unsigned row, unsigned unit) {
    return row * (CHUNK * 2) + ((unit ^ (row % 8)) * 16);
}

// Where number `d` of a position lies among the halves.
DEVICE size_t half_at(const Problem& problem, unsigned position, unsigned d) {
    if (!problem.is_tiled) return size_t(position) * problem.width + d;
    const size_t row = size_t(d / CHUNK) * problem.n_positions + position;
    return row * CHUNK + (d % CHUNK / 8 ^ position % 8) * 8 + d % 8;
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

// Which pieces the product of two tiles takes: `n_chunks` for each product of halves.
struct Pieces {
    unsigned n_products, n_chunks;

    DEVICE unsigned count() const { return n_products * n_chunks; }

    // Fetches piece `index` of the product of the rows at `row` with the columns at `col`.
    DEVICE void fetch(const Problem& problem, Stage& stage, unsigned row, unsigned col,
                      unsigned index) const {
        const unsigned product = index / n_chunks, chunk = index % n_chunks;
        const uint16_t* of_rows = product == 2 ? problem.low : problem.high;
        const uint16_t* of_cols = product == 1 ? problem.low : problem.high;
        const size_t width = problem.width;
        fetch_rows<TILE>(stage.rows, of_rows + row * width + chunk * CHUNK, problem.width);
        fetch_rows<COLS>(stage.cols, of_cols + col * width + chunk * CHUNK, problem.width);
    }
};

DEVICE Pieces pieces_of(const Problem& problem, const Segment& segment, unsigned row,
                        unsigned col) {
    const bool is_whole = problem.precision == EXACT
        || (problem.precision == MIXED && meets_a_label(problem, segment, row, col));
    return {is_whole ? 3u : 1u, problem.width / CHUNK};
}

// Similarities of 16 rows of a warp with COLS columns: [n][0..2] are columns 8 n + 2 (lane % 4) and
// the next of row lane / 4, [n][2..4] of row lane / 4 + 8.
using Similarities = float[COLS / 8][4];

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
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) sums[n][i] = 0.0f;
    }
    for (unsigned piece = 0; piece < pieces.count(); ++piece) {
        multiply_piece(sums, stream.take());
    }
}
