// How the pixels of a view are written: as bytes, or normalized.
#pragma once

#include "colors.cuh"

// A byte times `scale`, plus `shift`, for red, green and blue.
struct Normalization { float scale[3], shift[3]; };

DEVICE float by_channel(const float (&values)[3], unsigned channel) {
    return channel == 0 ? values[0] : channel == 1 ? values[1] : values[2];
}

template <class T> DEVICE T value_of(uint32_t pixel, unsigned channel, const Normalization& by) {
    const float level = __uint_as_float(0x4b000000u | byte_of(pixel, channel)) - TWO_23;
    return from_float<T>(times(level, by_channel(by.scale, channel)) + by_channel(by.shift, channel));
}
template <> DEVICE uint8_t value_of(uint32_t pixel, unsigned channel, const Normalization&) {
    return uint8_t(byte_of(pixel, channel));
}

// The pixel of one thread, as three values at `to`.
template <class T> DEVICE void put(T* to, uint32_t pixel, const Normalization& by) {
#pragma unroll
    for (unsigned channel = 0; channel < 3; ++channel) to[channel] = value_of<T>(pixel, channel, by);
}

// The pixels of a warp, which stand side by side: threads write neighboring values.
template <class T> DEVICE void put_row(T* to, uint32_t pixel, const Normalization& by) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (unsigned i = lane; i < 3 * WARP_SIZE; i += WARP_SIZE) {
        to[i] = value_of<T>(__shfl_sync(WHOLE_WARP, pixel, i / 3), i % 3, by);
    }
}
// Four bytes at a time, each word from two pixels; `to` must be a multiple of 4.
template <> DEVICE void put_row(uint8_t* to, uint32_t pixel, const Normalization&) {
    const unsigned lane = threadIdx.x % WARP_SIZE, from = 4 * lane / 3, skipped = lane % 3;
    const uint32_t first = __shfl_sync(WHOLE_WARP, pixel, from);
    const uint32_t second = __shfl_sync(WHOLE_WARP, pixel, from + 1);
    const uint32_t bytes = skipped == 0 ? 0x4210 : skipped == 1 ? 0x5421 : 0x6542;
    if (lane < 24) reinterpret_cast<uint32_t*>(to)[lane] = __byte_perm(first, second, bytes);
}

template <class T> DEVICE bool can_put_row(const T*) { return true; }
DEVICE bool can_put_row(const uint8_t* to) { return reinterpret_cast<uintptr_t>(to) % 4 == 0; }
