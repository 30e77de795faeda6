// What Hopper has beyond sm_80, and its twin in the emulation: barriers in shared memory that copies
// report to, bulk copies, and matrix products of a warpgroup, four warps, on operands in shared
// memory.
//
// A matrix operand is a tile of rows of 64 numbers of 16 bits, 128 bytes, in which the 16 bytes
// `unit` of row r lie at 16 (unit xor r % 8); it begins at a multiple of 1024 bytes.
#pragma once

#include "device.cuh"

constexpr unsigned WARPGROUP = 128;

// Counts arrivals and bytes of one phase after another.
struct alignas(8) Barrier { uint64_t state; };

// The sums of a warpgroup: [n][0..2] are columns 8 n + 2 (lane % 4) and the next of row
// 16 (warp % 4) + lane / 4, [n][2..4] of the row 8 below.
template <unsigned N> using Sums = float[N / 8][4];

#ifdef S5CL_EMULATED

// The state as the emulation keeps it.
struct BarrierState { int32_t bytes; uint16_t arrivals; uint8_t expected, phase; };

inline void advance_if_complete(BarrierState& state) {
    if (state.arrivals == 0 && state.bytes == 0) {
        state.phase ^= 1;
        state.arrivals = state.expected;
    }
}
inline BarrierState& state_of(Barrier& barrier) { return reinterpret_cast<BarrierState&>(barrier); }

inline void init(Barrier& barrier, unsigned n_arrivals) {
    state_of(barrier) = {0, uint16_t(n_arrivals), uint8_t(n_arrivals), 0};
}
inline void publish_barriers() {}
inline void arrive(Barrier& barrier) {
    BarrierState& state = state_of(barrier);
    if (state.arrivals == 0) emulated::fail("more arrivals than a barrier expects");
    state.arrivals -= 1;
    advance_if_complete(state);
}
inline void expect_bytes(Barrier& barrier, unsigned bytes) {
    state_of(barrier).bytes += bytes;
    arrive(barrier);
}

// Copies under way of this kernel: they happen when somebody waits in vain.
struct BulkCopy { void* to; const void* from; unsigned bytes; Barrier* barrier; };
inline BulkCopy bulk_copies[64];
inline unsigned n_bulk_copies = 0;

inline void copy_bulk(void* to, const void* from, unsigned bytes, Barrier& barrier) {
    if (n_bulk_copies == 64) emulated::fail("too many bulk copies under way");
    bulk_copies[n_bulk_copies++] = {to, from, bytes, &barrier};
}
inline void wait(Barrier& barrier, unsigned phase) {
    while (state_of(barrier).phase % 2 == phase % 2) {
        emulated::poll();
        for (unsigned i = 0; i < n_bulk_copies; ++i) {
            const BulkCopy& copy = bulk_copies[i];
            memcpy(copy.to, copy.from, copy.bytes);
            state_of(*copy.barrier).bytes -= copy.bytes;
            advance_if_complete(state_of(*copy.barrier));
        }
        n_bulk_copies = 0;
    }
}

// A product that was asked for: it happens when its thread waits for it.
struct PendingProduct {
    float (*sums)[4];
    unsigned n, k, chunk_bytes;
    bool is_cleared, has_columns_in_rows;
    // The left operand in shared memory, or the numbers of the thread's rows.
    const unsigned char* a;
    const unsigned char* b;
    float of_rows[2][16];
};
struct PendingProducts { PendingProduct queue[64]; unsigned length = 0; };
inline PendingProducts pending_products[1024];

inline float number_at(const unsigned char* tile, unsigned row, unsigned d) {
    f16 value;
    memcpy(&value, tile + row * 128 + ((d / 8 ^ row % 8) * 16) + d % 8 * 2, 2);
    return to_float(value);
}

inline void products_fence() {}
inline void products_commit() {}

inline void ask(const PendingProduct& product) {
    PendingProducts& products = pending_products[threadIdx.x];
    if (products.length == 64) emulated::fail("too many products that nobody waits for");
    products.queue[products.length++] = product;
}

template <int LEFT> inline void products_wait() {
    static_assert(LEFT == 0, "the emulation waits for all products");
    PendingProducts& products = pending_products[threadIdx.x];
    const unsigned lane = threadIdx.x % 32, first = threadIdx.x / 32 % 4 * 16 + lane / 4;
    for (unsigned p = 0; p < products.length; ++p) {
        PendingProduct& product = products.queue[p];
        const unsigned k = 16 * product.k;
        for (unsigned i = 0; product.a && i < 2; ++i) {
            for (unsigned d = 0; d < 16; ++d) {
                product.of_rows[i][d] = number_at(product.a, first + 8 * i, k + d);
            }
        }
        for (unsigned n = 0; n < product.n / 8; ++n) {
            for (unsigned e = 0; e < 2; ++e) {
                const unsigned col = 8 * n + 2 * (lane % 4) + e;
                const unsigned char* const chunk = product.b + col / 64 * product.chunk_bytes;
                float of_col[16];
                for (unsigned d = 0; d < 16; ++d) {
                    of_col[d] = product.has_columns_in_rows ? number_at(chunk, k + d, col % 64)
                                                            : number_at(product.b, col, k + d);
                }
                for (unsigned i = 0; i < 2; ++i) {
                    float& sum = product.sums[n][2 * i + e];
                    if (product.is_cleared) sum = 0.0f;
                    for (unsigned d = 0; d < 16; ++d) sum += product.of_rows[i][d] * of_col[d];
                }
            }
        }
    }
    products.length = 0;
    emulated::warp_barrier();
}

// sums (= or +=) rows of `a` times rows of `b`, numbers 16 k to 16 k + 15 of both.
template <unsigned N>
inline void multiply_rows(Sums<N>& sums, const void* a, const void* b, unsigned k, bool is_added) {
    ask({sums, N, k, 0, !is_added, false, static_cast<const unsigned char*>(a),
         static_cast<const unsigned char*>(b), {}});
}
// sums += weights, in registers, times rows 16 k to 16 k + 15 of `b`, whose chunks of 64 numbers are
// `chunk_bytes` apart.
template <unsigned N>
inline void multiply_weights(Sums<N>& sums, const uint32_t (&weights)[4], const void* b,
                             unsigned chunk_bytes, unsigned k) {
    struct Four { uint32_t values[4]; } own;
    memcpy(&own, weights, sizeof(own));
    const Four* const all = emulated::exchange(own) + emulated::lane->number / 4 * 4;
    PendingProduct product = {sums, N, k, chunk_bytes, false, true, nullptr,
                              static_cast<const unsigned char*>(b), {}};
    for (unsigned i = 0; i < 2; ++i) {
        for (unsigned d = 0; d < 16; ++d) {
            const uint32_t pair = all[d % 8 / 2].values[i + d / 8 * 2];
            product.of_rows[i][d] = to_float(f16{uint16_t(pair >> 16 * (d % 2))});
        }
    }
    ask(product);
}
template <unsigned N> inline void hold(Sums<N>&) {}
template <unsigned N> inline void hold(uint32_t (&)[N][4]) {}
inline void barrier_of(unsigned id, unsigned n_threads) { emulated::named_barrier(id, n_threads); }
template <unsigned N> inline void take_registers() {}
template <unsigned N> inline void give_registers() {}

#else

DEVICE void init(Barrier& barrier, unsigned n_arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
                 :: "r"(shared_address(&barrier)), "r"(n_arrivals) : "memory");
}
// Shows initialized barriers to the engine that copies.
DEVICE void publish_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
DEVICE void arrive(Barrier& barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(&barrier)) : "memory");
}
// Arrives, and lets the phase last until so many bytes were copied.
DEVICE void expect_bytes(Barrier& barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 :: "r"(shared_address(&barrier)), "r"(bytes) : "memory");
}
// Waits until the phase of this parity has ended.
DEVICE void wait(Barrier& barrier, unsigned phase) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra over;\n"
                 "bra again;\n"
                 "over:\n"
                 "}"
                 :: "r"(shared_address(&barrier)), "r"(phase % 2) : "memory");
}
DEVICE void copy_bulk(void* to, const void* from, unsigned bytes, Barrier& barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 :: "r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(&barrier))
                 : "memory");
}

DEVICE void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> DEVICE void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
}

// Where a tile begins and how its rows lie: 128-byte swizzle, 1024 bytes from 8 rows to the next 8,
// and `leading_bytes` from one chunk of 64 numbers to the next where numbers are the columns.
DEVICE uint64_t describe(const void* tile, unsigned leading_bytes) {
    const uint64_t address = shared_address(tile) & 0x3ffff;
    return address >> 4 | uint64_t(leading_bytes >> 4) << 16 | uint64_t(1024 >> 4) << 32
        | uint64_t(1) << 62;
}

#define SUMS_4(s, n) "+f"(s[n][0]), "+f"(s[n][1]), "+f"(s[n][2]), "+f"(s[n][3])
#define SUMS_32(s, n)                                                                           \
    SUMS_4(s, n), SUMS_4(s, n + 1), SUMS_4(s, n + 2), SUMS_4(s, n + 3), SUMS_4(s, n + 4),       \
        SUMS_4(s, n + 5), SUMS_4(s, n + 6), SUMS_4(s, n + 7)
#define NAMES_32                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                \
    NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

template <unsigned N>
DEVICE void multiply_rows(Sums<N>& sums, const void* a, const void* b, unsigned k, bool is_added) {
    static_assert(N == 128, "the only width that is used");
    // 16 numbers are 32 bytes further, within the swizzled 128.
    const uint64_t of_a = describe(a, 16) + 2 * k, of_b = describe(b, 16) + 2 * k;
    asm volatile("{\n"
                 ".reg .pred added;\n"
                 "setp.ne.b32 added, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" NAMES_64 "}, %64, %65, "
                 "added, 1, 1, 0, 0;\n"
                 "}"
                 : SUMS_32(sums, 0), SUMS_32(sums, 8)
                 : "l"(of_a), "l"(of_b), "r"(unsigned(is_added)));
}

template <unsigned N>
DEVICE void multiply_weights(Sums<N>& sums, const uint32_t (&weights)[4], const void* b,
                             unsigned chunk_bytes, unsigned k) {
    // 16 rows are 2048 bytes further.
    const uint64_t of_b = describe(b, chunk_bytes) + (2048 >> 4) * k;
    if constexpr (N == 64) {
        asm volatile("{\n"
                     ".reg .pred added;\n"
                     "setp.eq.b32 added, 0, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES_32 "}, "
                     "{%32, %33, %34, %35}, %36, added, 1, 1, 1;\n"
                     "}"
                     : SUMS_32(sums, 0)
                     : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(of_b));
    } else {
        static_assert(N == 128, "the only other width that is used");
        asm volatile("{\n"
                     ".reg .pred added;\n"
                     "setp.eq.b32 added, 0, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" NAMES_64 "}, "
                     "{%64, %65, %66, %67}, %68, added, 1, 1, 1;\n"
                     "}"
                     : SUMS_32(sums, 0), SUMS_32(sums, 8)
                     : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(of_b));
    }
}

// Keeps registers where products that are under way read or write them: nothing that the program
// does with their values moves to the other side.
template <unsigned N> DEVICE void hold(Sums<N>& sums) {
#pragma unroll
    for (unsigned n = 0; n < N / 8; ++n) asm volatile("" : SUMS_4(sums, n) :: "memory");
}
template <unsigned N> DEVICE void hold(uint32_t (&operands)[N][4]) {
#pragma unroll
    for (unsigned n = 0; n < N; ++n) {
        asm volatile("" : "+r"(operands[n][0]), "+r"(operands[n][1]), "+r"(operands[n][2]),
                     "+r"(operands[n][3]) :: "memory");
    }
}

DEVICE void barrier_of(unsigned id, unsigned n_threads) {
    asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(n_threads) : "memory");
}
template <unsigned N> DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(N));
}
template <unsigned N> DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(N));
}

#endif
