// Steps that change the color of a pixel, with the bits of s5cl-augment: the same IEEE operations in
// the same order. A product that is added to something is never fused with the sum (`times`), and
// conversions between bytes and numbers go through sums with 2^23, as the units of a GPU that
// convert are few.
#pragma once

#include "program.cuh"

// Whole numbers from 0 to 255, between the steps.
struct Color { float red, green, blue; };

// Of the image before a step: the mean grey level, or the lowest intensity and what stretches
// intensities to bytes.
struct Statistic { float from, scale; };

constexpr float TWO_23 = 8388608.0f;

DEVICE float times(float a, float b) { return __fmul_rn(a, b); }
// Rounds down a number that is not below 0.
DEVICE float whole(float value) { return __fadd_rz(value, TWO_23) - TWO_23; }
// The nearest whole number, of two the even one.
DEVICE float nearest(float value) { return (value + TWO_23) - TWO_23; }
DEVICE float between(float low, float value, float high) { return fminf(fmaxf(value, low), high); }

template <unsigned CHANNEL> DEVICE float channel_of(uint32_t pixel) {
    return __uint_as_float(__byte_perm(pixel, 0x4b000000u, 0x7440u + CHANNEL)) - TWO_23;
}
DEVICE Color unpacked(uint32_t pixel) {
    return {channel_of<0>(pixel), channel_of<1>(pixel), channel_of<2>(pixel)};
}
DEVICE uint32_t packed(const Color& color) {
    const uint32_t red = __float_as_uint(color.red + TWO_23);
    const uint32_t green = __float_as_uint(color.green + TWO_23);
    const uint32_t blue = __float_as_uint(color.blue + TWO_23);
    return __byte_perm(__byte_perm(red, green, 0x0040), blue, 0x5410);
}

// ITU-R 601 weights in units of 2^-16: whole numbers below 2^24, rounded.
DEVICE float gray_level(const Color& color) {
    const float sum = color.red * 19595.0f + color.green * 38470.0f + color.blue * 7471.0f + 32768.0f;
    return whole(sum * (1.0f / 65536.0f));
}

DEVICE float mix(float from, float value, float factor) {
    return whole(between(0.0f, from + times(factor, value - from), 255.0f));
}
DEVICE void mix(Color& color, float from, float factor) {
    color.red = mix(from, color.red, factor);
    color.green = mix(from, color.green, factor);
    color.blue = mix(from, color.blue, factor);
}

// The nearest number to a quotient of whole numbers, 0 <= a <= b < 256, or of numbers of `hue_of` by
// 6, from a reciprocal that may be off by some units in the last place.
DEVICE float quotient(float a, float b, float reciprocal) {
    const float about = times(a, reciprocal);
    return fmaf(fmaf(-b, about, a), reciprocal, about);
}
DEVICE float quotient(float a, float b) { return quotient(a, b, reciprocal_fast(b)); }

// The hue as a whole number in [0, 255]; of a grey pixel any. Of the three distances from the largest
// color, in units of the range, one is 0 and one is 1, so that `middle` is all that is left. A test
// goes through every hue and saturation, as s5cl-augment computes them in double precision.
DEVICE float hue_of(const Color& color, float value, float low, float range) {
    const float divisor = range > 0.0f ? range : 1.0f;
    const float middle = quotient(value - (color.red + color.green + color.blue - value - low), divisor);
    float sixths;
    if (color.red == value) {
        sixths = color.blue <= color.green ? 1.0f - middle : middle - 1.0f;
    } else if (color.green == value) {
        sixths = color.blue <= color.red ? 1.0f + middle : 3.0f - middle;
    } else {
        sixths = color.red <= color.green ? 3.0f + middle : 5.0f - middle;
    }
    float turn = quotient(sixths, 6.0f, 1.0f / 6.0f);
    if (turn < 0.0f) turn += 1.0f;
    return whole(turn * 255.0f);
}

DEVICE float turned(float value, float depth, float missing) {
    return whole(value - times(depth, between(0.0f, missing, 1.0f)) + 0.5f);
}
DEVICE void turn_hue(Color& color, float shift) {
    const float value = fmaxf(color.red, fmaxf(color.green, color.blue));
    const float low = fminf(color.red, fminf(color.green, color.blue));
    const float range = value - low;
    const float hue = hue_of(color, value, low, range) + shift;
    const float share = quotient(range, value > 0.0f ? value : 1.0f);
    const float saturation = whole(share * 255.0f);
    const float sixths = times(hue >= 256.0f ? hue - 256.0f : hue, 6.0f / 255.0f);
    const float depth = times(value * saturation, 1.0f / 255.0f);
    color.red = turned(value, depth, 2.0f - fabsf(sixths - 3.0f));
    color.green = turned(value, depth, fabsf(sixths - 2.0f) - 1.0f);
    color.blue = turned(value, depth, fabsf(sixths - 4.0f) - 1.0f);
}

// 2^x by the series that s5cl-augment has.
DEVICE float exp2_series(float x) {
    constexpr float ROUND = 12582912.0f;
    x = between(-120.0f, x, 120.0f);
    const float shifted = x + ROUND, rest = x - (shifted - ROUND);
    float series = 1.3333558e-3f;
    series = times(series, rest) + 9.618129e-3f;
    series = times(series, rest) + 5.550411e-2f;
    series = times(series, rest) + 2.402265e-1f;
    series = times(series, rest) + LN_2;
    const float power = __uint_as_float((__float_as_uint(shifted) << 23) + 0x3f800000u);
    return times(times(series, rest) + 1.0f, power);
}

// `matrix` is 9 words, row after row.
DEVICE Color product(const uint32_t* matrix, const Color& of) {
    const auto row = [&](unsigned to) {
        const float sum =
            times(number(matrix + 3 * to), of.red) + times(number(matrix + 3 * to + 1), of.green);
        return sum + times(number(matrix + 3 * to + 2), of.blue);
    };
    return {row(0), row(1), row(2)};
}

// `logarithms` are those of the intensities of the 256 bytes.
DEVICE Color densities(const float* logarithms, const Color& color) {
    const auto logarithm = [&](float value) {
        return logarithms[__float_as_uint(value + TWO_23) & 255u];
    };
    return {logarithm(color.red), logarithm(color.green), logarithm(color.blue)};
}

DEVICE void jitter_stains(Color& color, const uint32_t* numbers, const float* logarithms) {
    const Color moved = product(numbers, densities(logarithms, color));
    const auto level = [&](float logarithm, unsigned channel) {
        const float intensity = exp2_series(logarithm + number(numbers + 9 + channel));
        return nearest(between(0.0f, 255.0f * intensity, 255.0f));
    };
    color = {level(moved.red, 0), level(moved.green, 1), level(moved.blue, 2)};
}

template <unsigned N, class Change> DEVICE void each(Color (&colors)[N], const Change& change) {
#pragma unroll
    for (unsigned i = 0; i < N; ++i) change(colors[i]);
}

// Intensities in [0, 1] after a jitter of stains that are not below 0.
template <unsigned N>
DEVICE void to_jittered_intensities(Color (&colors)[N], const uint32_t* numbers, const float* logarithms) {
    const auto jittered = [&](float stain, unsigned which) {
        return times(number(numbers + 9 + which), fmaxf(stain, 0.0f)) + number(numbers + 12 + which);
    };
    const auto intensity = [](float logarithm) { return between(0.0f, exp2_series(logarithm), 1.0f); };
    each(colors, [&](Color& color) { color = product(numbers, densities(logarithms, color)); });
    each(colors, [&](Color& color) {
        color = {jittered(color.red, 0), jittered(color.green, 1), jittered(color.blue, 2)};
    });
    each(colors, [&](Color& color) { color = product(numbers + 15, color); });
    each(colors, [&](Color& color) {
        color = {intensity(color.red), intensity(color.green), intensity(color.blue)};
    });
}

template <unsigned N>
DEVICE void stretch_stains(Color (&colors)[N], const uint32_t* numbers, const float* logarithms,
                           Statistic statistic) {
    const auto level = [&](float intensity) {
        return whole(between(0.0f, times(intensity - statistic.from, statistic.scale), 255.0f));
    };
    to_jittered_intensities(colors, numbers, logarithms);
    each(colors, [&](Color& color) { color = {level(color.red), level(color.green), level(color.blue)}; });
}

// One step of several pixels.
template <unsigned N>
DEVICE void change_colors(Color (&colors)[N], const uint32_t* step, const float* logarithms,
                          Statistic statistic) {
    const uint32_t* const numbers = step + 1;
    const float amount = number(numbers);
    switch (*step) {
        case BRIGHTNESS: each(colors, [&](Color& color) { mix(color, 0.0f, amount); }); break;
        case CONTRAST: each(colors, [&](Color& color) { mix(color, statistic.from, amount); }); break;
        case SATURATION: each(colors, [&](Color& color) { mix(color, gray_level(color), amount); }); break;
        case HUE: each(colors, [&](Color& color) { turn_hue(color, amount); }); break;
        case STAINS: each(colors, [&](Color& color) { jitter_stains(color, numbers, logarithms); }); break;
        default: stretch_stains(colors, numbers, logarithms, statistic);
    }
}
