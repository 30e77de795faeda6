// What the kernels of the contrastive loss share: where everything lies, and which rows meet.
//
// Rows take part in the order of (segment, label, index). A segment begins at a position that is a
// multiple of TILE; the positions behind its last row are padding, rows of zeros with no label.
#pragma once

#include "tiles.cuh"

constexpr unsigned MOST_SEGMENTS = 16;

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
    // Results: the loss, the loss of each row or nothing, the gradient of unit rows
    // [split, position, width], and behind the backward pass the gradient [n, dim] and that of
    // temperatures.
    float* loss;
    float* anchor_losses;
    float* unit_gradient;
    const float* from_above;
    float* gradient;
    float* temperature_gradient;
    uint32_t n_segments, n_positions, dim, width;
    uint32_t precision, is_tiled;
    // Parts of the columns that the backward pass takes apart, where there are few tiles of rows.
    uint32_t n_splits, unused;
    Segment segments[MOST_SEGMENTS];
};

// Temperatures from here on allow one shift for all powers of a segment: exp(-2 / t) is still a
// normal number of 32 bits, with some room for similarities that are rounded.
constexpr double SMALLEST_COMMON_TEMPERATURE = 0.023;

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

// The columns of one split of the backward pass.
struct Columns {
    unsigned first, end;

    DEVICE Columns(const Problem& problem, const Segment& segment, unsigned split) {
        const unsigned n_tiles = ceil_div(segment.n_rows, TILE);
        const unsigned each = ceil_div(n_tiles, problem.n_splits);
        first = segment.first_position + min(split * each, n_tiles) * TILE;
        end = max(first, min(first + each * TILE, end_of(segment)));
    }
};

// Where a split leaves the gradient of a unit row.
DEVICE float* unit_gradient_of(const Problem& problem, unsigned split, unsigned position) {
    const size_t row = size_t(split) * problem.n_positions + position;
    return problem.unit_gradient + row * problem.width;
}

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

// Where the numbers of a position lie among the halves.
struct HalfPlaces {
    size_t start, chunk_stride;
    unsigned swizzle;

    DEVICE HalfPlaces(const Problem& problem, unsigned position) {
        const bool is_tiled = problem.is_tiled != 0;
        start = size_t(position) * (is_tiled ? CHUNK : problem.width);
        chunk_stride = is_tiled ? size_t(problem.n_positions) * CHUNK : CHUNK;
        swizzle = is_tiled ? position % 8 : 0;
    }
    DEVICE size_t of(unsigned d) const {
        return start + d / CHUNK * chunk_stride + (d % CHUNK / 8 ^ swizzle) * 8 + d % 8;
    }
};

DEVICE Halves halves_of(const Problem& problem) { return {problem.high, problem.low}; }

DEVICE Pieces pieces_of(const Problem& problem, const Segment& segment, unsigned row,
                        unsigned col) {
    const bool is_whole = problem.precision == EXACT
        || (problem.precision == MIXED && meets_a_label(problem, segment, row, col));
    return {is_whole ? 3u : 1u, problem.width / CHUNK};
}
