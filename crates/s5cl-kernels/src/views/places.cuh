// Steps that move pixels, with the bytes of s5cl-augment: where a pixel of the result comes from.
#pragma once

#include "program.cuh"

// An image that is read: a word a pixel in the memory of the block, or three bytes a pixel in that of
// the tiles, which begins `skipped` bytes behind the first word.
struct Source {
    const uint32_t *words, *tile;
    unsigned skipped;
    bool is_tile;

    // The lowest byte is red; of a tile, the highest is anything.
    DEVICE uint32_t pixel(unsigned index) const {
        if (!is_tile) return words[index];
        const unsigned byte = skipped + 3 * index;
        const uint32_t* const at = tile + byte / 4;
        return __funnelshift_r(__ldg(at), __ldg(at + 1), 8 * (byte % 4));
    }
};

struct Size { unsigned width, height; };

// The pixel that a symmetry brings to (x, y).
DEVICE unsigned seen_through(uint32_t symmetry, Size size, unsigned x, unsigned y) {
    const unsigned u = symmetry & 2 ? size.width - 1 - x : x, v = symmetry & 4 ? size.height - 1 - y : y;
    return symmetry & 1 ? u * size.width + v : v * size.width + u;
}

constexpr unsigned TAP_BITS = 22;

// What place `place` of `n_out` takes from `n_in` places, at most as many, in a part that begins at
// `begin`: two neighbors, and their weights in units of 2^-22.
DEVICE uint4 taps(unsigned place, unsigned n_in, unsigned n_out, unsigned begin) {
    const double center = __dmul_rn(double(place) + 0.5, double(n_in) / double(n_out));
    const unsigned low = unsigned(fmax(center - 1.0 + 0.5, 0.0));
    const unsigned high = min(unsigned(center + 1.0 + 0.5), n_in);
    const auto weight = [&](unsigned x) { return fmax(1.0 - fabs(double(x) + 0.5 - center), 0.0); };
    // By a rounding there can be a third neighbor, whose weight is nothing beside the others.
    double total = 0.0;
    for (unsigned x = low; x < high; ++x) total += weight(x);
    const auto share = [&](unsigned x) {
        return x < high ? unsigned(weight(x) / total * double(1 << TAP_BITS) + 0.5) : 0u;
    };
    return make_uint4(begin + low, begin + min(low + 1, n_in - 1), share(low), share(low + 1));
}

DEVICE unsigned weighed(unsigned a, unsigned b, uint4 taps) {
    return min((a * taps.z + b * taps.w + (1u << (TAP_BITS - 1))) >> TAP_BITS, 255u);
}

// A pixel of a part that is scaled: along x first, in whole levels.
DEVICE uint32_t scaled(const Source& source, unsigned width, uint4 along_x, uint4 along_y) {
    const unsigned top = along_y.x * width, bottom = along_y.y * width;
    const uint32_t a = source.pixel(top + along_x.x), b = source.pixel(top + along_x.y);
    const uint32_t c = source.pixel(bottom + along_x.x), d = source.pixel(bottom + along_x.y);
    uint32_t result = 0;
#pragma unroll
    for (unsigned channel = 0; channel < 3; ++channel) {
        const unsigned above = weighed(byte_of(a, channel), byte_of(b, channel), along_x);
        const unsigned below = weighed(byte_of(c, channel), byte_of(d, channel), along_x);
        result |= weighed(above, below, along_y) << 8 * channel;
    }
    return result;
}

// Bits behind the point of a coordinate, and of a weight along one axis.
constexpr unsigned FRACTION_BITS = 32, WEIGHT_BITS = 6;

DEVICE int64_t fixed_point(double value) { return llround(value * 4294967296.0); }

// One coordinate of where a row of a warp begins; `numbers` are a row of its map.
DEVICE int64_t row_start(const uint32_t* numbers, unsigned y) {
    const double moved = __dmul_rn(long_number(numbers + 2), double(y));
    const double place = __dadd_rn(moved, long_number(numbers + 4));
    // Half of a weight's last bit, so that cutting a place off rounds it.
    return fixed_point(place) + (int64_t(1) << (FRACTION_BITS - WEIGHT_BITS - 1));
}

// The pixel that stands at `place` of `n` pixels mirrored again and again.
DEVICE unsigned mirrored(int place, unsigned n) {
    if (n == 1) return 0;
    const unsigned period = 2 * (n - 1), within = unsigned(abs(place)) % period;
    return min(within, period - within);
}

// The pixel at a place in fixed point, bilinear.
DEVICE uint32_t interpolated(const Source& source, Size size, int64_t place_x, int64_t place_y) {
    const int x = int(place_x >> FRACTION_BITS), y = int(place_y >> FRACTION_BITS);
    const unsigned mask = (1u << WEIGHT_BITS) - 1;
    const unsigned wx = unsigned(place_x >> (FRACTION_BITS - WEIGHT_BITS)) & mask;
    const unsigned wy = unsigned(place_y >> (FRACTION_BITS - WEIGHT_BITS)) & mask;
    unsigned left = unsigned(x), right = left + 1, top = unsigned(y), bottom = top + 1;
    // As unsigned numbers, negative places are large.
    if (left >= size.width - 1 || top >= size.height - 1) {
        left = mirrored(x, size.width), right = mirrored(x + 1, size.width);
        top = mirrored(y, size.height), bottom = mirrored(y + 1, size.height);
    }
    top *= size.width, bottom *= size.width;
    const uint32_t a = source.pixel(top + left), b = source.pixel(top + right);
    const uint32_t c = source.pixel(bottom + left), d = source.pixel(bottom + right);
    const unsigned at_d = wx * wy, at_c = (wy << WEIGHT_BITS) - at_d, at_b = (wx << WEIGHT_BITS) - at_d;
    const unsigned at_a = (1u << 2 * WEIGHT_BITS) - at_b - at_c - at_d;
    uint32_t result = 0;
#pragma unroll
    for (unsigned channel = 0; channel < 3; ++channel) {
        const unsigned sum = byte_of(a, channel) * at_a + byte_of(b, channel) * at_b +
                             byte_of(c, channel) * at_c + byte_of(d, channel) * at_d;
        result |= (sum + (1u << (2 * WEIGHT_BITS - 1))) >> 2 * WEIGHT_BITS << 8 * channel;
    }
    return result;
}
