// Which pairs of tiles a block of the symmetric pass multiplies.
#pragma once

#include "contrast.cuh"

// The tiles above the diagonal of two blocks: tiles of `WIDTH` columns from first to last, and for
// each its tiles of rows.
template <unsigned WIDTH>
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
    DEVICE bool is_first_row() const { return row == first_row; }
    DEVICE bool is_last_row() const { return row + TILE >= min(end_row, col + WIDTH); }

    DEVICE void advance() {
        if (is_last_row()) {
            row = first_row;
            col += WIDTH;
        } else {
            row += TILE;
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
