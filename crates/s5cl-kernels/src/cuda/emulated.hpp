// CUDA's language for a C++ compiler: the threads of a block become fibers that hand over to each
// other where a kernel synchronizes. A kernel that runs here computes what it would on a GPU, but
// for rounding of the approximate instructions. What is checked on the way: reads and writes beyond
// memory (a guard page behind every allocation, and behind a launch's shared memory), memory that
// nothing wrote (it holds NaN), barriers that not all threads reach, asynchronous copies that nobody
// waited for, and, by running the threads in the opposite order, results that depend on it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define DYNAMIC_SHARED(name) unsigned char* const name = emulated::shared_memory
#define EXPORT(name)                                                                       \
    static const bool exported_##name =                                                    \
        emulated::enter(#name, [](void** arguments) { emulated::apply(name, arguments); })

#define threadIdx (emulated::lane->thread)
#define blockIdx (emulated::block_index)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)

struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace emulated {

constexpr unsigned WARP = 32;

enum class State { ready, polling, in_warp, in_block, at_named, done };

// The copies of a thread that are under way: they happen when the thread waits for them.
struct Copies {
    static constexpr unsigned MOST = 256;
    struct { void* to; const void* from; unsigned bytes, read, group; } queue[MOST];
    unsigned length = 0, groups = 0;
};

struct Lane;

struct Warp {
    Lane* first;
    unsigned size, alive, arrived;
    void* parts[WARP];
    alignas(16) unsigned char slots[2][WARP][64];
};

// A thread.
struct Lane {
    void* stack_pointer;
    uint3 thread;
    unsigned number;
    Warp* warp;
    State state;
    unsigned parity, named;
    Copies copies;
};

// What is in the library behind this; each kernel's file is a library of its own, so that equal
// names in two of them are two things.
#pragma GCC visibility push(default)
extern Lane* lane;
extern uint3 block_index, block_size, grid_size;
extern unsigned char* shared_memory;

// Makes a kernel known by its name.
bool enter(const char* name, void (*start)(void**));
void warp_barrier();
void block_barrier();
// A barrier of `count` threads.
void named_barrier(unsigned id, unsigned count);
// Lets the other threads go on, for loops that wait for something.
void poll();
[[noreturn]] void fail(const char* what);
#pragma GCC visibility pop

template <class... Parameters, size_t... I>
void apply_each(void (*kernel)(Parameters...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[I])...);
}

template <class... Parameters>
void apply(void (*kernel)(Parameters...), void** arguments) {
    apply_each(kernel, arguments, std::index_sequence_for<Parameters...>());
}

// What every thread of the warp gave, by lane. Valid until the warp's next exchange but one.
template <class T>
const T* exchange(T value) {
    static_assert(sizeof(T) <= sizeof(Warp::slots[0][0]), "too large for a warp's slot");
    unsigned char* slots = lane->warp->slots[lane->parity][0];
    lane->parity ^= 1;
    memcpy(slots + lane->number * sizeof(T), &value, sizeof(T));
    warp_barrier();
    return reinterpret_cast<const T*>(slots);
}

// Calls a function once for the whole warp, as soon as every thread has come with its part: it gets
// all parts, by lane.
template <class T>
void together(T& part, void (*all)(T* const*)) {
    Warp& warp = *lane->warp;
    if (warp.alive != WARP) fail("a matrix instruction of a part of the warp");
    warp.parts[lane->number] = &part;
    if (warp.arrived + 1 == WARP) all(reinterpret_cast<T* const*>(warp.parts));
    warp_barrier();
}

inline void check_mask(unsigned mask) {
    if (mask != 0xffffffffu) fail("a warp operation of a part of the warp");
}

}  // namespace emulated

inline void __syncthreads() { emulated::block_barrier(); }
inline void __threadfence() {}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulated::check_mask(mask);
    emulated::warp_barrier();
}
template <class T> T __shfl_sync(unsigned mask, T value, unsigned from) {
    emulated::check_mask(mask);
    return emulated::exchange(value)[from % 32];
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned bits) {
    emulated::check_mask(mask);
    return emulated::exchange(value)[emulated::lane->number ^ bits];
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by) {
    emulated::check_mask(mask);
    const unsigned from = emulated::lane->number + by;
    const T* all = emulated::exchange(value);
    return from < 32 ? all[from] : value;
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by) {
    emulated::check_mask(mask);
    const T* all = emulated::exchange(value);
    return emulated::lane->number >= by ? all[emulated::lane->number - by] : value;
}
inline unsigned __ballot_sync(unsigned mask, bool value) {
    emulated::check_mask(mask);
    const bool* all = emulated::exchange(value);
    unsigned ballot = 0;
    for (unsigned i = 0; i < 32; ++i) ballot |= unsigned(all[i]) << i;
    return ballot;
}
template <class T> unsigned __match_any_sync(unsigned mask, T value) {
    emulated::check_mask(mask);
    const T* all = emulated::exchange(value);
    unsigned alike = 0;
    for (unsigned i = 0; i < 32; ++i) alike |= unsigned(all[i] == value) << i;
    return alike;
}
inline bool __any_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) != 0; }
inline bool __all_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) == ~0u; }

template <class T> T atomicAdd(T* to, T value) { T old = *to; *to += value; return old; }
template <class T> T atomicMax(T* to, T value) { T old = *to; if (value > old) *to = value; return old; }
template <class T> T atomicOr(T* to, T value) { T old = *to; *to |= value; return old; }

// Products and sums that no compiler fuses, rounded to the nearest number or towards zero.
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
// Exact in double, but for numbers more than 2^29 apart.
inline float __fadd_rz(float a, float b) {
    const double sum = double(a) + double(b);
    const float rounded = float(sum);
    return fabs(double(rounded)) > fabs(sum) ? nextafterf(rounded, 0.0f) : rounded;
}

inline unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
inline double __longlong_as_double(long long bits) { double value; memcpy(&value, &bits, 8); return value; }
// The lower word of the two, shifted right as one number.
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> (shift % 32));
}
// Four of the eight bytes of two words, as the four hexadecimal digits of a selector say.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = uint64_t(high) << 32 | low;
    unsigned result = 0;
    for (unsigned i = 0; i < 4; ++i) {
        result |= unsigned(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    }
    return result;
}
inline int __float2int_rn(float value) { return int(nearbyintf(value)); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
template <class T> T __ldg(const T* from) { return *from; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
