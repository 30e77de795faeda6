// What all kernels share: how one is declared, numbers of 16 bits, sums over a warp or a block,
// asynchronous copies and matrix instructions. Written for sm_80 and later, and for the emulation
// of emulated.hpp, in which each function here that is an instruction of a GPU has a twin.
//
//     KERNEL(threads) name(parameters) { ... }   extern "C", with the bound on its threads
//     EXPORT(name);                              lets the emulation find it
//     DYNAMIC_SHARED(memory);                    the launch's shared bytes, aligned to 1024
#pragma once

#include <stdint.h>

#ifdef S5CL_EMULATED
#include "emulated.hpp"
#define KERNEL(...) extern "C" void
#else
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define EXPORT(name) static_assert(true, "")
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

#define DEVICE __device__ __forceinline__
#define BOTH __host__ __device__ __forceinline__

constexpr unsigned WARP_SIZE = 32, WHOLE_WARP = 0xffffffffu;
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// IEEE half precision and bfloat16, as they lie in memory.
struct alignas(2) f16 { uint16_t bits; };
struct alignas(2) bf16 { uint16_t bits; };

template <class T> DEVICE T from_float(float value);
template <class T> BOTH constexpr T ceil_div(T a, T b) { return (a + b - 1) / b; }

#ifdef S5CL_EMULATED

inline float to_float(f16 value) {
    _Float16 number;
    memcpy(&number, &value, 2);
    return float(number);
}
inline float to_float(bf16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
template <> inline f16 from_float<f16>(float value) {
    const _Float16 number = _Float16(value);
    f16 result;
    memcpy(&result, &number, 2);
    return result;
}
template <> inline bf16 from_float<bf16>(float value) {
    const unsigned bits = __float_as_uint(value);
    if (value != value) return {uint16_t(bits >> 16 | 64)};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
// 2^x, to about 2 units in the last place; results below 2^-126 are 0.
inline float exp2_fast(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
// 1 / x, to about 1 unit in the last place.
inline float reciprocal_fast(float x) { return 1.0f / x; }

// Copies 16 bytes (or writes zeros where there is nothing to read) some time before the wait.
inline void copy_async_16(void* to, const void* from, bool is_there) {
    emulated::Copies& copies = emulated::lane->copies;
    if (copies.length == emulated::Copies::MOST) emulated::fail("too many copies under way");
    copies.queue[copies.length++] = {to, from, 16, is_there ? 16u : 0u, copies.groups};
}
inline void copy_async_commit() { emulated::lane->copies.groups += 1; }
// Waits for all but the last `LEFT` groups of this thread's copies.
template <int LEFT> inline void copy_async_wait() {
    emulated::Copies& copies = emulated::lane->copies;
    unsigned kept = 0;
    for (unsigned i = 0; i < copies.length; ++i) {
        const auto copy = copies.queue[i];
        if (copy.group + LEFT < copies.groups) {
            memcpy(copy.to, copy.from, copy.read);
            memset(static_cast<char*>(copy.to) + copy.read, 0, copy.bytes - copy.read);
        } else {
            copies.queue[kept++] = copy;
        }
    }
    copies.length = kept;
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lane i gives the address of row i % 8
// of matrix i / 8 and gets, of each matrix, the numbers 2 (lane % 4) and the next of row lane / 4.
inline void load_matrices(uint32_t (&to)[4], const void* row) {
    const void* const* rows = emulated::exchange(row);
    const unsigned lane = emulated::lane->number;
    for (int m = 0; m < 4; ++m) {
        memcpy(&to[m], static_cast<const char*>(rows[8 * m + lane / 4]) + 4 * (lane % 4), 4);
    }
}
// The same, each matrix transposed.
inline void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
    const void* const* rows = emulated::exchange(row);
    const unsigned lane = emulated::lane->number;
    for (int m = 0; m < 4; ++m) {
        uint16_t pair[2];
        for (int i = 0; i < 2; ++i) {
            memcpy(&pair[i], static_cast<const char*>(rows[8 * m + 2 * (lane % 4) + i]) + 2 * (lane / 4), 2);
        }
        memcpy(&to[m], pair, 4);
    }
}

// What a lane gives to a matrix instruction, and where it gets the sums.
struct MatrixPart {
    float* sums;
    const uint32_t* a;
    const uint32_t* b;
};

// The product of 16 x 16 and 16 x 8 numbers, each in its place among the lanes.
template <class T> inline void emulated_product(MatrixPart* const* of_lanes) {
    alignas(64) float left[16][16], right[16][8], sums[16][8];
    for (unsigned lane = 0; lane < WARP_SIZE; ++lane) {
        const MatrixPart& of = *of_lanes[lane];
        const unsigned row = lane / 4, col = 2 * (lane % 4);
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; ++i) {
            float* const to = &left[row + i % 2 * 8][col + i / 2 * 8];
            to[0] = to_float(T{uint16_t(of.a[i])});
            to[1] = to_float(T{uint16_t(of.a[i] >> 16)});
        }
#pragma GCC unroll 2
        for (unsigned i = 0; i < 2; ++i) {
            right[col + 8 * i][row] = to_float(T{uint16_t(of.b[i])});
            right[col + 8 * i + 1][row] = to_float(T{uint16_t(of.b[i] >> 16)});
            memcpy(&sums[row + 8 * i][col], of.sums + 2 * i, 8);
        }
    }
    for (unsigned k = 0; k < 16; ++k) {
        for (unsigned row = 0; row < 16; ++row) {
            for (unsigned col = 0; col < 8; ++col) sums[row][col] += left[row][k] * right[k][col];
        }
    }
    for (unsigned lane = 0; lane < WARP_SIZE; ++lane) {
        const unsigned row = lane / 4, col = 2 * (lane % 4);
        memcpy(of_lanes[lane]->sums, &sums[row][col], 8);
        memcpy(of_lanes[lane]->sums + 2, &sums[row + 8][col], 8);
    }
}
template <class T>
inline void emulated_mma(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    MatrixPart own = {sums, a, b};
    emulated::together(own, emulated_product<T>);
}
inline void multiply_add_f16(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated_mma<f16>(sums, a, b);
}
inline void multiply_add_bf16(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated_mma<bf16>(sums, a, b);
}

#else

DEVICE float to_float(f16 value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}
DEVICE float to_float(bf16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
template <> DEVICE f16 from_float<f16>(float value) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
template <> DEVICE bf16 from_float<bf16>(float value) {
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
DEVICE float exp2_fast(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
DEVICE float reciprocal_fast(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

DEVICE unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
DEVICE void copy_async_16(void* to, const void* from, bool is_there) {
    const unsigned read = is_there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(to)), "l"(from), "r"(read) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
}

DEVICE void load_matrices(uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)) : "memory");
}
DEVICE void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row)) : "memory");
}

DEVICE void multiply_add_f16(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void multiply_add_bf16(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

DEVICE float to_float(float value) { return value; }
template <> DEVICE float from_float<float>(float value) { return value; }

// Two numbers as the matrix instructions take them, the first in the lower half.
template <class T> DEVICE uint32_t pack(float first, float second) {
    return uint32_t(from_float<T>(first).bits) | uint32_t(from_float<T>(second).bits) << 16;
}

// The sum over the warp, the same bits in every lane.
template <class T> DEVICE T warp_sum(T value) {
#pragma unroll
    for (unsigned bits = WARP_SIZE / 2; bits > 0; bits /= 2) {
        value += __shfl_xor_sync(WHOLE_WARP, value, bits);
    }
    return value;
}

template <class T> DEVICE T warp_max(T value) {
#pragma unroll
    for (unsigned bits = WARP_SIZE / 2; bits > 0; bits /= 2) {
        const T other = __shfl_xor_sync(WHOLE_WARP, value, bits);
        value = other > value ? other : value;
    }
    return value;
}

// Whether a block is the last of a one-dimensional grid to come here: it then sees what thread 0 of
// every block wrote before. `ticket` starts at 0, and the last block resets it; `answer` is shared.
DEVICE bool is_last_block(uint32_t* ticket, bool& answer) {
    if (threadIdx.x == 0) {
        __threadfence();
        answer = atomicAdd(ticket, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (answer) __threadfence();
    return answer;
}

// The sum over a one-dimensional block of whole warps, the same bits in every thread; `scratch` is
// shared memory of one T a warp, free again when this returns.
template <class T> DEVICE T block_sum(T value, T* scratch) {
    const unsigned n_warps = blockDim.x / WARP_SIZE;
    value = warp_sum(value);
    if (threadIdx.x % WARP_SIZE == 0) scratch[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    T sum = T(0);
    for (unsigned warp = 0; warp < n_warps; ++warp) sum += scratch[warp];
    __syncthreads();
    return sum;
}
