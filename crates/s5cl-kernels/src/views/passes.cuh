// A view is made in passes over the image. A pass moves pixels once, changes their colors by any
// number of steps, and writes them: the last one to the result, any other to memory of the block,
// which stays in the caches. A step that needs a number about the whole image begins a new pass, and
// the pass before measures that number.
#pragma once

#include "places.cuh"

// A column in the lower half of a word, a row in the upper one.
DEVICE unsigned column_of(unsigned place) { return place & 0xffffu; }
DEVICE unsigned row_of(unsigned place) { return place >> 16; }

// The part of an image that a pass writes.
struct Window {
    unsigned left, top, right, bottom;

    DEVICE bool holds(unsigned place) const { return column_of(place) < right && row_of(place) < bottom; }
};

// What the passes of a block share.
struct Block {
    const uint32_t *tiles, *program;
    const float* logarithms;
    // 16 bytes for each column and row, and two images of words.
    uint4* table;
    uint32_t* images;
    Size size;
};

// What one pass does; steps are places in the program, 0 for none.
struct Pass {
    // Reads a tile, so many bytes behind the first one, or an image of the block.
    bool is_tile, is_last;
    uint64_t tile_bytes;
    unsigned from, to;
    // How pixels move.
    uint32_t kind;
    unsigned moves;
    // The color steps, and the one behind them, if it needs a statistic.
    unsigned steps, end, measured_for;
    Window window;
};

// Plans the next pass of a view, whose steps go on at `step`.
DEVICE void plan(const Block& block, Pass& pass, unsigned step, unsigned end, bool is_measured) {
    const uint32_t* const program = block.program;
    pass.kind = SYMMETRY;
    pass.moves = 0;
    if (step != end && moves_pixels(program[step])) {
        pass.kind = program[step];
        pass.moves = step;
        step += words_of(program[step]);
    }
    pass.steps = step;
    while (step != end && !moves_pixels(program[step]) &&
           (!needs_statistic(program[step]) || is_measured)) {
        is_measured = false;
        step += words_of(program[step]);
    }
    pass.end = step;
    pass.is_last = step == end;
    pass.measured_for = !pass.is_last && needs_statistic(program[step]) ? step : 0;
    pass.window = {0, 0, block.size.width, block.size.height};
    if (!pass.is_last && program[step] == CROP) {
        // Nothing beside the part is ever looked at.
        const unsigned left = program[step + 1], top = program[step + 2];
        pass.window = {left, top, left + program[step + 3], top + program[step + 4]};
    }
    // Where pixels stay, they are replaced where they are.
    pass.to = pass.is_tile ? 0 : pass.moves ? pass.from ^ 1 : pass.from;
}
