// What a view is made by: steps as words of 32 bits, a kind and its numbers, one step after another.
// program.rs writes them.
#pragma once

#include "device.cuh"

enum Kind : uint32_t {
    // Steps that move pixels.
    SYMMETRY,          // 1: transposed, 2: flipped in x, 4: flipped in y
    CROP,              // left, top, width, height
    AFFINE,            // two rows of three f64
    // Steps that change colors.
    BRIGHTNESS,        // factor
    CONTRAST,          // factor
    SATURATION,        // factor
    HUE,               // turn in 1/255, 1 to 255
    STAINS,            // matrix, row after row, and offset
    STRETCHED_STAINS,  // matrix to stains, alpha, beta, matrix from stains
};

// The words of a step, its kind included.
DEVICE unsigned words_of(uint32_t kind) {
    switch (kind) {
        case CROP: return 5;
        case AFFINE: return 13;
        case STAINS: return 13;
        case STRETCHED_STAINS: return 25;
        default: return 2;
    }
}

DEVICE bool moves_pixels(uint32_t kind) { return kind <= AFFINE; }

// Whether a step asks for a number about the whole image before it.
DEVICE bool needs_statistic(uint32_t kind) { return kind == CONTRAST || kind == STRETCHED_STAINS; }

DEVICE float number(const uint32_t* word) { return __uint_as_float(__ldg(word)); }

DEVICE double long_number(const uint32_t* words) {
    return __longlong_as_double(int64_t(uint64_t(__ldg(words + 1)) << 32 | __ldg(words)));
}

// A pixel is a word, its lowest byte red.
DEVICE unsigned byte_of(uint32_t pixel, unsigned channel) { return pixel >> 8 * channel & 255u; }
