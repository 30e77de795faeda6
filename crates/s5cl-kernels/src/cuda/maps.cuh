// What the kernels on feature maps share. Maps are rows of channels; a thread takes WIDTH channels
// of a row at a time: as many as 16 bytes hold, or a single one where the channels do not divide.
//
//     FOR_EACH_TYPE(DEFINE)   DEFINE(suffix, type, WIDTH) for each type and width
#pragma once

#include "device.cuh"

#define FOR_EACH_TYPE(DEFINE)                                                              \
    DEFINE(f32, float, 1) DEFINE(f32_wide, float, 4) DEFINE(bf16, bf16, 1)                 \
    DEFINE(bf16_wide, bf16, 8) DEFINE(f16, f16, 1) DEFINE(f16_wide, f16, 8)

// What is moved at once.
template <unsigned BYTES> struct Move;
template <> struct Move<1> { using Bits = uint8_t; };
template <> struct Move<2> { using Bits = uint16_t; };
template <> struct Move<4> { using Bits = uint32_t; };
template <> struct Move<8> { using Bits = uint2; };
template <> struct Move<16> { using Bits = uint4; };
template <> struct Move<32> { struct alignas(16) Bits { uint4 first, second; }; };

// Neighboring values, as they lie in memory.
template <class T, unsigned N> union Vector {
    typename Move<sizeof(T) * N>::Bits bits;
    T values[N];
};

template <class T, unsigned N> DEVICE void load(Vector<T, N>& to, const T* from) {
    to.bits = *reinterpret_cast<const typename Move<sizeof(T) * N>::Bits*>(from);
}
template <class T, unsigned N> DEVICE void store(T* to, const Vector<T, N>& from) {
    *reinterpret_cast<typename Move<sizeof(T) * N>::Bits*>(to) = from.bits;
}
template <class T, unsigned N> DEVICE void load_floats(float (&to)[N], const T* from) {
    Vector<T, N> vector;
    load(vector, from);
#pragma unroll
    for (unsigned i = 0; i < N; ++i) to[i] = to_float(vector.values[i]);
}
template <class T, unsigned N> DEVICE void store_floats(T* to, const float (&from)[N]) {
    Vector<T, N> vector;
#pragma unroll
    for (unsigned i = 0; i < N; ++i) vector.values[i] = from_float<T>(from[i]);
    store(to, vector);
}

// The larger of a number and zero; what is no number stays, where fmaxf would hide it.
DEVICE float clipped(float value) { return value < 0.0f ? 0.0f : value; }
